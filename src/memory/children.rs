//! Kernel calls that only a supervisor makes, each made safe here.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::pty::Winsize;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::Pid;

/// Gives SIGCHLD its default disposition, without which children can't be waited for; whether it
/// was ignored.
pub fn default_sigchld() -> Result<bool, Errno> {
    // SAFETY: the default disposition runs no code of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(|before| matches!(before, SigHandler::SigIgn))
}

/// Ignores SIGCHLD again, as the caller had it.
pub fn ignore_sigchld() -> Result<(), Errno> {
    // SAFETY: ignoring runs no code of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.map(|_| ())
}

/// kill(2) with any number, real-time signals too.
pub fn send_signal(process: Pid, number: i32) -> Result<(), Errno> {
    // SAFETY: the call takes two numbers.
    Errno::result(unsafe { libc::kill(process.as_raw(), number) }).map(|_| ())
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has ended with this exit status.
    Exited(u8),
    /// This signal has ended it.
    Killed(u8),
    /// It was stopped.
    Stopped,
}

/// A child that has changed since the last look, reaped if it has ended; `None` where none has. Errors: wait4(2).
///
/// The safe wrapper reaps a child that a real-time signal ended, and then has no value for it.
pub fn changed_child() -> Result<Option<(Pid, Change)>, Errno> {
    let mut status = 0;
    // SAFETY: writes one number, which the pointer is valid for.
    let pid = Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) })?;
    let number = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    let change = match status {
        _ if libc::WIFEXITED(status) => Change::Exited(number(libc::WEXITSTATUS(status))),
        _ if libc::WIFSIGNALED(status) => Change::Killed(number(libc::WTERMSIG(status))),
        _ => Change::Stopped,
    };
    Ok((pid > 0).then(|| (Pid::from_raw(pid), change)))
}

/// The size of a terminal's window; `None` where there is no terminal.
pub fn window_size(terminal: impl AsFd) -> Option<Winsize> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one Winsize, which the pointer is valid for.
    let answer = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0).then_some(size)
}

/// Sets it; the kernel tells the terminal's foreground processes.
pub fn set_window_size(terminal: impl AsFd, size: &Winsize) {
    // SAFETY: TIOCSWINSZ reads one Winsize.
    unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) };
}

/// Makes a terminal the controlling one of this session, whose leader this process must be.
pub fn take_terminal(terminal: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes a number.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(|_| ())
}
