//! Memory that holds keys and values, and the protection of this process.
//!
//! This is the one place with unsafe code. Everything above it works on slices that an
//! [`Arena`] hands out, and never sees a pointer.
#![allow(unsafe_code)]

#[cfg(feature = "admin")]
mod allocator;
mod arena;
mod kernel;
#[cfg(feature = "admin")]
mod mapped;
mod protect;
mod stack;
mod wiper;

#[cfg(feature = "admin")]
pub use allocator::{WipingAllocator, wipe_freed_memory};
pub use arena::{Arena, Protection};
#[cfg(feature = "admin")]
pub use kernel::landlock_version;
pub use kernel::{
    Change, Forked, adopt, changed_child, default_sigchld, equal, fork, ignore_sigchld, is_open, mark_close_on_exec,
    open_process, restore_signals, send_signal, set_window_size, signal_process, take_terminal, window_size, wipe,
};
#[cfg(feature = "admin")]
pub use mapped::Mapped;
pub use protect::{CoreFiles, protect_self, restore_core_limit};
pub use stack::with_wiped_stack;
pub use wiper::wipe_after_exec;

/// What can go wrong before any secret is read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lends no more locked memory.
    #[error("can't lock {size} bytes of memory: {errno}; raise RLIMIT_MEMLOCK (ulimit -l, or LimitMEMLOCK= in a unit)")]
    Lock {
        /// How much was asked for.
        size: usize,
        /// What the kernel answered.
        errno: nix::errno::Errno,
    },
    /// A protection of the process could not be had.
    #[error("can't {what}: {errno}")]
    Protect {
        /// Which protection.
        what: &'static str,
        /// What the kernel answered.
        errno: nix::errno::Errno,
    },
}
