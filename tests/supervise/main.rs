//! `--supervise` and `--mask`: the wrapper as the agent's parent, tried on real processes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod mask;
mod records;
mod signals;
mod terminal;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{EXEC, Site, text};
use mentiko_exec::memory::send_signal;
use nix::unistd::Pid;

/// The value of secret A, which agent `one` of chain `c` is granted.
const A: &str = "value-of-a-4711";

/// The ways to launch.
const EXEC_MODE: &[&str] = &[];
const SUPERVISE: &[&str] = &["--supervise"];
const MASK: &[&str] = &["--mask"];

/// A launch that runs, in a process group of its own: where the tests themselves run in an orphaned
/// group, the kernel would not stop the agent.
struct Launched {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Launched {
    fn new(command: &mut Command) -> Self {
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    fn agent(site: &Site, options: &[&str], command: &[&str]) -> Self {
        Self::new(site.exec("c", "one").args(options).arg("--").args(command))
    }

    /// The process that was started: the agent, or its supervisor.
    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn send(&self, number: i32) {
        send_signal(self.pid(), number).unwrap();
    }

    /// The end of the process that was started. It must come, for a supervisor that has lost sight
    /// of its agent would wait forever.
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the wrapper ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The state of a process, as one letter (proc_pid_stat(5)); nothing where it is gone.
fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    text(&stat).rsplit_once(") ")?.1.chars().next()
}

/// Whether nothing runs under this number. Whose child it has become may not have reaped it yet.
fn is_gone(pid: Pid) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}

fn number(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number")))
}
