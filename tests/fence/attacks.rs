//! Each attack is shown to work without a fence, and to get nothing inside it.

use std::fs::read;
use std::process::Command;

use crate::common::{is_root, text};
use crate::person::{Outside, Person};

/// What an attack is after.
#[derive(Clone, Copy, Debug)]
enum Loot {
    Key,
    Vault,
    Log,
    Pin,
    Chain,
    Configuration,
    /// The memory of another process.
    Memory,
    /// The environment of another process.
    Environment,
}

/// What an attack needs of the system; where it does not even work without a fence, it shows
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// User namespaces, to make some of its own.
    Namespaces,
    /// Namespaces, and more than every kernel or file system has.
    Luck,
}

struct Attack(&'static str, Loot, Needs, &'static str);

/// `loot FILE` prints a file in hexadecimal; `attack NAME` is one of attack.py.
const PRELUDE: &str = r#"
loot() { od -An -v -tx1 "$1" | tr -d ' \n'; echo; }
attack() { python3 "$ATTACK" "$1"; }
cd "$HOME"; P=$(dirname "$INSTANCE"); N=$(basename "$INSTANCE"); mkdir -p x
"#;

use Loot::*;
use Needs::*;
const ATTACKS: &[Attack] = &[
    Attack("read the key", Key, Nothing, r#"loot "$KEY""#),
    Attack("read the vault", Vault, Nothing, r#"loot "$VAULT""#),
    Attack("read the log", Log, Nothing, r#"for f in "$AUDIT"/*; do loot "$f"; done"#),
    Attack("read the pins", Pin, Nothing, r#"loot "$RUNS/pin""#),
    Attack("read a chain", Chain, Nothing, r#"loot "$INSTANCE/chains/c.json""#),
    Attack("read the configuration", Configuration, Nothing, r#"loot "$INSTANCE/instance.json""#),
    Attack("a hard link", Key, Nothing, r#"ln "$KEY" "$P/link" && loot "$P/link"; rm -f "$P/link""#),
    Attack("a symbolic link", Key, Nothing, r#"ln -sf "$KEY" x/link; loot x/link"#),
    Attack("a way back through a link", Key, Nothing, r#"ln -sfn "$P" x/way; loot "x/way/$N/instance.key""#),
    Attack("/proc/self/root", Key, Nothing, r#"loot "/proc/self/root$KEY""#),
    Attack("/proc/self/cwd", Key, Nothing, r#"cd "$P" && loot "/proc/self/cwd/$N/instance.key""#),
    Attack("everybody's /proc/PID/root", Key, Nothing, r#"for p in /proc/[0-9]*; do loot "$p/root$KEY"; done"#),
    Attack("another's /proc/PID/root", Key, Nothing, r#"loot "/proc/$OUTSIDE_PID/root$KEY""#),
    Attack("another's /proc/PID/cwd", Key, Nothing, r#"loot "/proc/$OUTSIDE_PID/cwd/instance.key""#),
    Attack("another's /proc/PID/fd", Key, Nothing, r#"loot "/proc/$OUTSIDE_PID/fd/$OUTSIDE_DESCRIPTOR""#),
    Attack("another's /proc/PID/environ", Environment, Nothing, r#"loot "/proc/$OUTSIDE_PID/environ""#),
    Attack("another's /proc/PID/mem", Memory, Nothing, "attack mem"),
    Attack("ptrace", Memory, Nothing, "attack ptrace"),
    Attack("process_vm_readv", Memory, Nothing, "attack process-vm-readv"),
    Attack("pidfd_getfd", Key, Nothing, "attack pidfd-getfd"),
    Attack("umount", Key, Nothing, r#"umount "$INSTANCE"; umount -l "$INSTANCE"; loot "$KEY""#),
    Attack("bind mount", Key, Nothing, r#"mount --bind "$P" x; loot "x/$N/instance.key"; loot "$KEY""#),
    Attack(
        "move the folder away",
        Key,
        Nothing,
        r#"mv "$INSTANCE" "$P/away"; loot "$P/away/instance.key"; mv "$P/away" "$INSTANCE""#,
    ),
    Attack(
        "move the folder above away",
        Key,
        Nothing,
        r#"mv "$P" "$P.away"; loot "$P.away/$N/instance.key"; mv "$P.away" "$P""#,
    ),
    Attack(
        "mentiko-exec as another agent",
        Environment,
        Nothing,
        r#""$MENTIKO-exec" --instance "$INSTANCE" --chain c --agent two -- \
        sh -c 'echo "environment-of-another-process=$B" | sed s/=value-of-b-0815// | od -An -v -tx1 | tr -d " \n"'"#,
    ),
    Attack("a user namespace", Key, Namespaces, r#"unshare -Ur sh -c "$LOOT_KEY""#),
    Attack("a mount namespace", Key, Namespaces, r#"unshare -Urm sh -c "$LOOT_KEY""#),
    Attack("umount in a namespace", Key, Namespaces, r#"unshare -Urm sh -c "umount '$INSTANCE'; $LOOT_KEY""#),
    Attack("lazy umount in a namespace", Key, Namespaces, r#"unshare -Urm sh -c "umount -l '$INSTANCE'; $LOOT_KEY""#),
    Attack(
        "bind mount in a namespace",
        Key,
        Namespaces,
        r#"unshare -Urm sh -c "mount --bind '$P' x && od -An -v -tx1 x/$N/instance.key | tr -d ' \n'""#,
    ),
    Attack(
        "recursive bind mount in a namespace",
        Key,
        Namespaces,
        r#"unshare -Urm sh -c "mount --rbind '$P' x && umount -l 'x/$N'; od -An -v -tx1 x/$N/instance.key | tr -d ' \n'""#,
    ),
    Attack(
        "moved mount in a namespace",
        Key,
        Namespaces,
        r#"unshare -Urm sh -c "mkdir -p y; mount --move '$INSTANCE' y; $LOOT_KEY""#,
    ),
    Attack(
        "overlay in a namespace",
        Key,
        Luck,
        r#"mkdir -p u w; unshare -Urm sh -c "mount -t overlay o -o 'lowerdir=$P,upperdir=u,workdir=w,userxattr' x &&
        od -An -v -tx1 x/$N/instance.key | tr -d ' \n'""#,
    ),
    Attack(
        "another /proc in a namespace",
        Key,
        Namespaces,
        r#"unshare -Urmpf --mount-proc sh -c "od -An -v -tx1 '/proc/1/root$KEY' | tr -d ' \n'""#,
    ),
    Attack("nsenter", Key, Namespaces, r#"nsenter -U -m -t "$NAMESPACE_PID" --preserve-credentials sh -c "$LOOT_KEY""#),
    Attack("open_tree in a namespace", Key, Namespaces, "unshare -Urm python3 $ATTACK open-tree"),
    Attack("recursive open_tree in a namespace", Key, Namespaces, "unshare -Urm python3 $ATTACK open-tree-recursive"),
    Attack("all mounts detached", Key, Namespaces, "unshare -Urm python3 $ATTACK detached"),
    Attack("moved once all mounts are detached", Key, Namespaces, "unshare -Urm python3 $ATTACK detached-and-moved"),
    Attack("open_by_handle_at in a namespace", Key, Luck, "unshare -Urm python3 $ATTACK open-by-handle"),
];

/// What is around the attacks.
struct Scene<'a> {
    person: &'a Person,
    outside: Outside,
    in_namespaces: Option<Outside>,
    handle: String,
}

impl<'a> Scene<'a> {
    fn new(person: &'a Person, namespaces: bool) -> Self {
        let outside = Outside::below(person, &[]);
        let in_namespaces = namespaces.then(|| Outside::below(person, &["unshare", "-Urm"]));
        let mut handle = person.command(&["python3", person.tool("attack.py").to_str().unwrap(), "handle"]);
        let handle = handle.env("INSTANCE", person.folder()).output().unwrap();
        Self { person, outside, in_namespaces, handle: text(&handle.stdout).trim().into() }
    }

    fn loot(&self, loot: Loot) -> String {
        let person = self.person;
        let file = |path| hex(&read(path).unwrap()[..24]);
        match loot {
            Key => file(person.key()),
            Vault => file(person.vault()),
            Log => hex(br#""event":"instance.init""#),
            Pin => hex(b"pin-of-a-run"),
            Chain => hex(b"words-of-the-chain"),
            Configuration => hex(br#""key""#),
            Memory => hex(b"memory-of-another-process"),
            Environment => hex(b"environment-of-another-process"),
        }
    }

    /// What an attack prints, both as output and as errors.
    fn output(&self, mut launch: Command, fence: &str, attack: &Attack) -> String {
        let person = self.person;
        let script = format!("{PRELUDE}\n{{ {}\n}} 2>&1\necho the-end", attack.3);
        launch.args(["--fence", fence, "--", "sh", "-c", &script]);
        launch.env("LOOT_KEY", format!("od -An -v -tx1 '{}' | tr -d ' \\n'", person.key().display()));
        for (name, path) in [
            ("INSTANCE", person.folder()),
            ("KEY", person.key()),
            ("VAULT", person.vault()),
            ("AUDIT", person.audit()),
            ("RUNS", person.runs()),
            ("MENTIKO", person.tool("mentiko")),
            ("ATTACK", person.tool("attack.py")),
        ] {
            launch.env(name, path);
        }
        for (name, text) in [
            ("OUTSIDE_PID", &self.outside.pid()),
            ("OUTSIDE_ADDRESS", &self.outside.address),
            ("OUTSIDE_DESCRIPTOR", &self.outside.descriptor),
            ("NAMESPACE_PID", &self.in_namespaces.as_ref().map(Outside::pid).unwrap_or_default()),
            ("HANDLE", &self.handle),
        ] {
            launch.env(name, text);
        }
        let output = launch.output().unwrap();
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(shown.contains("the-end"), "{} ({fence}): {shown}", attack.0);
        shown
    }

    /// Tries all that can be shown to work here; how many those are.
    fn try_all(&self, launch: impl Fn() -> Command, can: impl Fn(&Attack) -> bool, fence: &str) -> usize {
        let mut shown_to_work = 0;
        for attack in ATTACKS.iter().filter(|attack| can(attack)) {
            let loot = self.loot(attack.1);
            let without = self.output(launch(), "off", attack);
            if !without.contains(&loot) {
                assert_eq!(attack.2, Luck, "{} does not work even without a fence: {without}", attack.0);
                eprintln!("skipped: '{}' does not work here even without a fence: {without}", attack.0);
                continue;
            }
            shown_to_work += 1;
            let within = self.output(launch(), "require", attack);
            assert!(!within.contains(&loot), "{}: {within}", attack.0);
            assert_eq!(self.person.recorded_fence(), fence, "{}", attack.0);
        }
        shown_to_work
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn no_attack_passes_the_fence_of_namespaces() {
    let person = Person::new();
    let shown = Scene::new(&person, true).try_all(|| person.exec(), |_| true, "namespace");
    assert!(shown + 2 >= ATTACKS.len());
}

#[test]
fn no_attack_passes_the_fence_of_landlock() {
    let person = Person::with_instance_elsewhere();
    // Where namespaces are refused, they are refused to the agent too.
    let can = |attack: &Attack| attack.2 == Nothing;
    // Root owns the folder above an instance in /var/lib: not even without a fence can it be moved.
    let can = |attack: &Attack| can(attack) && !(is_root() && attack.0.starts_with("move the folder above"));
    Scene::new(&person, false).try_all(|| person.exec_without_namespaces(), can, "landlock");
}

#[test]
fn a_link_beside_the_instance_opens_nothing_under_landlock() {
    let person = Person::with_instance_elsewhere();
    let key = person.folder().join("instance.key");
    let link = person.folder().with_file_name("beside");
    let read = |path: &std::path::Path, options: &[&str]| {
        let mut command = person.exec_without_namespaces();
        let output = command.args(options).args(["--", "cat"]).arg(path).output().unwrap();
        output.stdout.len()
    };
    for target in [person.folder().to_owned(), key.clone(), "/".into()] {
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(read(&key, &["--fence", "off"]), 32);
        assert_eq!(read(&key, &["--fence", "require"]), 0, "with a link to {}", target.display());
        std::fs::remove_file(&link).unwrap();
    }
}

#[test]
fn an_agent_inherits_no_descriptor_of_the_instance() {
    let person = Person::new();
    // Before it opens anything itself: what it was started with.
    let script = "
import os
for number in range(4096):
    try:
        print(number, os.fstat(number) and os.readlink(f'/proc/self/fd/{number}'))
    except OSError:
        pass
";
    for fence in ["off", "require"] {
        let output = person.exec().args(["--fence", fence, "--", "python3", "-c", script]).output().unwrap();
        let shown = text(&output.stdout);
        let numbers: Vec<&str> = shown.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(numbers, ["0", "1", "2"], "{shown}");
        for path in [person.folder(), person.audit(), person.vault(), person.runs()] {
            assert!(!shown.contains(path.to_str().unwrap()), "{shown}");
        }
    }
}

#[test]
fn the_secrets_of_another_agent_of_the_same_user_can_not_be_read() {
    let person = Person::new();
    for (fence, can) in [("off", true), ("require", false)] {
        let mut other = person.exec_below(&[], "two");
        let script = "echo started > $HOME/started; exec sleep 1000";
        let mut other = other.args(["--fence", fence, "--", "sh", "-c", script]).spawn().unwrap();
        while !person.home().join("started").exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let path = format!("/proc/{}/environ", other.id());
        let output = person.exec().args(["--fence", fence, "--", "cat", &path]).output().unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        std::fs::remove_file(person.home().join("started")).unwrap();
        assert_eq!(text(&output.stdout).contains("value-of-b-0815"), can, "{fence}: {}", text(&output.stderr));
    }
}

#[test]
fn the_programs_say_that_they_are_inside_a_fence() {
    let person = Person::new();
    let within = |script: &str| {
        let script = script.replace("MENTIKO", person.tool("mentiko").to_str().unwrap());
        let output = person.exec().args(["--", "sh", "-c", &script]).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, _, errors) = within("MENTIKO-exec --chain c --agent two -- env");
    assert_eq!(status, Some(78));
    let told = "already inside a fence; launch sub-agents from outside, or give the orchestrator --fence off";
    assert_eq!(errors, format!("mentiko-exec: {told}\n"));
    let (status, output, errors) = within("MENTIKO secret list");
    assert_eq!((status, output.as_str()), (Some(1), ""), "{errors}");
    // An orchestrator without a fence launches fenced agents.
    let script = format!("{} --chain c --agent two -- sh -c 'echo $B'", person.tool("mentiko-exec").display());
    let output = person.exec().args(["--fence", "off", "--", "sh", "-c", &script]).output().unwrap();
    assert_eq!(text(&output.stdout), "value-of-b-0815\n", "{}", text(&output.stderr));
    assert_eq!(person.recorded_fence(), "namespace");
}

/// The vault is replaced at each write: a mount over the file itself would fall off.
#[test]
fn a_vault_written_meanwhile_stays_hidden() {
    let person = Person::new();
    let script = format!(
        "touch started; until [ -e go ]; do sleep 0.01; done; cat {} {}; ls -A {}",
        person.vault().display(),
        person.runs().join("later").display(),
        person.vault().parent().unwrap().display()
    );
    let agent = person
        .exec()
        .args(["--fence", "require", "--", "sh", "-c", &script])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !person.home().join("started").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let before = read(person.vault()).unwrap();
    let mut set = person.mentiko(&["secret", "set", "A"]);
    crate::person::expect_success(&crate::common::output_with_input(&mut set, b"another-value"));
    assert_ne!(before, read(person.vault()).unwrap());
    person.put(&person.runs().join("later"), "pin-of-a-later-run");
    person.put(&person.home().join("go"), "");
    let output = agent.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "");
    assert_eq!(text(&output.stderr).matches("No such file").count(), 2, "{}", text(&output.stderr));
}
