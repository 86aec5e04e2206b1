"""The agent of the tests: writes down what it sees and which of the named files it can read, then does as it is told."""
import json
import os
import socket
import sys
import time


def reached(path):
    try:
        with open(path, "rb") as file:
            return "read" if file.read(1) else "empty"
    except OSError as error:
        return error.strerror


def status(name):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(line.split()[1] for line in lines if line.startswith(name + ":"))


def notify(text):
    address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(text, address)


task, *paths = sys.argv[1:]
seen = {
    "environment": dict(os.environ),
    "reached": {path: reached(path) for path in paths},
    "beside": os.listdir(".."),
    "pid": os.getpid(),
    "status": {name: status(name) for name in ["Uid", "NoNewPrivs", "Seccomp", "CapEff"]},
}
with open("seen.new", "w", encoding="ascii") as file:
    json.dump(seen, file)
os.rename("seen.new", "seen")

if task == "fail":
    sys.exit(1)
if task == "get-ready":
    while not os.path.exists("go"):
        time.sleep(0.01)
    notify(b"READY=1\nSTATUS=reading")
time.sleep(600)
