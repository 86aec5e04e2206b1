//! An ordinary user with an instance of their own, and what runs on their behalf.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use nix::unistd::{User, getuid};
use serde_json::Value;

use crate::common::{chmod, is_root, log_text, output_with_input, text};

/// Who the ordinary user is: whoever runs the tests, unless that is root.
pub fn account() -> User {
    static MADE: OnceLock<User> = OnceLock::new();
    match is_root() {
        false => User::from_uid(getuid()).unwrap().unwrap(),
        true => MADE.get_or_init(|| made("mentiko-fence", Some("mentiko-extra"))).clone(),
    }
}

/// Makes an account, as root, unless it is there from an earlier run.
pub fn made(name: &str, extra_group: Option<&str>) -> User {
    let run = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    };
    if User::from_name(name).unwrap().is_none() {
        run(&["useradd", "--system", "--user-group", "--create-home", "--shell", "/bin/sh", name]);
    }
    if let Some(group) = extra_group {
        run(&["groupadd", "--force", group]);
        run(&["usermod", "--append", "--groups", group, name]);
    }
    User::from_name(name).unwrap().unwrap()
}

/// An ordinary user, at home in a throwaway folder.
pub struct Person {
    base: tempfile::TempDir,
    elsewhere: Option<tempfile::TempDir>,
    pub user: User,
}

impl Person {
    /// Whose instance lies where `mentiko init` puts it: below the home folder.
    pub fn new() -> Self {
        Self::with(account(), None)
    }

    /// Whose instance lies in a folder of its own, away from the home that the agent sees and from
    /// every folder that all users write to.
    pub fn with_instance_elsewhere() -> Self {
        let parent = if is_root() { PathBuf::from("/var/lib") } else { account().dir };
        Self::with(account(), Some(tempfile::tempdir_in(parent).unwrap()))
    }

    pub fn with(user: User, elsewhere: Option<tempfile::TempDir>) -> Self {
        let base = tempfile::tempdir().unwrap();
        chmod(base.path(), 0o755);
        let person = Self { base, elsewhere, user };
        // Where the tests were built need not be open to others.
        for program in [env!("CARGO_BIN_EXE_mentiko"), crate::common::EXEC] {
            let place = person.base.path().join(Path::new(program).file_name().unwrap());
            std::fs::hard_link(program, &place).or_else(|_| std::fs::copy(program, &place).map(drop)).unwrap();
        }
        for (name, script) in [
            ("attack.py", include_str!("attack.py")),
            ("outside.py", include_str!("outside.py")),
            ("filter.py", include_str!("../common/filter.py")),
        ] {
            std::fs::write(person.base.path().join(name), script).unwrap();
        }
        std::fs::create_dir(person.home()).unwrap();
        person.give(&person.home());
        if let Some(elsewhere) = &person.elsewhere {
            person.give(elsewhere.path());
        }
        person.make_instance();
        person
    }

    fn make_instance(&self) {
        let mut init = self.mentiko(&["init"]);
        if self.elsewhere.is_some() {
            init.arg(self.folder());
        }
        expect_success(&init.output().unwrap());
        for (name, value) in [("A", "value-of-a-4711"), ("B", "value-of-b-0815")] {
            let mut set = self.mentiko(&["secret", "set", name]);
            expect_success(&output_with_input(&mut set, value.as_bytes()));
        }
        let chain =
            r#"{"secrets": ["A", "B"], "agents": {"one": ["A"], "two": ["B"]}, "prompt": "words-of-the-chain"}"#;
        self.put(&self.folder().join("chains/c.json"), chain);
        self.put(&self.runs().join("pin"), "pin-of-a-run");
    }

    /// Makes a file of this user's.
    pub fn put(&self, path: &Path, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        self.give(path.parent().unwrap());
        std::fs::write(path, content).unwrap();
        chmod(path, 0o600);
        self.give(path);
    }

