"""How long launches take, from outside: whole processes, in turn within one run."""

import os
import random
import signal
import statistics
import subprocess
import time

import peers

# What launches of one command may take in all, in seconds: slow ones have fewer rounds.
BUDGET = 5.0
# A single launch that takes longer is not tried with ten times the secrets.
TOO_LONG = 5.0
WARM_UP = 3

# Python ignores these; an ordinary caller doesn't.
IGNORED = [signal.SIGPIPE, signal.SIGXFSZ]
QUIET = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
]


class Launches:
    """The launches of one command with one store."""

    def __init__(self, command, store, rounds):
        self.command, self.store = command, store
        self.times, self.rounds, self.failure = [], 0, None
        self.check()
        if self.failure is None:
            self.warm_up(rounds)

    def check(self):
        """Once with its output, for the words of a failure."""
        start = time.perf_counter()
        try:
            done = subprocess.run(
                self.command, cwd=self.store.folder, env=self.store.environment, capture_output=True, timeout=60
            )
        except subprocess.TimeoutExpired:
            self.failure = "fails: runs for more than 60 s"
            return
        except OSError as error:
            self.failure = f"fails: {error.strerror}"
            return
        self.first = time.perf_counter() - start
        if done.returncode != 0:
            self.failure = f"fails with {done.returncode}: {peers.reason(done)}"

    def warm_up(self, rounds):
        """What fills the caches, and tells how many rounds the budget allows."""
        if self.first > TOO_LONG:
            self.times, self.rounds = [self.first], 0
            return
        slowest = max(self.time() for _ in range(WARM_UP))
        self.rounds = min(rounds, max(3, int(BUDGET / slowest)))

    def time(self):
        os.chdir(self.store.folder)
        start = time.perf_counter()
        pid = os.posix_spawn(
            self.command[0], self.command, self.store.environment, file_actions=QUIET, setsigdef=IGNORED
        )
        _, status = os.waitpid(pid, 0)
        taken = time.perf_counter() - start
        if status != 0:
            self.failure = f"fails in some rounds: {os.waitstatus_to_exitcode(status)}"
        return taken

    def median(self):
        return statistics.median(self.times)


def measure(all_launches, rounds):
    """All in turn within one round, in another order each time: what disturbs the machine disturbs all alike."""
    shuffled = random.Random(1)
    for number in range(rounds):
        # Those with fewer rounds are spread over the whole run.
        turn = [one for one in all_launches if (number + 1) * one.rounds // rounds > number * one.rounds // rounds]
        shuffled.shuffle(turn)
        for one in turn:
            one.times.append(one.time())


def peak_memory(launches):
    """Of the largest process of a launch, in KiB. By GNU time, for a child counts its parent's memory before exec."""
    report = launches.store.folder / "time"
    peaks = []
    for _ in range(5):
        command = ["/usr/bin/time", "-f", "%M", "-o", report, *launches.command]
        subprocess.run(
            command,
            cwd=launches.store.folder, env=launches.store.environment, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        peaks.append(int(report.read_text()))
    return statistics.median(peaks)
