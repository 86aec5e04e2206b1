//! What stands between the agent's output and the caller's: a pseudo-terminal where the caller has
//! a terminal, pipes elsewhere.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, getpgrp, pipe2, setsid, tcgetpgrp};

use crate::launch::{Failure, Status};
use crate::memory;

/// Both sides of everything, before the fork: what can fail must fail before there is an agent.
#[derive(Debug)]
pub struct Plumbing {
    ends: Ends,
    /// The agent's terminal.
    terminal: Option<OwnedFd>,
    /// Pipes for those of standard output and error that are no terminals.
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
}

/// One stream of the agent, on the supervisor's side.
#[derive(Debug)]
pub(super) struct Stream {
    /// What the agent writes.
    pub(super) source: OwnedFd,
    /// Where it goes.
    pub(super) outlet: OwnedFd,
}

impl Stream {
    /// The most that can wait in it.
    pub(super) fn capacity(&self) -> usize {
        let size = fcntl(&self.source, FcntlArg::F_GETPIPE_SZ).ok().and_then(|size| usize::try_from(size).ok());
        // A terminal holds less.
        size.unwrap_or(1 << 20)
    }
}

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) streams: Vec<Stream>,
    pub(super) terminal: Option<Terminal>,
}

impl Plumbing {
    /// What the caller's standard output and error call for.
    pub fn new() -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::new(Status::Other, format!("can't set up --mask: {errno}"));
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let mut ends = Ends { streams: Vec::new(), terminal: None };
        let output = if out { None } else { Some(pipe(1, &mut ends).map_err(failed)?) };
        let error = if err { None } else { Some(pipe(2, &mut ends).map_err(failed)?) };
        let terminal = match (out, err) {
            (true, _) => Some(terminal(1, std::io::stdout(), &mut ends).map_err(failed)?),
            (_, true) => Some(terminal(2, std::io::stderr(), &mut ends).map_err(failed)?),
            _ => None,
        };
        Ok(Self { ends, terminal, output, error })
    }

    /// In the agent's process: its standard streams. The agent gets a session of its own where it
    /// gets a terminal of its own.
    pub(in crate::launch) fn attach(self) -> Result<(), Errno> {
        if let Some(slave) = self.terminal {
            drop(self.ends);
            setsid()?;
            memory::take_terminal(&slave)?;
            if std::io::stdin().is_terminal() {
                dup2_stdin(&slave)?;
            }
            if self.output.is_none() {
                dup2_stdout(&slave)?;
            }
            if self.error.is_none() {
                dup2_stderr(&slave)?;
            }
        }
        if let Some(write) = &self.output {
            dup2_stdout(write)?;
        }
        if let Some(write) = &self.error {
            dup2_stderr(write)?;
        }
        Ok(())
    }

    /// In the supervisor: what to read, and where it goes.
    pub(super) fn ends(self) -> Ends {
        self.ends
    }
}

/// A pipe in the place of a standard stream: the agent's end.
fn pipe(number: i32, ends: &mut Ends) -> Result<OwnedFd, Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // Larger than usual, for fewer changes between agent and supervisor; not needed.
    let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(1 << 18));
    ends.streams.push(Stream { source: unblocking(read)?, outlet: outlet(number)? });
    Ok(write)
}

/// A pseudo-terminal that is as the caller's: the agent's side.
fn terminal(number: i32, like: impl AsFd, ends: &mut Ends) -> Result<OwnedFd, Errno> {
    let pair = openpty(memory::window_size(&like).as_ref(), tcgetattr(&like).ok().as_ref())?;
    for fd in [&pair.master, &pair.slave] {
        fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    let master = unblocking(pair.master)?;
    ends.terminal = Some(Terminal { master: master.try_clone().map_err(|_| Errno::EMFILE)?, before: None });
    ends.streams.push(Stream { source: master, outlet: outlet(number)? });
    Ok(pair.slave)
}

fn unblocking(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(fd)
}

/// A way to the caller's output on which writing does not block, so that signals are passed on
/// while nobody reads. Opened anew, for the flag belongs to everyone who shares the open file; where
/// that can't be (a socket), shared as it is.
fn outlet(number: i32) -> Result<OwnedFd, Errno> {
    // Nor does opening: it would wait for the reader of a named pipe, and take a terminal for ours.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let opened = File::options().write(true).custom_flags(flags).open(format!("/proc/self/fd/{number}"));
    let is_pipe_or_terminal = |file: &File| {
        file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo() || metadata.file_type().is_char_device())
    };
    if let Ok(file) = opened
        && is_pipe_or_terminal(&file)
    {
        return unblocking(file.into());
    }
    let shared = if number == 1 {
        std::io::stdout().as_fd().try_clone_to_owned()
    } else {
        std::io::stderr().as_fd().try_clone_to_owned()
    };
    shared.map_err(|_| Errno::EMFILE)
}

/// The caller's terminal, which passes every key on as it is, and the agent's.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    before: Option<Termios>,
}

impl Terminal {
    /// Whether there is a keyboard to pass on; then the caller's terminal is made raw, for the
    /// agent's own interprets the keys. Not while another job has the terminal.
    pub(super) fn take_over(&mut self) -> bool {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() || tcgetpgrp(&stdin) != Ok(getpgrp()) {
            return false;
        }
        let Ok(before) = tcgetattr(&stdin) else { return false };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        if tcsetattr(&stdin, SetArg::TCSADRAIN, &raw).is_err() {
            return false;
        }
        self.before = Some(before);
        true
    }

    /// The window's size, from the caller's terminal to the agent's; the kernel tells the agent.
    pub(super) fn follow_size(&self) {
        let size = memory::window_size(std::io::stdout()).or_else(|| memory::window_size(std::io::stderr()));
        if let Some(size) = size {
            memory::set_window_size(&self.master, &size);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}
