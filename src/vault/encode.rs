//! The other direction of what a reader takes apart: records, slots and the header of a new vault.

use super::bytes::put_text;
use super::crypto;
use super::header::{FORMAT, HEADER, Header, MAGIC};
use super::record::{SCOPE_ALL, SCOPE_CHAINS};
use super::slots::Slot;
use super::{Error, Record, RootKey, Rotation};
use crate::memory::with_wiped_frames;
use crate::policy::Scope;

impl Header {
    /// The header's bytes, with its MAC.
    pub(super) fn encode(&self, root: &RootKey<'_>) -> Vec<u8> {
        let slot_count = self.slots.iter().filter(|slot| !slot.is_none()).count() as u32;
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.vault_id);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.write_salt);
        out.extend_from_slice(&self.bucket_count.to_le_bytes());
        out.extend_from_slice(&slot_count.to_le_bytes());
        for slot in &self.slots {
            slot.write(&mut out);
        }
        let mac = with_wiped_frames(|| crypto::hmac(&root.header(), &[&out]));
        out.extend_from_slice(&mac);
        out
    }
}

impl Slot {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        for parameter in [self.cost.memory, self.cost.passes, self.cost.lanes] {
            out.extend_from_slice(&parameter.to_le_bytes());
        }
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.sealed);
        out.extend_from_slice(&self.tag);
    }
}

impl Record {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        put_text(out, self.name.as_str())?;
        match &self.scope {
            Scope::All => out.push(SCOPE_ALL),
            Scope::Chains(chains) => {
                out.push(SCOPE_CHAINS);
                put_count(out, chains.len())?;
                for chain in chains {
                    put_text(out, chain.as_str())?;
                }
            }
        }
        let (code, days) = self.rotation.map_or((0, 0), Rotation::code);
        out.push(code);
        out.extend_from_slice(&days.to_le_bytes());
        put_text(out, &self.note)?;
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&self.changed.to_le_bytes());
        put_count(out, self.versions.len())?;
        for version in &self.versions {
            out.extend_from_slice(&version.number.to_le_bytes());
            out.push(version.state as u8);
            out.extend_from_slice(&version.created.to_le_bytes());
            out.extend_from_slice(&version.sealed.salt);
            out.extend_from_slice(&version.sealed.nonce);
            put_long(out, &version.sealed.ciphertext)?;
        }
        Ok(())
    }
}

impl Rotation {
    pub(super) fn code(self) -> (u8, u16) {
        match self {
            Self::Days(days) => (1, days),
            Self::Monthly => (2, 0),
            Self::Quarterly => (3, 0),
            Self::Yearly => (4, 0),
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) -> Result<(), Error> {
    let count = u16::try_from(count).map_err(|_| Error::TooLarge)?;
    out.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

/// As [`put_text`], with a longer count.
pub(super) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Error> {
    let length = u32::try_from(bytes.len()).map_err(|_| Error::TooLarge)?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}
