//! One installation: where its files are, how they may be opened, where its key comes from.

mod config;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod json;
mod key;
mod locate;
mod prompt;
mod random;
#[cfg(feature = "admin")]
mod replace;
mod trusted;

use std::path::PathBuf;

pub use uuid::Uuid;

pub use config::{ApprovalPolicy, AuditSync, Fence, Instance, Policy};
pub use json::{Tree, kind_of};
pub use key::{InstanceKey, KeySource, MAX_PASSPHRASE, RECOVERY_KEY, read_key, read_secret, without_newline};
pub use locate::find;
#[cfg(feature = "admin")]
pub(crate) use locate::{below_home, variable};
pub use prompt::ask;
#[cfg(feature = "admin")]
pub(crate) use prompt::previous_character;
pub use random::{fill, uuid_v7};
#[cfg(feature = "admin")]
pub use replace::PendingKey;
#[cfg(feature = "admin")]
pub(crate) use replace::{beside, replace_file, replace_with, sync_folder};
#[cfg(feature = "admin")]
pub(crate) use trusted::folder_of;
pub use trusted::{Access, open as open_trusted, open_at, open_folder, open_with_folder, read as read_trusted};
pub(crate) use trusted::{open_or_make_at, read_up_to};

/// What is wrong with an instance's files, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no instance where one was looked for.
    #[error("no instance at {path}: run 'mentiko init', or name one with --instance DIR")]
    NoInstance {
        /// The folder looked at.
        path: PathBuf,
    },
    /// A file can't be opened or read.
    #[error("can't {what} {path}: {error}")]
    File {
        /// The verb: `open`, `read`, `write` ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file that decides or opens could have been put there by somebody else.
    #[error("{path} {fault}; {mend}")]
    Untrusted {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
        /// The command that mends it.
        mend: String,
    },
    /// A JSON file does not say what it should.
    #[error("{path}: {fault}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The field, the fault and the mend.
        fault: String,
    },
    /// The instance key can't be had.
    #[error("no instance key: {0}")]
    Key(String),
    /// What must be asked for can't be.
    #[error(
        "there is no terminal to ask on ({0}); give a passphrase by --passphrase-fd N, a value on standard input or by --value-fd N"
    )]
    NoTerminal(std::io::Error),
    /// The person asked did not want to answer.
    #[error("cancelled; nothing was changed")]
    Cancelled,
    /// Locked memory can't be had.
    #[error(transparent)]
    Memory(#[from] crate::memory::Error),
    /// The home of an instance can't be told.
    #[error("neither --instance, MENTIKO_INSTANCE, XDG_CONFIG_HOME nor HOME says where the instance is")]
    NoHome,
    /// The kernel gave no randomness.
    #[error("no randomness from the kernel: {0}")]
    Random(getrandom::Error),
}

impl Error {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>, error: impl Into<std::io::Error>) -> Self {
        Self::File { what, path: path.into(), error: error.into() }
    }
}
