//! A machine of its own for a test: systemd in namespaces, with the instance that docs/systemd.md
//! has made.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{chmod, is_root, output_with_input, text};

/// Units of systemd's own that ours build on; nothing else of the machine is started.
const OF_SYSTEMD: &[&str] = &[
    "basic.target", "dbus.service", "dbus.socket", "network-online.target", "shutdown.target", "sysinit.target",
    "systemd-journald-dev-log.socket", "systemd-journald.service", "systemd-journald.socket", "timers.target",
];

/// Where its key lies, sealed for this machine.
pub const SEALED_KEY: &str = "/etc/credstore.encrypted/mentiko-key";

pub struct Machine {
    base: tempfile::TempDir,
    outer: Child,
    pid: u32,
}

impl Machine {
    /// Starts one, and waits until it is up. `None` for ordinary users.
    pub fn boot() -> Option<Self> {
        if !is_root() {
            eprintln!("skipped: only root can start a systemd of its own");
            return None;
        }
        let base = tempfile::Builder::new().prefix("mentiko-systemd-").tempdir().unwrap();
        lay_out(base.path());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/boot.sh");
        // Should the test itself be killed, nothing stays behind.
        let mut boot = Command::new("setpriv");
        boot.args(["--pdeathsig", "KILL", "unshare", "--mount"]).arg(script).arg(base.path());
        boot.args([env!("CARGO_BIN_EXE_mentiko"), crate::common::EXEC]);
        let console = std::fs::File::create(base.path().join("console")).unwrap();
        boot.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        let outer = boot.process_group(0).spawn().unwrap();
        let mut machine = Self { base, outer, pid: 0 };
        machine.wait_until_up();
        Some(machine)
    }

    fn wait_until_up(&mut self) {
        let up = wait_for(|| {
            let ended = self.outer.try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.console());
            let id = self.outer.id();
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            self.pid = children.trim().parse().unwrap_or(0);
            self.pid != 0
                && text(&self.run(&["systemctl", "is-active", "basic.target", "dbus.socket"]).stdout)
                    == "active\nactive\n"
        });
        assert!(up, "{}", self.console());
    }

    /// Where a file of the machine lies outside of it.
    pub fn file(&self, path: &str) -> PathBuf {
        self.base.path().join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.file(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.file(path)).unwrap_or_default()
    }

    fn console(&self) -> String {
        self.read("/console")
    }

    /// A command in the machine, as root.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--"]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"]);
        command.args(words).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What it prints; it must succeed.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}\n{}\n{}", self.console(), self.journal());
        text(&output.stdout)
    }

    pub fn journal(&self) -> String {
        text(&self.run(&["journalctl", "--no-pager", "-o", "short-monotonic"]).stdout)
    }

    /// Starts a unit that is to end at once. With Type=exec, systemd may see either first: that it
    /// was executed, or how it ended.
    pub fn start(&self, unit: &str) {
        self.run(&["systemctl", "start", unit]);
    }

    /// One property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit]).trim_end().to_owned()
    }

    pub fn is_soon(&self, unit: &str, property: &str, value: &str) {
        let reached = wait_for(|| self.show(unit, property) == value);
        let found = self.show(unit, property);
        assert!(reached, "{unit}: {property} is {found}, not {value}\n{}", self.journal());
    }

    /// A machine where everything stands that docs/systemd.md sets up before the first agent, with
    /// the secrets A and B, and a chain `c` whose agents `one` and `two` get one each.
    ///
    /// `None` for ordinary users, for whom no systemd can be started.
    pub fn with_instance() -> Option<Self> {
        let machine = Self::boot()?;
        machine.ok(&["sh", "-eu", "-c", &documented("Setting up")]);
        machine
            .write("/etc/mentiko/chains/c.json", r#"{"secrets": ["A", "B"], "agents": {"one": ["A"], "two": ["B"]}}"#);
        machine.set("A", "value-of-a-4711");
        machine.set("B", "value-of-b-0815");
        Some(machine)
    }

    /// Stores a value, as the user of the agents.
    pub fn set(&self, name: &str, value: &str) {
        self.mentiko(&[], &["secret", "set", name], value);
    }

    /// Gives an instance of the template its command.
    pub fn drop_in(&self, instance: &str, lines: &str) {
        self.write(&format!("/etc/systemd/system/mentiko-agent@{instance}.service.d/command.conf"), lines);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// The accesses that the log holds.
    pub fn accesses(&self) -> Vec<serde_json::Value> {
        let files = self.file("/var/log/mentiko").read_dir().unwrap().map(|entry| entry.unwrap().path());
        let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        let text: String = segments.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.filter(|record| record["event"] == "secret.access").collect()
    }

    /// `mentiko ARGUMENTS` as docs/systemd.md has it: in a unit that gets the key.
    pub fn mentiko(&self, options: &[&str], arguments: &[&str], input: &str) -> String {
        let script = documented("Commands with the key") + "in_unit \"$@\"";
        let mut words = vec!["sh", "-eu", "-c", &script, "sh"];
        words.extend(options);
        words.push("/usr/local/bin/mentiko");
        words.extend(arguments);
        let output = output_with_input(&mut self.command(&words), input.as_bytes());
        assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output.stderr), self.journal());
        text(&output.stdout)
    }
}

