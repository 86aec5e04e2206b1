//! What was approved for a chain: the part of the ledger that a launch reads.

use super::bytes::{Malformed, Reader};
use super::{Error, Vault};
use crate::policy::ChainName;

/// Bytes of a retired key of the access log: key, number, hash, time.
pub(super) const RETIRED: usize = 32 + 8 + 32 + 8;

/// A chain definition that a person agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// When: seconds since 1970, UTC.
    pub time: u64,
    /// What: the canonical text of a definition.
    pub definition: String,
}

impl Vault<'_> {
    /// What was approved for a chain, where anything was.
    pub fn approval(&self, chain: &ChainName) -> Result<Option<Approval>, Error> {
        approval_of(&self.ledger_plain()?, chain).map_err(|Malformed| self.damaged("the ledger".into()))
    }
}

/// What was approved for one chain. Passes over the keys without a copy of them.
pub(super) fn approval_of(plain: &[u8], chain: &ChainName) -> Result<Option<Approval>, Malformed> {
    let mut reader = Reader::new(plain);
    retired(&mut reader)?;
    let mut found = None;
    for _ in 0..reader.u32()? {
        let (name, approval) = approval(&mut reader)?;
        if name == *chain {
            found = Some(approval);
        }
    }
    reader.finish()?;
    Ok(found)
}

pub(super) fn retired<'p>(reader: &mut Reader<'p>) -> Result<&'p [u8], Malformed> {
    let count = usize::from(reader.u16()?);
    reader.take(count * RETIRED)
}

pub(super) fn approval(reader: &mut Reader<'_>) -> Result<(ChainName, Approval), Malformed> {
    let chain = reader.text()?.parse().map_err(|_| Malformed)?;
    Ok((chain, Approval { time: reader.u64()?, definition: reader.long_text()?.to_owned() }))
}
