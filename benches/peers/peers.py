"""The programs that are compared: how each keeps the same secrets, and how it starts a command with them."""

import os
import re
import secrets
import shlex
import subprocess
from pathlib import Path

import install

# Secrets that the command is given by those that can choose.
GRANTED = 8
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target")).absolute() / "release"


class Store:
    """A folder on tmpfs with so many secrets, in the form of one peer."""

    def __init__(self, folder, count):
        self.folder, self.count = folder, count
        (folder / "home").mkdir(parents=True)
        self.values = {f"SERVICE_{n:06}_API_KEY": secrets.token_hex(24) for n in range(count)}
        self.granted = list(self.values)[:GRANTED]
        # That of an ordinary login with a project's own variables.
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder / "home"), "USER": "user", "LOGNAME": "user",
            "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "xterm-256color", "PWD": str(folder), "SHLVL": "1",
            "EDITOR": "vim", "DISPLAY": ":0", "XDG_RUNTIME_DIR": str(folder / "home"), "NVM_DIR": "/home/user/.nvm",
            "PYENV_ROOT": "/home/user/.pyenv", "VIRTUAL_ENV": "/home/user/project/.venv",
            "DATABASE_URL": "postgres://localhost/app", "REDIS_URL": "redis://localhost", "LOG_LEVEL": "info",
            "APP_ENV": "production", "TZ": "UTC",
        }  # fmt: skip

    def dotenv(self, names=None):
        """Lines NAME=value, as bytes."""
        return "".join(f"{name}={self.values[name]}\n" for name in names or self.values).encode()

    def run(self, *command, input=b""):
        """A step of the setting up; secrets come by standard input."""
        done = subprocess.run(command, input=input, capture_output=True, cwd=self.folder, env=self.environment)
        if done.returncode != 0:
            raise install.Missing(f"`{Path(command[0]).name} {command[1]}` fails: {reason(done)}")
        return done.stdout.decode()

    def write(self, name, content):
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(self.folder / name)

    def copies(self, suffix, sealed, folder):
        """A file for each secret: sealed apart for the granted ones, copies for the others, which nobody opens."""
        for name in self.values:
            (folder / f"{name}{suffix}").write_bytes(sealed.get(name) or next(iter(sealed.values())))


class Peer:
    """One row of the tables."""

    name = ""
    # Which secrets the command is given of a store with more.
    given = "8"
    # Whether there are any.
    secrets = True
    # How it is set up: for a reader who wants to judge whether that is fair.
    setup = ""

    def version(self):
        """Installs the program too where it is missing."""
        raise NotImplementedError

    def prepare(self, store):
        """Puts the secrets where the program looks for them."""

    def prefix(self, store):
        """What comes before the command."""
        raise NotImplementedError


class Env(Peer):
    name = "`env A=1`"
    given = "1"
    secrets = False
    setup = "the floor: no store; the value is in argv"

    def version(self):
        return "coreutils " + first_line("/usr/bin/env", "--version").split()[-1]

    def prefix(self, store):
        return ["/usr/bin/env", "A=1"]


class Mentiko(Peer):
    def __init__(self, options, setup):
        self.options, self.setup = options, setup
        self.name = f"`mentiko-exec {' '.join(options)}`"

    def version(self):
        return first_line(TARGET / "mentiko-exec", "--version").split()[-1]

    def prepare(self, store):
        store.run(TARGET / "mentiko", "init", store.folder / "instance")
        plain = store.write("plain.env", store.dotenv())
        store.run(TARGET / "mentiko", "secret", "import", "--instance", store.folder / "instance", "--yes", plain)
        os.remove(plain)
        names = ", ".join(f'"{name}"' for name in store.granted)
        store.write("instance/chains/c.json", f'{{"secrets": [{names}], "agents": {{"a": [{names}]}}}}')

    def prefix(self, store):
        fixed = ["--chain", "c", "--agent", "a", "--instance", str(store.folder / "instance")]
        return [str(TARGET / "mentiko-exec"), *fixed, *self.options, "--"]