    fn give(&self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw())).unwrap();
    }

    pub fn home(&self) -> PathBuf {
        self.base.path().join("home")
    }

    pub fn tool(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// The folder of instance.json.
    pub fn folder(&self) -> PathBuf {
        self.elsewhere.as_ref().map_or_else(|| self.home().join(".config/mentiko"), |place| place.path().join("own"))
    }

    pub fn key(&self) -> PathBuf {
        self.folder().join("instance.key")
    }

    pub fn vault(&self) -> PathBuf {
        match self.elsewhere {
            Some(_) => self.folder().join("vault"),
            None => self.home().join(".local/share/mentiko/vault"),
        }
    }

    pub fn runs(&self) -> PathBuf {
        self.vault().with_file_name("runs")
    }

    pub fn audit(&self) -> PathBuf {
        match self.elsewhere {
            Some(_) => self.folder().join("audit"),
            None => self.home().join(".local/state/mentiko/audit"),
        }
    }

    /// Sets `policy` of instance.json.
    pub fn set_policy(&self, policy: &str) {
        let path = self.folder().join("instance.json");
        let mut configuration: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        configuration["policy"] = serde_json::from_str(policy).unwrap();
        std::fs::write(&path, configuration.to_string()).unwrap();
    }

    /// Anything, run as this user.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = match is_root() {
            false => Command::new(words[0]),
            true => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", self.user.uid)).arg(format!("--regid={}", self.user.gid));
                command.args(["--clear-groups", "--"]).arg(words[0]);
                command
            }
        };
        command.args(&words[1..]).env_clear().current_dir(self.home()).stdin(Stdio::null());
        // The system's programs first: others may be wrappers that only the caller can use.
        let path = format!("/usr/bin:/bin:{}", std::env::var("PATH").unwrap());
        command.env("PATH", path).env("HOME", self.home()).env("LC_ALL", "C");
        if self.elsewhere.is_some() {
            command.env("MENTIKO_INSTANCE", self.folder());
        }
        command
    }

    pub fn mentiko(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&[self.tool("mentiko").to_str().unwrap()]);
        command.args(arguments);
        command
    }

    /// `mentiko-exec --chain c --agent one`; options and command follow.
    pub fn exec(&self) -> Command {
        self.exec_below(&[], "one")
    }

    /// The same, on a system that refuses user namespaces, as most containers do.
    pub fn exec_without_namespaces(&self) -> Command {
        let filter = self.tool("filter.py");
        // clone3(2) has its flags in memory, which a filter can't read: the caller is to use clone(2).
        let refused = ["unshare&CLONE_NEWUSER=EPERM", "clone&CLONE_NEWUSER=EPERM", "clone3=ENOSYS", "--"];
        self.exec_below(&[&["python3", filter.to_str().unwrap()], &refused[..]].concat(), "one")
    }

    /// The same, as any agent of the chain, by a program that executes its arguments.
    pub fn exec_below(&self, words: &[&str], agent: &str) -> Command {
        let program = self.tool("mentiko-exec");
        let own = [program.to_str().unwrap(), "--chain", "c", "--agent", agent];
        self.command(&[words, &own].concat())
    }

    /// Every line of the log, oldest first.
    pub fn log(&self) -> Vec<Value> {
        log_text(&self.audit()).lines().map(parsed).collect()
    }

    /// The records of accesses.
    pub fn accesses(&self) -> Vec<Value> {
        self.log().into_iter().filter(|record| record["event"] == "secret.access").collect()
    }

    /// What the record of the last launch says of its fence.
    pub fn recorded_fence(&self) -> Value {
        self.accesses().last().unwrap()["fence"].clone()
    }
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

pub fn expect_success(output: &Output) {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// A process of the user outside any fence: it stands in the instance's folder, holds the key open
/// and has a secret of its own in its memory and its environment.
pub struct Outside {
    child: Child,
    /// Where in its memory.
    pub address: String,
    /// The key.
    pub descriptor: String,
}

impl Outside {
    /// Started by a program that executes its arguments.
    pub fn below(person: &Person, words: &[&str]) -> Self {
        let script = person.tool("outside.py");
        let mut command = person.command(&[words, &["python3", script.to_str().unwrap()]].concat());
        command.arg(person.key()).env("OUTSIDE", "environment-of-another-process");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (address, descriptor) = line.trim().split_once(' ').unwrap_or_else(|| panic!("{words:?} does not start"));
        Self { address: address.into(), descriptor: descriptor.into(), child }
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
