//! Kernel calls that only `mentiko` makes, each made safe here.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Which version of Landlock the kernel has, if it has any (landlock_create_ruleset(2)).
pub fn landlock_version() -> Result<libc::c_long, Errno> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no attributes, and only answers.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    Errno::result(answer)
}

/// Compares in a time that depends on the lengths only.
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    // SAFETY: both pointers are valid for the one length that both slices have.
    left.len() == right.len() && unsafe { memsec::memeq(left.as_ptr(), right.as_ptr(), left.len()) }
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
}
