//! The keys that come from the root key. Each label stands for one use.

use std::sync::Arc;

use super::Error;
use super::crypto::{self, Key};
use super::place::Place;
use crate::memory::{Arena, with_wiped_frames};
use crate::policy::SecretName;

/// The vault's 32 random bytes, in the arena: everything in it opens under keys derived from them.
#[derive(Clone, Copy)]
pub struct RootKey<'a>(pub(super) &'a [u8; 32]);

impl std::fmt::Debug for RootKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[root key]")
    }
}

/// The key of the access log's MACs, in the arena: it is needed to the last, when nothing secret may
/// lie anywhere else.
#[derive(Clone, Copy)]
pub struct AuditKey<'a>(pub(super) &'a [u8; 32]);

impl<'a> AuditKey<'a> {
    /// HMAC-SHA256 of a line's bytes before its `mac` field.
    ///
    /// Finishing moves the hash states, which are as good as the key, and leaves copies of them on
    /// the stack; this key is used outside of any other wiping.
    pub fn mac(&self, line: &[u8]) -> [u8; 32] {
        with_wiped_frames(|| crypto::hmac(self.0, &[line]))
    }
}

impl std::fmt::Debug for AuditKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[audit key]")
    }
}

/// The log's key with the vault that it came from: what a line is appended with.
#[derive(Clone, Debug)]
pub struct LogKey<'a> {
    key: AuditKey<'a>,
    place: Arc<Place>,
}

impl<'a> LogKey<'a> {
    pub(super) fn new(key: AuditKey<'a>, place: Arc<Place>) -> Self {
        Self { key, place }
    }

    /// One that a test chose, of a vault that nobody replaces.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(key: &'a [u8; 32]) -> Self {
        Self::new(AuditKey(key), Arc::new(Place::of_test()))
    }

    /// The key alone.
    pub fn key(&self) -> AuditKey<'a> {
        self.key
    }

    /// Whether it is still the instance's. Only sure while the log is locked: see
    /// [`crate::audit::Log::append`].
    pub fn is_current(&self) -> bool {
        self.place.is_current()
    }
}

impl RootKey<'_> {
    pub(super) fn header(&self) -> Key {
        self.derive(&[b"mentiko/1 header"])
    }

    pub(super) fn index(&self) -> Key {
        self.derive(&[b"mentiko/1 index"])
    }

    /// The key of the access log.
    pub(super) fn audit<'a>(&self, arena: &'a Arena) -> Result<AuditKey<'a>, Error> {
        let key = arena.key()?;
        with_wiped_frames(|| *key = *self.derive(&[b"mentiko/1 audit"]));
        Ok(AuditKey(key))
    }

    /// Seals one bucket of one generation: never used twice, for the write salt is fresh.
    pub(super) fn bucket(&self, write_salt: &[u8; 32], generation: u64, index: u32) -> Key {
        self.derive(&[b"mentiko/1 bucket", write_salt, &generation.to_le_bytes(), &index.to_le_bytes()])
    }

    /// Seals the ledger of one generation: as above.
    pub(super) fn ledger(&self, write_salt: &[u8; 32], generation: u64) -> Key {
        self.derive(&[b"mentiko/1 ledger", write_salt, &generation.to_le_bytes()])
    }

    /// Seals one version of one value: never used twice, for the salt of its context is fresh.
    pub(super) fn value(&self, context: &[u8]) -> Key {
        self.derive(&[context])
    }

    /// Seals the pins of one run once: never used twice, for the salt is fresh.
    pub(super) fn run(&self, salt: &[u8; 32]) -> Key {
        self.derive(&[b"mentiko/1 run", salt])
    }

    fn derive(&self, info: &[&[u8]]) -> Key {
        crypto::hkdf(self.0, &[], info)
    }
}

/// What a sealed value is bound to, by its key and as its associated data: it opens as this version
/// of this secret of this vault only.
pub(super) fn value_context(vault_id: &[u8; 16], name: &SecretName, version: u32, salt: &[u8; 32]) -> Vec<u8> {
    let name = name.as_str().as_bytes();
    // A name has at most 128 bytes.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    [b"mentiko/1 value", &vault_id[..], &length.to_le_bytes(), name, &version.to_le_bytes(), salt].concat()
}