/// The commands of a section of docs/systemd.md, which stand there indented.
fn documented(section: &str) -> String {
    let document = include_str!("../../docs/systemd.md");
    let section = document.split("\n## ").find(|text| text.starts_with(section)).unwrap();
    let commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    commands.map(|line| format!("{line}\n")).collect()
}

/// Asks until it is so, for some seconds.
pub fn wait_for(mut what: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// The folders that the machine may write, and a copy of /etc without this machine's units.
fn lay_out(base: &Path) {
    chmod(base, 0o755);
    for folder in ["usr/local/bin", "cgroup", "dev", "tmp", "var/lib", "var/log", "var/tmp"] {
        std::fs::create_dir_all(base.join(folder)).unwrap();
    }
    chmod(&base.join("tmp"), 0o1777);
    chmod(&base.join("var/tmp"), 0o1777);
    for program in ["mentiko", "mentiko-exec"] {
        std::fs::write(base.join("usr/local/bin").join(program), "").unwrap();
    }
    std::os::unix::fs::symlink("/run", base.join("var/run")).unwrap();
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/agent.py");
    std::fs::copy(agent, base.join("usr/local/bin/agent.py")).unwrap();
    let copied = Command::new("cp").args(["-a", "/etc"]).arg(base).status().unwrap();
    assert!(copied.success());
    let units = base.join("etc/systemd/system");
    std::fs::remove_dir_all(&units).unwrap();
    std::fs::create_dir(&units).unwrap();
    for unit in OF_SYSTEMD {
        let copied = std::fs::copy(Path::new("/lib/systemd/system").join(unit), units.join(unit));
        copied.unwrap_or_else(|error| panic!("{unit}: {error}"));
    }
    for (target, needs) in [("basic.target", "dbus.socket"), ("sysinit.target", "systemd-journald.service")] {
        let folder = units.join(format!("{target}.wants"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(units.join(needs), folder.join(needs)).unwrap();
    }
    for unit in packaged() {
        std::fs::copy(&unit, units.join(unit.file_name().unwrap())).unwrap();
    }
    std::fs::write(base.join("etc/machine-id"), "00112233445566778899aabbccddeeff\n").unwrap();
}

/// The units as they are shipped.
pub fn packaged() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let mut units: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    units.sort();
    units
}

impl Drop for Machine {
    fn drop(&mut self) {
        // --kill-child takes systemd with it, and the kernel everything in its namespace.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        if self.pid != 0 {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid).unwrap());
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        let cgroup = "mount --make-rprivate / && mount -t cgroup2 cgroup2 \"$0/cgroup\" && \
                      for i in 1 2 3 4 5 6 7 8 9 10; do \
                      find \"$0/cgroup/$(basename \"$0\")\" -depth -type d -exec rmdir {} + 2>/dev/null && break; \
                      sleep 0.1; done";
        let _ = Command::new("unshare").args(["--mount", "sh", "-c", cgroup]).arg(self.base.path()).status();
    }
}