class Fnox(Peer):
    def __init__(self, options):
        self.options = options
        self.name = f"`{' '.join(['fnox exec', *options])}`"
        self.setup = "provider age, `fnox import`, then `fnox reencrypt`; `--only` with the 8 names; no daemon"

    def version(self):
        return first_line(install.crate("fnox"), "--version").split()[-1]

    def prepare(self, store):
        (store.folder / "home/.config/fnox").mkdir(parents=True)
        recipient = age_identity(store, "home/.config/fnox/age.txt")
        store.write("fnox.toml", f'[providers.age]\ntype = "age"\nrecipients = ["{recipient}"]\n')
        store.run(install.crate("fnox"), "import", "--provider", "age", "--force", input=store.dotenv())
        store.run(install.crate("fnox"), "reencrypt", "--provider", "age", "--force")

    def prefix(self, store):
        return [install.crate("fnox"), "exec", *self.options, "--only", ",".join(store.granted), "--"]


class Secretspec(Peer):
    name = "`secretspec run`"
    setup = "provider age, a scope with the 8 names; its audit log is on, as by default"

    def version(self):
        return first_line(install.crate("secretspec"), "--version").split()[-1]

    def prepare(self, store):
        recipient = age_identity(store, "age.txt")
        store.run(install.debian("age"), "-r", recipient, "-a", "-o", "secrets.age", input=store.dotenv())
        declared = "".join(f'{name} = {{ description = "A key", required = true }}\n' for name in store.values)
        scope = ", ".join(f'"{name}"' for name in store.granted)
        store.write(
            "secretspec.toml",
            f'[project]\nname = "bench"\nrevision = "1.0"\n\n[profiles.default]\n{declared}\n'
            f"[scopes.agent]\nsecrets = [{scope}]\n",
        )

    def prefix(self, store):
        provider = f"age://{store.folder}/secrets.age?identity={store.folder}/age.txt"
        return [install.crate("secretspec"), "run", "--provider", provider, "--scope", "agent", "--"]


class Dotenvx(Peer):
    name = "`dotenvx run`"
    given = "all"
    setup = "an encrypted .env, its key in .env.keys; network features off"
    offline = ["--no-armor", "--no-native", "--no-1password", "--no-bitwarden"]

    def version(self):
        return first_line(install.dotenvx(), "--version")

    def prepare(self, store):
        sealed = list(store.values)[: max(GRANTED, 10)]
        path = store.folder / ".env"
        path.write_bytes(store.dotenv(sealed))
        store.run(install.dotenvx(), "encrypt", *self.offline)
        # Sealing 10,000 would take minutes; opening a copy costs what opening the original does.
        lines = path.read_text().splitlines()
        copied = next(line for line in lines if line.startswith(sealed[0])).split("=", 1)[1]
        more = [f"{name}={copied}" for name in list(store.values)[len(sealed) :]]
        path.write_text("\n".join([*lines, *more, ""]))

    def prefix(self, store):
        return [install.dotenvx(), "run", *self.offline, "--"]


class PythonDotenv(Peer):
    name = "`dotenv run`"
    given = "all"
    setup = "python-dotenv; a .env in plain text: no encryption"

    def version(self):
        return first_line(install.python_dotenv(), "--version").split()[-1]

    def prepare(self, store):
        store.write(".env", store.dotenv())

    def prefix(self, store):
        return [install.python_dotenv(), "-f", str(store.folder / ".env"), "run", "--"]


class Directory(Peer):
    """A folder with a file for each variable, in plain text."""

    given = "all"
    setup = "a file for each secret, in plain text: no encryption"

    def __init__(self, words):
        self.words, self.name = words, f"`{' '.join(words)}`"

    def version(self):
        return package_version(self.words[0])

    def prepare(self, store):
        (store.folder / "env").mkdir()
        for name, value in store.values.items():
            (store.folder / "env" / name).write_text(value)

    def prefix(self, store):
        return [install.debian(self.words[0]), *self.words[1:], str(store.folder / "env")]


class Shell(Peer):
    """A peer that only prints values: a script of sh exports them and becomes the command."""

    def script(self, store):
        raise NotImplementedError

    def prefix(self, store):
        return ["/bin/sh", store.write("launch.sh", self.script(store) + 'exec "$@"\n')]


class Age(Shell):
    name = "`age --decrypt` in sh"
    given = "all"
    setup = "one .env encrypted to a key file; `eval` of what is decrypted, so that no value is in argv"

    def version(self):
        return package_version("age")

    def prepare(self, store):
        recipient = age_identity(store, "age.txt")
        store.run(install.debian("age"), "-r", recipient, "-o", "env.age", input=store.dotenv())

    def script(self, store):
        age, folder = install.debian("age"), shlex.quote(str(store.folder))
        plain = f"plain=$({age} -d -i {folder}/age.txt {folder}/env.age) || exit\n"
        return plain + 'set -a\neval "$plain"\nset +a\nunset plain\n'


