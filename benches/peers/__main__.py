"""See benches/peers/run."""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import install
import peers
from behavior import Probes
from launches import TOO_LONG, Launches, measure, peak_memory

SIZES = [10, 1_000, 10_000]
DOCUMENT = Path(__file__).parents[2] / "docs/performance.md"
BEGIN, END = "<!-- benches/peers/run --write: begin -->\n", "<!-- benches/peers/run --write: end -->\n"


class Row:
    """A peer and what was found out about it."""

    def __init__(self, peer):
        self.peer, self.missing, self.version = peer, None, "-"
        self.launches = {}

    def prepare(self, folder, rounds):
        try:
            self.version = self.peer.version()
            for size in SIZES:
                self.prepare_size(folder, size, rounds)
        except (install.Missing, OSError) as error:
            self.missing = str(error)

    def prepare_size(self, folder, size, rounds):
        before = list(self.launches.values())[-1:]
        if before and (before[0].failure or before[0].first > TOO_LONG):
            return
        store = peers.Store(Path(tempfile.mkdtemp(dir=folder)), size)
        self.peer.prepare(store)
        self.launches[size] = Launches([*self.peer.prefix(store), "/bin/true"], store, rounds)

    def look(self):
        """All that is not about time; with the smallest store."""
        first = self.launches[SIZES[0]]
        self.peak = peak_memory(first)
        probes = Probes(self.peer, first.store)
        self.beside = probes.beside_a_command()
        self.statuses = probes.statuses()
        self.terminated = probes.terminated()


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md, too")
    parser.add_argument("--rounds", type=int, default=300, help="at most so many launches of each (300)")
    parser.add_argument("--only", default="", help="peers whose names contain one of these words")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write needs all peers")
    words = [word for word in options.only.split(",") if word]
    rows = [Row(peer) for peer in peers.ALL if not words or any(word in peer.name for word in ["env A=1", *words])]
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mentiko-peers.", dir="/dev/shm"))
    try:
        install.debian("time")
        text = tables(rows, folder, options.rounds)
    finally:
        peers.Gopass.stop()
        shutil.rmtree(folder)
    print(text, end="")
    if options.write:
        before, rest = DOCUMENT.read_text().split(BEGIN)
        DOCUMENT.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])
    install.note(f"done in {time.monotonic() - begun:.0f} s")


def tables(rows, folder, rounds):
    for row in rows:
        install.note(f"sets up {row.peer.name}")
        row.prepare(folder, rounds)
    install.note("measures launches")
    measure([one for row in rows for one in row.launches.values() if one.failure is None], rounds)
    install.note("looks at memory, statuses and signals")
    for row in rows:
        if row.missing is None and row.launches[SIZES[0]].failure is None:
            row.look()
    parts = [machine(rounds), launch_table(rows), memory_table(rows), end_table(rows), setup_table(rows)]
    return "\n".join(parts)


def machine(rounds):
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    who = "root" if os.getuid() == 0 else "an ordinary user"
    priority = " with real-time priority" if os.sched_getscheduler(0) == os.SCHED_FIFO else ""
    return (
        f"{os.cpu_count()} cores ({cpu}), Linux {platform.release()}, run as {who}{priority}.\n"
        f"Up to {rounds} launches each, fewer of slow ones; medians.\n"
    )


def table(heads, lines):
    head, *lines = ["| " + " | ".join(map(str, line)) + " |\n" for line in [heads, *lines]]
    return head + "|---" * len(heads) + "|\n" + "".join(lines)


def launch_table(rows):
    heads = ["", "is given"]
    for size in SIZES:
        heads += [f"{size:,} secrets", "ratio to `env`"]
    # The same command at each size.
    floor = statistics.median(time for one in rows[0].launches.values() for time in one.times)
    lines = []
    for row in rows:
        line = [row.peer.name, row.peer.given]
        for size in SIZES:
            line += time_and_ratio(row.launches.get(size), row.missing, floor)
        lines.append(line)
    return table(heads, lines)


def time_and_ratio(one, missing, floor):
    if one is None:
        return ["not measured" if missing else "not measured: too slow", ""]
    if one.failure:
        return [one.failure, ""]
    ratio = one.median() / floor
    return [f"{one.median() * 1e3:,.2f} ms", f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"]


def memory_table(rows):
    heads = ["", "peak resident memory of its largest process", "stays beside the command", "values in its memory",
             "in its environ, cmdline"]  # fmt: skip
    return table(heads, [[row.peer.name, *memory_cells(row)] for row in rows])


def memory_cells(row):
    if not hasattr(row, "beside"):
        return ["not measured"] + [""] * 3
    peak = f"{row.peak:,.0f} KiB"
    if row.beside.count == 0:
        return [peak, "nothing: it becomes the command", "-", "-"]
    stays = f"{row.beside.resident:,} KiB"
    if row.beside.copies is None:
        return [peak, stays, "not readable", "not readable"]
    values = f"{row.beside.values} of {peers.GRANTED}, {row.beside.copies} copies" if row.beside.copies else "none"
    return [peak, stays, values, row.beside.told or "none"]


def end_table(rows):
    heads = ["", "the command exits with 0", "with 7", "dies of SIGTERM", "is not found", "SIGTERM to the wrapper"]
    lines = []
    for row in rows:
        found = [*row.statuses, row.terminated] if hasattr(row, "terminated") else ["not measured"] + [""] * 4
        lines.append([row.peer.name, *found])
    return table(heads, lines)


def setup_table(rows):
    heads = ["", "version", "how it is set up", "launches timed"]
    lines = []
    for row in rows:
        timed = " / ".join(str(len(row.launches[size].times)) if size in row.launches else "0" for size in SIZES)
        lines.append([row.peer.name, row.version, row.missing or row.peer.setup, timed])
    return table(heads, lines)


if __name__ == "__main__":
    sys.exit(main())
