//! A throwaway instance, and the two programs run on it as a user would.
#![allow(
    dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing,
    missing_docs
)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The wrapper that the tests run. Built with `MENTIKO_TESTED=PATH`, they run that one in its place:
/// what `packaging/build-static` makes.
pub const EXEC: &str = match option_env!("MENTIKO_TESTED") {
    Some(path) => path,
    None => env!("CARGO_BIN_EXE_mentiko-exec"),
};
/// Whether that one is linked with musl.
pub const IS_STATIC: bool = option_env!("MENTIKO_TESTED").is_some();

/// The segments of a log, oldest first.
pub fn segments_in(audit: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(audit).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    paths
}

/// All of them, one after the other.
pub fn log_text(audit: &Path) -> String {
    segments_in(audit).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// An instance of its own, made by `mentiko init`.
pub struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// In a folder below this one, on a certain file system for example.
    pub fn below(parent: &Path) -> Self {
        let folder = tempfile::tempdir_in(parent).unwrap();
        let site = Self { folder };
        let made = site.mentiko(&["init"]).arg(site.path()).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        site
    }

    /// Without a fence by default, for tests of everything else: agents write markers into the
    /// instance's folder, and the wrapper must leave no trace at all.
    pub fn unfenced(self) -> Self {
        let path = self.file("instance.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(r#""fence": "auto""#, r#""fence": "off""#)).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// `mentiko ARGUMENTS`, on this instance.
    pub fn mentiko(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mentiko"));
        command.args(arguments).env("MENTIKO_INSTANCE", self.path()).stdin(Stdio::null());
        command
    }

    /// `mentiko-exec --chain CHAIN --agent AGENT`, on this instance; options and command follow.
    /// The caller's environment is PATH alone.
    pub fn exec(&self, chain: &str, agent: &str) -> Command {
        let mut command = Command::new(EXEC);
        command.args(["--chain", chain, "--agent", agent]).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("MENTIKO_INSTANCE", self.path());
        command
    }

    /// `mentiko secret set NAME OPTIONS`, with the value on standard input.
    pub fn set_with(&self, name: &str, options: &[&str], value: &[u8]) -> Output {
        let mut command = self.mentiko(&["secret", "set", name]);
        output_with_input(command.args(options), value)
    }

    pub fn set(&self, name: &str, value: &str) {
        let output = self.set_with(name, &[], value.as_bytes());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    /// Sets a field of the policy in instance.json.
    pub fn set_policy(&self, field: &str, value: impl Into<Value>) {
        let path = self.file("instance.json");
        let mut configuration: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        configuration["policy"][field] = value.into();
        std::fs::write(&path, configuration.to_string()).unwrap();
    }

    /// Puts a chain definition in place.
    pub fn chain(&self, name: &str, definition: &str) {
        let path = self.file(&format!("chains/{name}.json"));
        std::fs::write(&path, definition).unwrap();
        chmod(&path, 0o600);
    }

    /// Two secrets, A and B, in a chain `c` whose agents `one` and `two` get one each.
    pub fn with_two_agents() -> Self {
        let site = Self::new();
        site.set("A", "value-of-a-4711");
        site.set("B", "value-of-b-0815");
        site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": ["A"], "two": ["B"]}}"#);
        site
    }

    /// The log's segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        segments_in(&self.file("audit"))
    }

    /// The last of them.
    pub fn segment(&self) -> PathBuf {
        self.segments().pop().unwrap()
    }

    /// Every whole line of the log, oldest first.
    pub fn log(&self) -> Vec<Value> {
        log_text(&self.file("audit")).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The records of accesses.
    pub fn accesses(&self) -> Vec<Value> {
        self.log().into_iter().filter(|record| record["event"] == "secret.access").collect()
    }

    /// Runs `mentiko audit verify`, which must succeed.
    pub fn verify(&self) -> String {
        let output = self.mentiko(&["audit", "verify"]).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

pub fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a command with this on its standard input. A command that ends early is no error here.
pub fn output_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}