class OneByOne(Shell):
    """A process for each secret."""

    def reader(self, store, name):
        """The command that prints this secret."""
        raise NotImplementedError

    def script(self, store):
        lines = [f"{name}=$({shlex.join(self.reader(store, name))}) || exit\nexport {name}\n" for name in store.granted]
        return "".join(lines)


class Gopass(OneByOne):
    name = "`gopass show` in sh"
    setup = "Debian's gopass (aviau/gopass: pass in Go); Curve25519 without a passphrase, gpg-agent warm; 8 processes"
    home = None

    def version(self):
        return package_version("gopass")

    def prepare(self, store):
        gpg = [install.debian("gpg"), "--batch", "--quiet"]
        if Gopass.home is None:
            Gopass.home = store.folder.parent / "gnupg"
            Gopass.home.mkdir(mode=0o700)
            store.environment["GNUPGHOME"] = str(Gopass.home)
            store.run(*gpg, "--passphrase", "", "--quick-generate-key", "bench", "future-default", "default", "never")
        store.environment |= {"GNUPGHOME": str(Gopass.home), "PASSWORD_STORE_DIR": str(store.folder / "store")}
        (store.folder / "store").mkdir()
        store.write("store/.gpg-id", "bench\n")
        sealed = {}
        for name in store.granted:
            store.run(*gpg, "-r", "bench", "-e", "-o", f"store/{name}.gpg", input=store.values[name].encode())
            sealed[name] = (store.folder / f"store/{name}.gpg").read_bytes()
        store.copies(".gpg", sealed, store.folder / "store")

    def reader(self, store, name):
        return [install.debian("gopass"), "show", name]

    @classmethod
    def stop(cls):
        """Ends the gpg-agent of the bench's own home."""
        if cls.home is not None:
            subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(cls.home)}, check=False)


class SystemdCreds(OneByOne):
    name = "`systemd-creds decrypt` in sh"
    setup = (
        "credentials sealed with a host key; without systemd as PID 1 nothing hands them out, so 8 processes decrypt; "
        "the key is named by `SYSTEMD_CREDENTIAL_SECRET`, for the host's own is root's"
    )

    def version(self):
        return package_version("systemd-creds")

    def prepare(self, store):
        store.environment["SYSTEMD_CREDENTIAL_SECRET"] = str(store.folder / "host.key")
        (store.folder / "credentials").mkdir()
        sealed = {}
        for name in store.granted:
            path = store.folder / f"credentials/{name}"
            seal = [install.debian("systemd-creds"), "encrypt", "--with-key=host", f"--name={name}", "-", path]
            store.run(*seal, input=store.values[name].encode())
            sealed[name] = path.read_bytes()
        store.copies("", sealed, store.folder / "credentials")

    def reader(self, store, name):
        return [install.debian("systemd-creds"), "decrypt", f"--name={name}", f"{store.folder}/credentials/{name}", "-"]


def age_identity(store, path):
    """Makes a key file of age, and returns its recipient."""
    install.debian("age")
    store.run("age-keygen", "-o", path)
    return store.run("age-keygen", "-y", path).strip()


def reason(done):
    """The last line that a failed command printed, fit for a table."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", (done.stderr or done.stdout).decode(errors="replace"))
    lines = [line.strip() for line in text.replace("|", "/").splitlines() if line.strip()]
    return lines[-1][:120] if lines else "no reason told"


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def package_version(command):
    install.debian(command)
    package = install.DEBIAN[command]
    return "Debian " + first_line("dpkg-query", "--show", "--showformat=${Version}", package)


ALL = [
    Env(),
    Mentiko(["--fence", "off"], "the secrets in its vault, a chain that grants the 8; each launch recorded"),
    Mentiko(["--fence", "require"], "the same; the agent can't read key, vault and log"),
    Mentiko(["--fence", "off", "--supervise"], "the same; stays, and records the agent's end"),
    Directory(["envdir"]),
    Directory(["chpst", "-e"]),
    Age(),
    SystemdCreds(),
    Fnox([]),
    Fnox(["--replace"]),
    Secretspec(),
    PythonDotenv(),
    Gopass(),
    Dotenvx(),
]
