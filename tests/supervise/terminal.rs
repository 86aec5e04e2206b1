//! Supervised and masked agents on a terminal: keys, job control, the window, the modes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use mentiko_exec::memory::set_window_size;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::{PtyMaster, Winsize};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;

use crate::common::Site;
use crate::{A, EXEC, is_gone, number, send_signal, state, wait_until};

const CTRL_C: &str = "\x03";
const CTRL_BACKSLASH: &str = "\x1c";
const CTRL_Z: &str = "\x1a";

/// A program on a terminal of its own, as its session's leader.
struct Terminal {
    master: PtyMaster,
    /// Kept open, so that the terminal can be asked about after the program's end.
    slave: File,
    child: Child,
    seen: String,
    /// Up to where what was seen has been expected.
    expected: usize,
}

impl Terminal {
    fn run(site: &Site, program: &str, arguments: &[&str]) -> Self {
        let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        nix::pty::grantpt(&master).unwrap();
        nix::pty::unlockpt(&master).unwrap();
        let path = PathBuf::from(nix::pty::ptsname_r(&master).unwrap());
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        set_window_size(&master, &size(25, 80));
        // Opened by a process that is no session's leader, the terminal is nobody's until setsid takes it.
        let mut command = Command::new("setsid");
        command.args(["--ctty", program]).args(arguments).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "vt100").env("PS1", "prompt> ");
        command.env("EXEC", EXEC).env("MENTIKO_INSTANCE", site.path());
        let child = command.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Self { master, slave: open(), child, seen: String::new(), expected: 0 }
    }

    /// A masked agent.
    fn masked(site: &Site, command: &[&str]) -> Self {
        Self::run(site, EXEC, &[&["--chain", "c", "--agent", "one", "--mask", "--"], command].concat())
    }

    /// A shell with job control.
    fn shell(site: &Site) -> Self {
        let mut terminal = Self::run(site, "bash", &["--norc", "--noprofile", "-i"]);
        terminal.expect("prompt> ");
        terminal
    }

    /// Reads until this was shown once more; what was shown before it.
    fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.seen[self.expected..].find(text) {
                let before = self.seen[self.expected..self.expected + at].to_owned();
                self.expected += at + text.len();
                return before;
            }
            assert!(Instant::now() < end, "{:?} without {text:?}", &self.seen[self.expected..]);
            self.read();
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// What a shell's command prints; its words never stand in the command line itself as such.
    fn command(&mut self, line: &str) {
        self.types(&format!("{line}\n"));
    }

    /// The status of the last command, at the shell's prompt.
    fn status(&mut self) -> i32 {
        self.command("echo stat''us: $?.");
        self.expect("status: ");
        let status = self.expect(".").parse().unwrap();
        self.expect("prompt> ");
        status
    }

    fn modes(&self) -> Termios {
        tcgetattr(self.slave.as_fd()).unwrap()
    }

    fn is_raw(&self) -> bool {
        !self.modes().local_flags.intersects(LocalFlags::ISIG | LocalFlags::ICANON | LocalFlags::ECHO)
    }

    /// The exit status, once the program has ended.
    fn end(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the program ends", || {
            // What it writes last must find room.
            self.read();
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn parent(pid: Pid) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    number(stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap())
}

const SLEEPER: &str = "sh -c 'echo re''ady $$.; exec sleep 60'";

fn supervised(command: &str) -> String {
    format!("\"$EXEC\" --chain c --agent one --supervise -- {command}")
}

// Supervised: parent and agent are one job of the shell.

