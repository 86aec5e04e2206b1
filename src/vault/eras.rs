//! The keys of a whole log: each part of it was written under one.

use hmac::Mac as _;

use super::crypto::{self, HmacSha256};
use super::{AuditKey, Era, Error, Vault};
use crate::memory::Arena;

/// Today's key of the log, and those that were retired.
#[derive(Debug)]
pub struct AuditKeys<'a> {
    current: AuditKey<'a>,
    eras: Vec<Era<'a>>,
}

impl<'a> Vault<'a> {
    /// All keys that lines of the log may be under.
    pub fn audit_keys<'k>(&self, arena: &'k Arena) -> Result<AuditKeys<'k>, Error>
    where
        'a: 'k,
    {
        Ok(AuditKeys { current: self.audit_key(), eras: self.ledger()?.eras(arena)? })
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl<'a> From<AuditKey<'a>> for AuditKeys<'a> {
    /// Of a log whose keys were never rotated.
    fn from(current: AuditKey<'a>) -> Self {
        Self { current, eras: Vec::new() }
    }
}

impl<'a> AuditKeys<'a> {
    /// Today's.
    pub fn current(&self) -> AuditKey<'a> {
        self.current
    }

    /// Where each retired one ends, oldest first: number and hash of its last line.
    pub fn ends(&self) -> impl Iterator<Item = (u64, [u8; 32])> + '_ {
        self.eras.iter().map(|era| (era.last, era.hash))
    }

    /// For checking many lines.
    pub fn checker(&self) -> MacCheckers {
        let retired = self.eras.iter().map(|era| (era.last, AuditKey(era.key).checker())).collect();
        MacCheckers { retired, current: self.current.checker() }
    }
}

/// [`AuditKeys`] made ready to check many MACs; they wipe themselves.
pub struct MacCheckers {
    retired: Vec<(u64, MacChecker)>,
    current: MacChecker,
}

impl MacCheckers {
    /// That of the line of this number, and of no other time: a key that was retired is worth nothing
    /// for what came later.
    pub fn of(&self, seq: u64) -> &MacChecker {
        self.retired.iter().find(|(last, _)| seq <= *last).map_or(&self.current, |(_, checker)| checker)
    }
}

impl<'a> AuditKey<'a> {
    /// For checking many lines.
    pub fn checker(&self) -> MacChecker {
        MacChecker(crypto::keyed(self.0))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(bytes: &'a [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        self.0
    }
}

/// An [`AuditKey`] made ready to check many MACs; wipes itself.
pub struct MacChecker(HmacSha256);

impl MacChecker {
    /// Whether `mac` is that of the line, in constant time.
    pub fn is_mac(&self, line: &[u8], mac: &[u8]) -> bool {
        crypto::over(self.0.clone(), &[line]).verify_slice(mac).is_ok()
    }
}
