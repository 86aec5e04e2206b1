//! The sealed vault, format 1: `docs/vault-format.md` states it to the byte.
//!
//! Nothing is parsed before its MAC or tag has been checked, but the fixed-size fields of the
//! header. A sealed value becomes a [`Secret`] only through a grant.

mod approval;
mod bytes;
mod crypto;
mod header;
mod keys;
mod pins;
mod place;
mod read;
mod record;
mod rotation;
mod runs;
mod secret;
mod slots;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod known_answers;
#[cfg(test)]
pub(crate) mod whole_tests;

// For `mentiko` alone.
#[cfg(feature = "admin")]
mod edit;
#[cfg(feature = "admin")]
mod encode;
#[cfg(feature = "admin")]
mod eras;
#[cfg(feature = "admin")]
mod ledger;
#[cfg(feature = "admin")]
mod rekey;
#[cfg(feature = "admin")]
mod upkeep;
#[cfg(feature = "admin")]
mod values;
#[cfg(feature = "admin")]
mod whole;
#[cfg(feature = "admin")]
mod write;

use std::path::PathBuf;

pub use approval::Approval;
pub use crypto::{hmac, hmac_is, sha256};
pub use header::MAX_BUCKETS;
pub use keys::{AuditKey, LogKey, RootKey};
pub use pins::Pins;
pub use read::{Contents, Vault};
pub use record::{Record, Sealed, State, Version};
pub use rotation::{Rotation, now};
pub use runs::{Runs, RunsLock};
pub use secret::Secret;
pub use slots::{PassphraseCost, SLOTS as KEY_SLOTS, SlotKind};
#[cfg(feature = "admin")]
pub use {
    edit::{MAX_NOTE, MAX_VALUE},
    eras::{AuditKeys, MacChecker, MacCheckers},
    ledger::{Era, Ledger},
    rekey::{KeySlot, NewRoot},
    values::Value,
    write::{WriteLock, create},
};

/// What can be wrong with a vault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be opened as it must be, or the arena is full.
    #[error(transparent)]
    Instance(#[from] crate::instance::Error),
    /// Locked memory can't be had.
    #[error(transparent)]
    Memory(#[from] crate::memory::Error),
    /// The file is not a vault of this format, or some byte of it changed.
    #[error("{path}: the vault is damaged: {what}; restore it from a backup")]
    Damaged {
        /// The vault.
        path: PathBuf,
        /// Where the damage is.
        what: String,
    },
    /// The pins of a run are not what was written for it.
    #[error("{path}: the pins of run '{run}' are damaged; end it with 'mentiko run end {run}' and start a new one")]
    Pins {
        /// Their file.
        path: PathBuf,
        /// The run.
        run: crate::policy::RunId,
    },
    /// No slot opens under this key.
    #[error("{path}: {fault}")]
    WrongKey {
        /// The vault.
        path: PathBuf,
        /// What was tried, and what may be wrong with it.
        fault: &'static str,
    },
    /// What is to be sealed is larger than the format allows.
    #[error("it is larger than the vault's format allows")]
    TooLarge,
    /// Each slot has a key.
    #[cfg(feature = "admin")]
    #[error("all 8 key slots are in use; empty one with 'mentiko key remove N'")]
    NoFreeSlot,
    /// The vault holds as much as it can.
    #[cfg(feature = "admin")]
    #[error("the vault holds 1000000 secrets, its largest number")]
    Full,
}
