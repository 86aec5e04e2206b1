//! An agent's everyday work goes on inside a fence as it does without.

use std::process::Command;

use crate::common::{Site, is_root, text};
use crate::person::Person;

/// What to install, what it is called by, and what it does.
const WORK: &[(&str, &str)] = &[
    ("files", "mkdir -p a/b && echo one >a/b/f && mv a/b/f a/g && ln a/g a/h && cat a/h && rm -r a && ls -A"),
    ("home", r#"echo two >"$HOME/f" && cat "$HOME/f" && rm "$HOME/f""#),
    ("/tmp", r#"t=$(mktemp) && echo three >"$t" && cat "$t" && rm "$t""#),
    ("other users' files", "head -1 /etc/passwd && ls -d / /usr /tmp /proc/self /dev/null"),
    ("subprocesses", "for i in 1 2 3; do (echo $i) & done | sort; (exit 7); echo $?; sh -c 'kill -TERM $$'; echo $?"),
    ("fifos", "mkfifo p && (echo four >p &) && cat p"),
    ("who", "id -u; id -g; ps -o user= -p $$ | tr -d ' '"),
    ("python", r#"python3 -c 'from multiprocessing import Pool; print(Pool(2).map(abs, [-1, -2]))'"#),
    ("node", r#"node -e 'console.log(require("child_process").execSync("echo five").toString())'"#),
    (
        "git",
        "git init -q r && cd r && echo x >f && git add f && git -c user.name=n -c user.email=n@e commit -q -m six && \
         git log --format=%s && git status --short && git clone -q . ../s && ls ../s",
    ),
    (
        "pip",
        r#"python3 - <<'WHEEL'
import zipfile
with zipfile.ZipFile("tiny-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny.py", "word = 'seven'")
    wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\n"
        "tiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n")
WHEEL
        python3 -m pip install --quiet --no-index --no-deps --disable-pip-version-check --target t ./tiny-*.whl &&
        PYTHONPATH=t python3 -c 'import tiny; print(tiny.word)'"#,
    ),
    (
        "a server on loopback",
        r#"echo eight >f; python3 - <<'FETCH'
import subprocess, sys, urllib.request
command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
port = server.stdout.readline().split(" port ")[1].split()[0]
script = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/f').read())"
print(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout)
server.terminate()
FETCH"#,
    ),
];

/// Fences of its own, of which Landlock allows none.
const NESTED: &[(&str, &str)] = &[
    ("user namespaces", "unshare -Ur id -u && unshare -Urmpf --mount-proc true && echo nine"),
    ("bubblewrap", "bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all echo ten"),
];

fn lives_the_same(person: &Person, launch: impl Fn() -> Command, work: &[(&str, &str)], fence: &str) {
    for tool in ["git", "node", "python3", "bwrap", "ps"] {
        let found = person.command(&["sh", "-c", &format!("command -v {tool} >/dev/null")]).status().unwrap();
        assert!(found.success(), "this test needs {tool}; tests/run installs it");
    }
    for (what, script) in work {
        let run = |fence: &str| {
            // The same path each time, for it may be printed.
            let script = format!("rm -rf \"$HOME/work\"; mkdir \"$HOME/work\" && cd \"$HOME/work\" && {script}");
            let output = launch().args(["--fence", fence, "--", "sh", "-c", &script]).output().unwrap();
            (text(&output.stdout), text(&output.stderr), output.status.code())
        };
        let without = run("off");
        assert_eq!(without.2, Some(0), "{what} does not work even without a fence: {without:?}");
        assert_eq!(run("require"), without, "{what}");
        assert_eq!(person.recorded_fence(), fence, "{what}");
    }
}

#[test]
fn work_inside_the_fence_of_namespaces() {
    let person = Person::new();
    lives_the_same(&person, || person.exec(), &[WORK, NESTED].concat(), "namespace");
}

#[test]
fn work_inside_the_fence_of_landlock() {
    let person = Person::with_instance_elsewhere();
    lives_the_same(&person, || person.exec_without_namespaces(), WORK, "landlock");
}

/// Where the ordinary user can't execute cargo, root's own agent builds.
#[test]
fn cargo_builds_inside_a_fence() {
    let person = Person::new();
    let with_toolchain = |mut command: Command, own_home: bool| {
        for name in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "HOME"] {
            // The toolchain may be found by the real home; the crate lies elsewhere.
            command.envs(std::env::var(name).ok().filter(|_| own_home || name != "HOME").map(|value| (name, value)));
        }
        command.env("CARGO_TARGET_DIR", "target");
        command
    };
    let mut asked = with_toolchain(person.command(&["cargo", "--version"]), !is_root());
    let user_can = asked.output().is_ok_and(|output| output.status.success());
    if !user_can && !is_root() {
        eprintln!("skipped: this user can't execute cargo");
        return;
    }
    let root = is_root().then(Site::with_two_agents);
    let (launch, parent) = match &root {
        Some(root) if !user_can => (with_toolchain(root.exec("c", "one"), true), std::env::temp_dir()),
        _ => (with_toolchain(person.exec(), !is_root()), person.home()),
    };
    let mut launch = launch;
    if user_can {
        launch.env("MENTIKO_INSTANCE", person.folder());
    }
    let folder = parent.join(format!("mentiko-tiny-{}", std::process::id()));
    let script = "mkdir $0 && cd $0 && cargo init --quiet --vcs none --name tiny . && cargo run --quiet --offline";
    launch.args(["--fence", "require", "--", "sh", "-c", script]).arg(&folder);
    let output = launch.output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(text(&output.stdout), "Hello, world!\n", "{}", text(&output.stderr));
}
