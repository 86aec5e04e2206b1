//! Kernel calls that have no safe wrapper, each made safe here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::pty::Winsize;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid};

/// Takes over an inherited descriptor that was named on the command line.
///
/// Refuses 0 to 2, which stay the agent's, and numbers that are not open.
pub fn adopt(fd: RawFd) -> Result<OwnedFd, Errno> {
    if fd < 3 || !is_open(fd) {
        return Err(Errno::EBADF);
    }
    // SAFETY: the number was given by the caller of the program for this one purpose, is open,
    // and the program itself opened nothing under it: arguments are read before any file.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets FD_CLOEXEC on every descriptor from 3 up but those in `keep`, and clears it on those.
///
/// EBADF when one of `keep` is not open.
pub fn mark_close_on_exec(keep: &[RawFd]) -> Result<(), Errno> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|&fd| fd >= 3).collect();
    keep.sort_unstable();
    keep.dedup();
    if !keep.iter().all(|&fd| is_open(fd)) {
        return Err(Errno::EBADF);
    }
    let mut first = 3;
    for &fd in &keep {
        if fd > first {
            mark_range(first, fd - 1)?;
        }
        set_flags(fd, FdFlag::empty())?;
        first = fd + 1;
    }
    mark_range(first, RawFd::MAX)
}

fn mark_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    // SAFETY: close_range(2) with this flag changes flags of descriptors and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // Kernels before 5.11.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => mark_listed(first, last),
        Err(errno) => Err(errno),
    }
}

/// The same by the list in /proc, where close_range(2) can't do it.
fn mark_listed(first: RawFd, last: RawFd) -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut list = Dir::open("/proc/self/fd", flags, Mode::empty()).map_err(|_| Errno::ENOSYS)?;
    for entry in list.iter() {
        // A list that ends early would leave the rest to the agent.
        let entry = entry?;
        match entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()) {
            Some(fd) if (first..=last).contains(&fd) => set_flags(fd, FdFlag::FD_CLOEXEC)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether the number is that of an open descriptor.
pub fn is_open(fd: RawFd) -> bool {
    fd >= 0 && with_borrowed(fd, |fd| fcntl(fd, FcntlArg::F_GETFD)).is_ok()
}

fn set_flags(fd: RawFd, flags: FdFlag) -> Result<(), Errno> {
    with_borrowed(fd, |fd| fcntl(fd, FcntlArg::F_SETFD(flags))).map(|_| ())
}

fn with_borrowed<T>(fd: RawFd, call: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: borrowed for one fcntl(2), which answers EBADF where the number is not open.
    // The number is never -1: callers pass 0 and up.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    call(borrowed.as_fd())
}

/// Which version of Landlock the kernel has, if it has any (landlock_create_ruleset(2)).
#[cfg(feature = "admin")]
pub fn landlock_version() -> Result<libc::c_long, Errno> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no attributes, and only answers.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    Errno::result(answer)
}

/// Overwrites bytes with zeros in a way that is not optimized away.
pub fn wipe(bytes: &mut [u8]) {
    // SAFETY: the range is exactly the slice.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) };
}

/// Compares in a time that depends on the lengths only.
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    // SAFETY: both pointers are valid for the one length that both slices have.
    left.len() == right.len() && unsafe { memsec::memeq(left.as_ptr(), right.as_ptr(), left.len()) }
}

static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);
static SIGXFSZ_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Notes what SIGPIPE was before Rust's runtime ignores it, so that the agent can get it back, and
/// ignores SIGXFSZ: where RLIMIT_FSIZE ends a write, it is to fail with a message.
#[cfg(not(miri))] // It knows no sigaction(2).
#[used]
// SAFETY: the section holds pointers to functions that the C runtime calls once, before main.
#[unsafe(link_section = ".init_array")]
static NOTE_SIGNALS: extern "C" fn() = note_signals;

