"""What a wrapper does around its command: what of it stays, what its memory holds, statuses, signals."""

import os
import signal
import subprocess
import time
from pathlib import Path

SLEEP = "/bin/sleep"
PROBES = {
    "succeeds": "#!/bin/sh\nexit 0\n",
    "fails": "#!/bin/sh\nexit 7\n",
    "killed": "#!/bin/sh\nkill -TERM $$\n",
    # Tells that it runs, and that it was told to end.
    "told": '#!/bin/sh\ntrap "touch told.got; exit 9" TERM\necho $$ >told.new\nmv told.new told.pid\n'
    "while :; do sleep 0.05; done\n",
}


class Probes:
    """Small commands to be started by one peer."""

    def __init__(self, peer, store):
        self.peer, self.prefix, self.store = peer, peer.prefix(store), store
        for name, text in PROBES.items():
            path = Path(store.write(f"probe-{name}", text))
            path.chmod(0o755)

    def start(self, *command):
        return subprocess.Popen(
            [*self.prefix, *command],
            cwd=self.store.folder, env=self.store.environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def status(self, *command):
        """What a caller sees."""
        return told(self.start(*command).wait(timeout=60))

    def statuses(self):
        probes = [str(self.store.folder / f"probe-{name}") for name in ("succeeds", "fails", "killed")]
        return [self.status(probe) for probe in probes] + [self.status("no-such-command")]

    def terminated(self):
        """What comes of a SIGTERM that is sent to the wrapper."""
        pid_file, got = self.store.folder / "told.pid", self.store.folder / "told.got"
        wrapper = self.start(str(self.store.folder / "probe-told"))
        wait_for(pid_file.exists)
        pid = int(pid_file.read_text())
        try:
            time.sleep(0.2)
            os.kill(wrapper.pid, signal.SIGTERM)
            try:
                status = "ends with " + told(wrapper.wait(timeout=3))
            except subprocess.TimeoutExpired:
                status = "goes on"
            time.sleep(0.5)
            reached = "the command gets it" if got.exists() else "the command does not get it"
            orphan = ", **goes on as an orphan**" if alive(pid) and wrapper.poll() is not None else ""
            if pid == wrapper.pid:
                return f"it is the command: {status}"
            return f"{reached}{orphan}; wrapper {status}"
        finally:
            end(wrapper)

    def beside_a_command(self):
        """While a command runs: which processes stay beside it, their memory, and what of the values is in it."""
        wrapper = self.start(SLEEP, "60")
        try:
            command = wait_for(lambda: next((pid for pid in tree(wrapper.pid) if runs(pid, SLEEP)), None))
            # Whoever stays has time to clean up.
            time.sleep(0.5)
            values = [self.store.values[name].encode() for name in self.store.granted]
            # That they are found there shows, too, that what is found elsewhere can be believed.
            if self.peer.secrets and found(memory(command), values)[1] != len(values):
                raise RuntimeError(f"{self.peer.name}: the command lacks some of its secrets")
            return Beside([pid for pid in tree(wrapper.pid) if pid != command], values)
        finally:
            end(wrapper)


class Beside:
    """The processes that stay beside the command."""

    def __init__(self, pids, values):
        self.count = len(pids)
        self.resident = sum(resident(pid) for pid in pids)
        self.copies, self.values = search(memory, pids, values)
        self.told = search(environ, pids, values)[1] + search(arguments, pids, values)[1]


def told(code):
    return str(code) if code >= 0 else signal.Signals(-code).name


def found(text, values):
    """How many copies there are, and of how many values."""
    counts = [text.count(value) for value in values]
    return sum(counts), sum(count > 0 for count in counts)


def search(place, pids, values):
    """Root may look everywhere; an ordinary user is refused what belongs to an undumpable process: None."""
    try:
        return found(b"\n".join(map(place, pids)), values)
    except PermissionError:
        return None, 0


def environ(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


def arguments(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def memory(pid):
    """All that can be read of a process."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            place, mode = line.split()[:2]
            start, end = (int(part, 16) for part in place.split("-"))
            if mode[0] == "r":
                parts.append(read(mem, start, end))
    return b"\n".join(parts)


def read(mem, start, end):
    """Up to the first page that can't be read."""
    parts = []
    try:
        mem.seek(start)
        while start < end:
            parts.append(mem.read(min(end - start, 1 << 20)))
            if not parts[-1]:
                break
            start += len(parts[-1])
    except (OSError, OverflowError):
        # Of secretmem, of the kernel's own pages.
        pass
    return b"".join(parts)


def resident(pid):
    """In KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) if "VmRSS:" in status else 0


def parents():
    """Of every process that runs."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(path.parent.name)] = int(parent)
    return found


def tree(top):
    """This process and all that descend from it."""
    known, result = parents(), [top]
    for pid in result:
        result += [child for child, parent in known.items() if parent == pid]
    return result


def runs(pid, program):
    try:
        return os.path.samefile(f"/proc/{pid}/exe", program)
    except OSError:
        return False


def alive(pid):
    return pid in parents()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise TimeoutError("the command was not started within 60 s")


def end(wrapper):
    """Ends the session that it began."""
    try:
        os.killpg(wrapper.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    wrapper.wait()
