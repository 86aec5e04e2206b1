//! Memory that holds keys and values, and the protection of this process.
//!
//! This is the one place with unsafe code. Everything above it works on slices that an
//! [`Arena`] hands out, and never sees a pointer.
#![allow(unsafe_code)]

mod arena;
mod children;
mod kernel;
mod protect;
mod stack;
mod wiper;

// For the one static file that packaging/build-static makes.
#[cfg(any(test, target_env = "musl"))]
mod heap;

// For `mentiko` alone.
#[cfg(feature = "admin")]
mod allocator;
#[cfg(feature = "admin")]
mod mapped;
#[cfg(feature = "admin")]
mod more;

pub use arena::{Arena, Protection};
pub use children::{
    Change, changed_child, default_sigchld, ignore_sigchld, send_signal, set_window_size, take_terminal, window_size,
};
#[cfg(any(test, target_env = "musl"))]
pub use heap::LaunchHeap;
pub use kernel::{Forked, adopt, fork, is_open, mark_close_on_exec, restore_signals, wipe};
pub use protect::{CoreFiles, protect_self, restore_core_limit};
pub use stack::{with_wiped_frames, with_wiped_stack};
pub use wiper::wipe_after_exec;
#[cfg(feature = "admin")]
pub use {
    allocator::{WipingAllocator, wipe_freed_memory},
    mapped::Mapped,
    more::{equal, landlock_version, open_process, signal_process},
};

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
