//! Kernel calls that have no safe wrapper, each made safe here.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
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
    let mut keep = keep.iter().filter(|&&fd| fd >= 3);
    if !keep.clone().all(|&fd| is_open(fd)) {
        return Err(Errno::EBADF);
    }
    mark_all()?;
    keep.try_for_each(|&fd| set_flags(fd, FdFlag::empty()))
}

fn mark_all() -> Result<(), Errno> {
    // SAFETY: close_range(2) with this flag changes flags of descriptors and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // Kernels before 5.11.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => mark_listed(),
        Err(errno) => Err(errno),
    }
}

/// The same by the list in /proc, where close_range(2) can't do it.
fn mark_listed() -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut list = Dir::open("/proc/self/fd", flags, Mode::empty()).map_err(|_| Errno::ENOSYS)?;
    for entry in list.iter() {
        // A list that ends early would leave the rest to the agent.
        let entry = entry?;
        match entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()) {
            Some(fd) if fd >= 3 => set_flags(fd, FdFlag::FD_CLOEXEC)?,
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

/// Overwrites bytes with zeros in a way that is not optimized away.
pub fn wipe(bytes: &mut [u8]) {
    // SAFETY: the range is exactly the slice.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert_eq!(adopt(2).err(), Some(Errno::EBADF));
        assert_eq!(adopt(-1).err(), Some(Errno::EBADF));
        assert_eq!(adopt(99_999).err(), Some(Errno::EBADF));
        assert_eq!(mark_close_on_exec(&[99_999]).err(), Some(Errno::EBADF));
    }
}
