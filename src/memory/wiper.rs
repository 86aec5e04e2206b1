//! Wiping pages that execve(2) releases without zeroing them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{pipe2, read, setsid};

use super::kernel::{Forked, fork};
use super::{Arena, Error, Protection};

/// Sees to it that the arena's pages are wiped once this process has become the agent, or ended.
///
/// The kernel zeroes secretmem when it is released, so nothing is needed there. Pages that are
/// only locked are wiped by a helper that shares them: a grandchild, so that the agent has no
/// child that it doesn't know, which ends within the moment that follows the exec. Where the exec
/// fails, it waits until the arena is dropped: its keys are needed for the record of that.
pub fn wipe_after_exec(arena: &Arena) -> Result<(), Error> {
    match arena.protection() {
        Protection::Secretmem => Ok(()),
        Protection::Mlock => {
            let failed = |errno| Error::Protect { what: "start the helper that wipes memory after exec", errno };
            start_helper(arena).map(|fd| arena.wiped_at_the_end_of(fd)).map_err(failed)
        }
    }
}

/// The descriptor, which execve(2) closes, is what the helper waits for.
fn start_helper(arena: &Arena) -> Result<OwnedFd, Errno> {
    let (ended, alive) = pipe2(OFlag::O_CLOEXEC)?;
    match fork()? {
        Forked::Parent(child) => {
            // ECHILD where the caller ignores SIGCHLD: then the kernel reaped it.
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, 0)) | Err(_) => Ok(alive),
                Ok(_) => Err(Errno::EAGAIN),
            }
        }
        Forked::Child => {
            let status = match fork() {
                Ok(Forked::Child) => {
                    serve(arena, &ended, alive);
                    0
                }
                Ok(Forked::Parent(_)) => 0,
                Err(_) => 1,
            };
            // SAFETY: ends this process at once, without running exit handlers twice.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Waits for the end of the pipe, wipes.
fn serve(arena: &Arena, ended: &OwnedFd, alive: OwnedFd) {
    // Else this process would wait for itself.
    drop(alive);
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    let _ = setsid();
    arena.lock_shared();
    close_all_but(ended.as_raw_fd());
    while read(ended.as_fd(), &mut [0]) == Err(Errno::EINTR) {}
    arena.overwrite_shared();
}

/// Lets go of the caller's terminal and pipes, whose readers wait for the agent, not for us.
fn close_all_but(keep: i32) {
    for (first, last) in [(0, keep - 1), (keep + 1, i32::MAX)] {
        if first <= last {
            // SAFETY: closes descriptors that this process never uses again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}
