//! The access log: one JSON line for each grant and each denial, written before the agent sees a
//! byte, chained by hashes and authenticated by MACs.

mod append;
#[cfg(feature = "admin")]
mod filter;
#[cfg(feature = "admin")]
mod follow;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod origin;
#[cfg(feature = "admin")]
mod prune;
mod record;
#[cfg(feature = "admin")]
mod scan;
#[cfg(feature = "admin")]
mod search;
mod segments;
mod tail;
#[cfg(test)]
mod tampering;
#[cfg(feature = "admin")]
mod verify;

use std::path::PathBuf;

#[cfg(feature = "admin")]
pub use append::Hold;
pub use append::{Log, Recorded};
#[cfg(feature = "admin")]
pub use filter::{Filter, parse_time};
#[cfg(feature = "admin")]
pub use follow::{Follower, follow};
pub use origin::Origin;
#[cfg(feature = "admin")]
pub use prune::{NextStub, Pruning, finish_pruning};
pub use record::{Entry, Event, Outcome, Record};
#[cfg(feature = "admin")]
pub use search::search;
#[cfg(feature = "admin")]
pub use segments::segments;
#[cfg(feature = "admin")]
pub use verify::{Expected, Fault, Report, ending, head, verify};

/// Why the log can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the log can't be used.
    #[error("access log: can't {what} {path}: {error}")]
    File {
        /// The verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The record is in the file, and may not be on stable storage.
    #[error("access log: can't sync {path}: {error}")]
    Unsynced {
        /// The segment.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The key is not the log's any more.
    #[error("the instance's keys were rotated meanwhile, or its vault can't be looked at; run it again")]
    Rotated,
    /// The segment is not one that this user may trust.
    #[error("access log: {0}")]
    Instance(#[from] crate::instance::Error),
    /// A record can't be put into words.
    #[error("access log: can't write a record: {0}")]
    Json(serde_json::Error),
}

impl Error {
    fn file(what: &'static str, path: impl Into<PathBuf>, error: impl Into<std::io::Error>) -> Self {
        Self::File { what, path: path.into(), error: error.into() }
    }
}
