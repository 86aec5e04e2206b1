//! The promises about memory and system calls, tried on real processes.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod launch_faults;
mod log_faults;
mod memory;
mod syscalls;
mod trace;
mod tracer;