#[cfg(not(miri))]
extern "C" fn note_signals() {
    // SAFETY: all zeros is a valid sigaction: the default disposition, no flags, an empty mask.
    let (mut pipe, mut ignore): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    ignore.sa_sigaction = libc::SIG_IGN;
    let mut size = ignore;
    // SAFETY: a null pointer for the new action leaves the disposition as it is.
    let answer = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut pipe) };
    SIGPIPE_WAS_IGNORED.store(answer == 0 && pipe.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    // SAFETY: both point to a sigaction, and the new one runs no code of ours.
    let answer = unsafe { libc::sigaction(libc::SIGXFSZ, &raw const ignore, &raw mut size) };
    SIGXFSZ_WAS_IGNORED.store(answer == 0 && size.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
}

/// Gives SIGPIPE and SIGXFSZ back the dispositions that this process was started with.
pub fn restore_signals() -> Result<(), Errno> {
    for (what, was_ignored) in [(Signal::SIGPIPE, &SIGPIPE_WAS_IGNORED), (Signal::SIGXFSZ, &SIGXFSZ_WAS_IGNORED)] {
        let handler = match was_ignored.load(Ordering::Relaxed) {
            true => SigHandler::SigIgn,
            false => SigHandler::SigDfl,
        };
        // SAFETY: neither disposition runs code of ours.
        unsafe { signal(what, handler) }?;
    }
    Ok(())
}

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

/// The two sides of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The new process.
    Child,
    /// This one, with the new one's number.
    Parent(Pid),
}

/// fork(2). Both sides may run any code, for this program has one thread.
pub fn fork() -> Result<Forked, Errno> {
    // SAFETY: with one thread, no lock can be held by another that the child does not have.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Forked::Child),
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
    }
}

/// kill(2) with any number, real-time signals too.
pub fn send_signal(process: Pid, number: i32) -> Result<(), Errno> {
    // SAFETY: the call takes two numbers.
    Errno::result(unsafe { libc::kill(process.as_raw(), number) }).map(|_| ())
}

/// A descriptor of a process, which goes on meaning that one when its number is given to another.
pub fn open_process(process: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    let fd = RawFd::try_from(Errno::result(opened)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just opened it, with FD_CLOEXEC, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process of a descriptor from [`open_process`], and to no other.
pub fn signal_process(process: impl AsFd, signal: Signal) -> Result<(), Errno> {
    let information: *const libc::siginfo_t = std::ptr::null();
    let (fd, number) = (process.as_fd().as_raw_fd(), signal as i32);
    // SAFETY: with a null pointer, pidfd_send_signal(2) says of the signal what kill(2) does.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, information, 0) };
    Errno::result(sent).map(|_| ())
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

/// A child that has changed since the last look, reaped if it has ended; `None` where none has.
///
/// The safe wrapper reaps a child that a real-time signal ended, and then has no value for it.
pub fn changed_child() -> Option<(Pid, Change)> {
    let mut status = 0;
    // SAFETY: writes one number, which the pointer is valid for.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    let number = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    let change = match status {
        _ if libc::WIFEXITED(status) => Change::Exited(number(libc::WEXITSTATUS(status))),
        _ if libc::WIFSIGNALED(status) => Change::Killed(number(libc::WTERMSIG(status))),
        _ => Change::Stopped,
    };
    (pid > 0).then(|| (Pid::from_raw(pid), change))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_compares_content_and_length() {
        assert!(equal(b"abc", b"abc"));
        assert!(!equal(b"abc", b"abd"));
        assert!(!equal(b"abc", b"ab"));
        assert!(equal(b"", b""));
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert_eq!(adopt(2).err(), Some(Errno::EBADF));
        assert_eq!(adopt(-1).err(), Some(Errno::EBADF));
        assert_eq!(adopt(99_999).err(), Some(Errno::EBADF));
        assert_eq!(mark_close_on_exec(&[99_999]).err(), Some(Errno::EBADF));
    }
}
