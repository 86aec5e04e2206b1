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

/// Both ends of everything, before the fork.
#[derive(Debug)]
pub struct Plumbing {
    /// The caller's terminal, and the pseudo-terminal's two sides.
    terminal: Option<(OwnedFd, OwnedFd)>,
    /// Pipes for those of standard output and error that are no terminals: read, write.
    output: Option<(OwnedFd, OwnedFd)>,
    error: Option<(OwnedFd, OwnedFd)>,
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
        let pipe = |is_terminal: bool| -> Result<Option<(OwnedFd, OwnedFd)>, Failure> {
            if is_terminal {
                return Ok(None);
            }
            let ends = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
            // Larger than usual, for fewer changes between agent and supervisor; not needed.
            let _ = fcntl(&ends.0, FcntlArg::F_SETPIPE_SZ(1 << 18));
            Ok(Some(ends))
        };
        let terminal = match out || err {
            false => None,
            true => {
                let size = match out {
                    true => memory::window_size(std::io::stdout()),
                    false => memory::window_size(std::io::stderr()),
                };
                let modes = if out { tcgetattr(std::io::stdout()) } else { tcgetattr(std::io::stderr()) }.ok();
                let pair = openpty(size.as_ref(), modes.as_ref()).map_err(failed)?;
                for fd in [&pair.master, &pair.slave] {
                    fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).map_err(failed)?;
                }
                Some((pair.master, pair.slave))
            }
        };
        Ok(Self { terminal, output: pipe(out)?, error: pipe(err)? })
    }

    /// In the agent's process: its standard streams. The agent gets a session of its own where it
    /// gets a terminal of its own.
    pub(in crate::launch) fn attach(self) -> Result<(), Errno> {
        if let Some((master, slave)) = self.terminal {
            drop(master);
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
        if let Some((_, write)) = &self.output {
            dup2_stdout(write)?;
        }
        if let Some((_, write)) = &self.error {
            dup2_stderr(write)?;
        }
        Ok(())
    }

    /// In the supervisor: what to read, and where it goes.
    pub(super) fn ends(self) -> Result<Ends, Errno> {
        let mut streams = Vec::new();
        let mut terminal = None;
        let outlet_of_terminal = if self.output.is_none() { 1 } else { 2 };
        if let Some((read, _)) = self.output {
            streams.push(Stream { source: unblocking(read)?, outlet: outlet(1)? });
        }
        if let Some((read, _)) = self.error {
            streams.push(Stream { source: unblocking(read)?, outlet: outlet(2)? });
        }
        if let Some((master, _)) = self.terminal {
            let master = unblocking(master)?;
            terminal = Some(Terminal { master: master.try_clone().map_err(|_| Errno::EMFILE)?, before: None });
            streams.push(Stream { source: master, outlet: outlet(outlet_of_terminal)? });
        }
        Ok(Ends { streams, terminal })
    }
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
