//! The pages: each draws what the state says.

pub(super) mod chains;
pub(super) mod log;
pub(super) mod rotation;
pub(super) mod runs;
pub(super) mod secrets;

use jiff::Timestamp;

use crate::admin::query::ago;

/// How long ago a time of the log was.
fn age(time: &str, now: Timestamp) -> String {
    time.parse().map_or_else(|_| "-".into(), |time| ago(time, now))
}

/// A time of the log as people read it: UTC, to the second.
fn moment(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

/// What stands where there is nothing.
fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}
