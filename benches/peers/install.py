"""Installs the peers that are missing: Debian's packages as root, all others below one folder of the user's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("MENTIKO_PEERS") or Path.home() / ".cache/mentiko-peers")

# Only what the compared provider needs, where the crate lets one choose.
CRATES = {
    "secretspec": ("0.21.1", ["--no-default-features", "--features", "cli,keyring,age"]),
    # The newest whose Cargo.lock can be met: those of 1.44 to 1.46 name a webpki-roots that crates.io does not offer.
    "fnox": ("1.43.0", []),
}
DOTENVX = "@dotenvx/dotenvx@2.38.2"
PYTHON_DOTENV = "python-dotenv[cli]==1.2.4"

# Command: package.
DEBIAN = {
    "age": "age",
    "chpst": "runit",
    "envdir": "daemontools",
    "gopass": "gopass",
    "gpg": "gnupg",
    "systemd-creds": "systemd",
    "time": "time",
}
# To build the crates.
LIBRARIES = ["libudev-dev", "pkg-config"]


class Missing(Exception):
    """A peer can't be had; the text says why."""


def debian(command):
    """The path of a command that a Debian package has."""
    path = shutil.which(command, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        apt(DEBIAN[command])
        path = shutil.which(command, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"package {DEBIAN[command]} has no {command}")
    return path


def crate(name):
    """The path of a program of crates.io, built as it is released."""
    version, features = CRATES[name]
    program = CACHE / "cargo/bin" / name
    if not program.exists():
        for library in LIBRARIES:
            if subprocess.run(["dpkg", "-s", library], capture_output=True).returncode != 0:
                apt(library)
        command = ["nice", "-n", "15", "cargo", "install", "--locked", "--root", CACHE / "cargo"]
        run_once(name, [*command, "--target-dir", CACHE / "build", *features, f"{name}@{version}"])
        shutil.rmtree(CACHE / "build", ignore_errors=True)
    return str(program)


def dotenvx():
    """The path of dotenvx, of npm."""
    program = CACHE / "npm/node_modules/.bin/dotenvx"
    if not program.exists():
        run_once("dotenvx", ["npm", "install", "--no-fund", "--prefix", CACHE / "npm", DOTENVX])
    return str(program)


def python_dotenv():
    """The path of python-dotenv's command, of PyPI."""
    program = CACHE / "pip/bin/dotenv"
    if not program.exists():
        run_once("python-dotenv", [sys.executable, "-m", "venv", CACHE / "pip"])
        run_once("python-dotenv", [CACHE / "pip/bin/pip", "install", "--quiet", PYTHON_DOTENV])
    return str(program)


def apt(package):
    if os.getuid() != 0:
        raise Missing(f"needs `apt-get install {package}`")
    note(f"installing Debian's {package}")
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", package]
    quiet = dict(stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if subprocess.run(install, stderr=subprocess.DEVNULL, **quiet).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], **quiet)
        if subprocess.run(install, **quiet).returncode != 0:
            raise Missing(f"`apt-get install {package}` fails")


def run_once(name, command):
    """A failure is kept, for a build that takes half an hour should not be tried each time."""
    kept = CACHE / f"{name}.failed"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        note(f"installing {name}; what it prints: {CACHE / name}.log")
        with open(CACHE / f"{name}.log", "w") as log:
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode == 0:
                return
        lines = (CACHE / f"{name}.log").read_text().strip().splitlines()
        kept.write_text(next((line for line in lines if "error" in line), lines[-1] if lines else "no reason told"))
    note(f"{name} could not be installed; to try again, remove {kept}")
    raise Missing(f"could not be installed: {kept.read_text().strip()}")


def note(text):
    print(f"benches/peers: {text}", file=sys.stderr)
