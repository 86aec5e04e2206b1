//! The ledger: what the vault keeps beside its secrets, sealed like one more bucket.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::approval::{RETIRED, approval, retired};
use super::bytes::{Malformed, Reader, put_text};
use super::encode::put_long;
use super::{Approval, AuditKey, Error, Vault};
use crate::memory::Arena;
use crate::policy::ChainName;

/// Approvals of chain definitions, and the keys under which the access log was written before.
pub struct Ledger {
    /// As in the file, for the keys are to lie in one place that wipes itself.
    retired: Zeroizing<Vec<u8>>,
    approvals: BTreeMap<ChainName, Approval>,
}

/// A part of the access log that was written under another key than today's.
pub struct Era<'a> {
    /// The key of its lines.
    pub key: &'a [u8; 32],
    /// The number of its last line; 0 where it has none.
    pub last: u64,
    /// The hash of that line.
    pub hash: [u8; 32],
    /// When its key was retired: seconds since 1970, UTC.
    pub time: u64,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("approvals", &self.approvals).finish_non_exhaustive()
    }
}

impl fmt::Debug for Era<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Era").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Vault<'_> {
    /// The ledger. Only who needs it reads it.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        Ledger::parse(&self.ledger_plain()?).map_err(|Malformed| self.damaged("the ledger".into()))
    }
}

impl Ledger {
    /// What a new vault has.
    pub(super) fn empty() -> Self {
        Self { retired: Zeroizing::new(Vec::new()), approvals: BTreeMap::new() }
    }

    pub(super) fn parse(plain: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(plain);
        let retired = Zeroizing::new(retired(&mut reader)?.to_vec());
        let count = reader.u32()?;
        let approvals = (0..count).map(|_| approval(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { retired, approvals })
    }

    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        // Whole from the start: a Vec that grows leaves copies of the keys behind.
        let texts: usize =
            self.approvals.iter().map(|(chain, approval)| chain.as_str().len() + approval.definition.len()).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(self.retired.len() + texts + 16 * self.approvals.len() + 8));
        let count = u16::try_from(self.retired.len() / RETIRED).map_err(|_| Error::TooLarge)?;
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.retired);
        let count = u32::try_from(self.approvals.len()).map_err(|_| Error::TooLarge)?;
        out.extend_from_slice(&count.to_le_bytes());
        for (chain, approval) in &self.approvals {
            put_text(&mut out, chain.as_str())?;
            out.extend_from_slice(&approval.time.to_le_bytes());
            put_long(&mut out, approval.definition.as_bytes())?;
        }
        Ok(out)
    }

    /// What was approved, by chain.
    pub fn approvals(&self) -> &BTreeMap<ChainName, Approval> {
        &self.approvals
    }

    /// Notes an approval in the place of an older one.
    pub fn approve(&mut self, chain: ChainName, approval: Approval) {
        self.approvals.insert(chain, approval);
    }

    /// Notes that the log goes on under another key after the line of this number and hash.
    pub fn retire(&mut self, key: &AuditKey<'_>, last: u64, hash: [u8; 32], time: u64) {
        let mut longer = Zeroizing::new(Vec::with_capacity(self.retired.len() + RETIRED));
        longer.extend_from_slice(&self.retired);
        longer.extend_from_slice(key.bytes());
        longer.extend_from_slice(&last.to_le_bytes());
        longer.extend_from_slice(&hash);
        longer.extend_from_slice(&time.to_le_bytes());
        self.retired = longer;
    }

    /// The parts of the log under retired keys, oldest first, their keys in the arena.
    pub fn eras<'a>(&self, arena: &'a Arena) -> Result<Vec<Era<'a>>, Error> {
        self.retired.chunks_exact(RETIRED).map(|bytes| era(bytes, arena)).collect()
    }
}

fn era<'a>(bytes: &[u8], arena: &'a Arena) -> Result<Era<'a>, Error> {
    let key = arena.key()?;
    let read = |place: &mut [u8; 32]| -> Result<_, Malformed> {
        let mut reader = Reader::new(bytes);
        place.copy_from_slice(reader.take(32)?);
        Ok((reader.u64()?, reader.array()?, reader.u64()?))
    };
    // Entries have their size: they were cut to it.
    let (last, hash, time) = read(key).map_err(|Malformed| Error::TooLarge)?;
    Ok(Era { key, last, hash, time })
}
