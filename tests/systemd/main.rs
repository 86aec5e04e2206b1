//! The units of packaging/systemd, under a real systemd.
//!
//! As root, a systemd is started as the first process of namespaces of its own. An ordinary user
//! can't have one (it needs a cgroup to write to), and has systemd-analyze look at the units.
#![allow(
    unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs
)]

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod dynamic;
mod machine;
mod timer;
mod units;
