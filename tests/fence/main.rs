//! The fence, and `--user`, against an agent that wants out.
//!
//! An agent that is to be kept out of its own user's files is an ordinary user's. Where the tests
//! run as root, such users are made: mentiko-fence, and mentiko-fence-bus.
#![allow(
    unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs
)]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod doors;
mod life;
mod limits;
mod other_user;
mod person;
mod record;