#[test]
fn keys_that_send_signals_reach_a_supervised_agent_once() {
    let site = Site::with_two_agents().unfenced();
    let mut terminal = Terminal::shell(&site);
    for (key, status) in [(CTRL_C, 130), (CTRL_BACKSLASH, 131)] {
        terminal.command(&supervised(SLEEPER));
        terminal.expect("ready ");
        terminal.expect(".");
        terminal.types(key);
        terminal.expect("prompt> ");
        assert_eq!(terminal.status(), status);
    }
    // Passed on by the parent as well, it would come twice.
    let counter = "import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {2})
os.write(1, b\"re\" b\"ady\\n\")
signal.sigwait({2})
os.write(1, b\"g\" b\"ot one\\n\")
while signal.sigtimedwait({2}, 0.3):
    os.write(1, b\"g\" b\"ot one\\n\")
os.write(1, b\"do\" b\"ne\\n\")";
    std::fs::write(site.file("counter"), counter).unwrap();
    terminal.command(&supervised("python3 \"$MENTIKO_INSTANCE/counter\""));
    terminal.expect("ready");
    terminal.types(CTRL_C);
    assert_eq!(terminal.expect("done").matches("got one").count(), 1);
    terminal.expect("prompt> ");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn a_supervised_agent_is_a_job_of_the_shell() {
    let site = Site::with_two_agents().unfenced();
    let mut terminal = Terminal::shell(&site);
    let modes = terminal.modes();
    terminal.command(&supervised("sh -c 'echo re''ady $$.; read -r line; echo \"g\"\"ot $line\"; exit 9'"));
    terminal.expect("ready ");
    let agent = number(&terminal.expect("."));
    let wrapper = parent(agent);
    for _ in 0..2 {
        terminal.types(CTRL_Z);
        terminal.expect("Stopped");
        terminal.expect("prompt> ");
        assert_eq!((state(wrapper), state(agent)), (Some('T'), Some('T')));
        assert_eq!(terminal.status(), 128 + libc::SIGSTOP);
        terminal.command("fg");
        wait_until("both go on", || state(wrapper) == Some('S') && state(agent) == Some('S'));
    }
    terminal.command("text");
    terminal.expect("got text");
    terminal.expect("prompt> ");
    assert_eq!(terminal.status(), 9);
    assert!(is_gone(agent) && is_gone(wrapper));
    // In the background, where reading from the terminal stops it.
    terminal.command(&format!("{} &", supervised("sh -c 'echo re''ady $$.; read -r line; exit 8'")));
    terminal.expect("ready ");
    let agent = number(&terminal.expect("."));
    wait_until("it is stopped", || state(agent) == Some('T') && state(parent(agent)) == Some('T'));
    terminal.command("fg");
    wait_until("it goes on", || state(agent) == Some('S'));
    terminal.command("text");
    wait_until("it is gone", || is_gone(agent));
    terminal.expect("prompt> ");
    assert_eq!(terminal.status(), 8);
    assert_eq!(terminal.modes(), modes);
}

/// A terminal that goes away tells its session's leader alone, and that is the wrapper where a
/// terminal program or `ssh -t` runs it without a shell.
#[test]
fn a_terminal_that_goes_away_is_known_to_the_agent() {
    let site = Site::with_two_agents().unfenced();
    for option in ["--supervise", "--mask"] {
        let told = site.file(&format!("told{option}"));
        let script = "trap 'echo told > \"$0\"; exit 6' HUP; echo ready $$.; while :; do sleep 0.02; done";
        let options = ["--chain", "c", "--agent", "one", option, "--", "sh", "-c", script, told.to_str().unwrap()];
        let mut terminal = Terminal::run(&site, EXEC, &options);
        terminal.expect("ready ");
        let agent = number(&terminal.expect("."));
        // Closed as a terminal program that is killed closes it.
        let Terminal { master, .. } = &mut terminal;
        let other = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        drop(std::mem::replace(master, other));
        wait_until("the agent is told", || told.exists());
        wait_until("the agent is gone", || is_gone(agent));
        let mut status = None;
        wait_until("the wrapper ends", || {
            status = terminal.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(6), "{option}");
    }
}

// Masked: the agent has a terminal of its own.

#[test]
fn keys_that_send_signals_reach_a_masked_agent() {
    let site = Site::with_two_agents().unfenced();
    for (key, status) in [(CTRL_C, 130), (CTRL_BACKSLASH, 131)] {
        let mut terminal = Terminal::masked(&site, &["sh", "-c", "echo \"ready <$A>\"; exec sleep 60"]);
        terminal.expect("ready <[A]>\r\n");
        terminal.types(key);
        assert_eq!(terminal.end(), Some(status));
        assert!(!terminal.seen.contains(A));
    }
}

/// The agent leads a session of its own, and no shell in there could continue it: the kernel does
/// not stop it, and the key is without effect.
#[test]
fn a_masked_agent_on_a_terminal_is_not_suspended() {
    let site = Site::with_two_agents().unfenced();
    let script = "echo ready $$.; read -r line; echo \"got $line\"; exit 9";
    let mut terminal = Terminal::masked(&site, &["sh", "-c", script]);
    terminal.expect("ready ");
    let agent = number(&terminal.expect("."));
    terminal.types(CTRL_Z);
    terminal.types("text\n");
    terminal.expect("got text");
    assert_ne!(state(agent), Some('T'));
    assert_eq!(terminal.end(), Some(9));
}

#[test]
fn a_masked_agent_knows_the_size_of_the_window() {
    let site = Site::with_two_agents().unfenced();
    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done";
    let mut terminal = Terminal::masked(&site, &["sh", "-c", script]);
    terminal.expect("25 80\r\n");
    for (rows, columns) in [(50, 132), (10, 40)] {
        set_window_size(&terminal.master, &size(rows, columns));
        terminal.expect(&format!("{rows} {columns}\r\n"));
    }
    terminal.types(CTRL_C);
    assert_eq!(terminal.end(), Some(130));
}

#[test]
fn programs_that_take_the_whole_screen_work_masked() {
    let site = Site::with_two_agents().unfenced();
    let lines: String = (1..=200).map(|number| format!("line {number} of {A}.\n")).collect();
    std::fs::write(site.file("lines"), lines).unwrap();
    let path = site.file("lines");
    let path = path.to_str().unwrap();
    let mut terminal = Terminal::masked(&site, &["less", path]);
    terminal.expect("line 1 of [A].");
    assert!(terminal.is_raw());
    // To the end, and to what is looked for: answers of less to single keys.
    terminal.types("G");
    terminal.expect("line 200 of [A].");
    terminal.types("/line 7[79]\r");
    terminal.types("1G");
    terminal.expect("line 1 of [A].");
    terminal.types("q");
    assert_eq!(terminal.end(), Some(0));
    assert!(!terminal.seen.contains(A));
    assert!(!terminal.is_raw());
}

#[test]
fn the_terminal_is_as_before_however_a_masked_agent_ends() {
    let site = Site::with_two_agents().unfenced();
    let mut terminal = Terminal::shell(&site);
    let masked = |script: &str| format!("\"$EXEC\" --chain c --agent one --mask -- sh -c '{script}'");
    // The shell has modes of its own while it edits a line; these are those of commands.
    terminal.command("stty -a > \"$MENTIKO_INSTANCE/before\"");
    terminal.expect("prompt> ");
    for (script, end, status) in [
        ("echo re\"\"ady $$.; read -r line; exit 3", None, 3),
        ("echo re\"\"ady $$.; exec sleep 60", Some(libc::SIGKILL), 137),
        ("echo re\"\"ady $$.; exec sleep 60", Some(libc::SIGTERM), 143),
        ("stty raw -echo; echo re\"\"ady $$.; exec sleep 60", Some(libc::SIGKILL), 137),
    ] {
        let line = format!("{}; echo stat''us: $?.; stty -a > \"$MENTIKO_INSTANCE/after\"", masked(script));
        terminal.command(&line);
        terminal.expect("ready ");
        let agent = number(&terminal.expect("."));
        wait_until("keys are passed on as they are", || terminal.is_raw());
        match end {
            None => terminal.types("text\n"),
            Some(signal) => send_signal(agent, signal).unwrap(),
        }
        terminal.expect("status: ");
        assert_eq!(terminal.expect("."), status.to_string());
        terminal.expect("prompt> ");
        let read = |name| std::fs::read_to_string(site.file(name)).unwrap();
        assert_eq!(read("after"), read("before"), "{script}");
    }
}

#[test]
fn a_stream_that_goes_elsewhere_is_masked_beside_the_terminal() {
    let site = Site::with_two_agents().unfenced();
    let mut terminal = Terminal::shell(&site);
    terminal.command(
        "echo input | \"$EXEC\" --chain c --agent one --mask -- sh -c 'cat; echo \"re\"\"ady $A\"; echo \"$A\" >&2; \
         test -t 1 && ! test -t 2 && ! test -t 0; exit $?' 2> \"$MENTIKO_INSTANCE/errors\"",
    );
    terminal.expect("ready [A]");
    terminal.expect("prompt> ");
    assert_eq!(terminal.status(), 0);
    assert_eq!(std::fs::read_to_string(site.file("errors")).unwrap(), "[A]\n");
}

/// Nobody waits at the terminal of whoever only writes to it.
#[test]
fn without_a_keyboard_ctrl_c_reaches_a_masked_agent_too() {
    let site = Site::with_two_agents().unfenced();
    let mut terminal = Terminal::shell(&site);
    terminal.command("\"$EXEC\" --chain c --agent one --mask -- sh -c 'echo re\"\"ady; exec sleep 60' < /dev/null");
    terminal.expect("ready");
    terminal.types(CTRL_C);
    terminal.expect("prompt> ");
    assert_eq!(terminal.status(), 130);
}
