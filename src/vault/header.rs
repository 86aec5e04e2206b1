//! The header: fixed size, parsed field by field, believed once its MAC has been checked.

use std::path::Path;

use super::bytes::{Malformed, Reader};
use super::crypto;
use super::keys::RootKey;
use super::slots::{SLOT, SLOTS, Slot};
use super::{Error, crypto::TAG};
use crate::instance::{InstanceKey, Uuid};
use crate::memory::{Arena, with_wiped_frames};
use crate::policy::SecretName;

pub(super) const MAGIC: &[u8; 8] = b"MENTIKO1";
pub(super) const FORMAT: u32 = 1;
/// Bytes before the slots.
const FIXED: usize = 8 + 4 + 4 + 16 + 8 + 32 + 4 + 4;
/// Bytes of the whole header, with its MAC.
pub(super) const HEADER: usize = FIXED + SLOTS * SLOT + 32;
/// Bytes of an entry of the table.
pub(super) const ENTRY: usize = 12;
/// The smallest bucket: nonce, count of records, tag. The ledger has more.
pub(super) const MIN_BUCKET: u32 = 12 + 4 + TAG as u32;
/// The largest bucket, 64 MiB: what a reader sets memory aside for before it knows who wrote it.
pub(super) const MAX_BUCKET: u32 = 64 << 20;
/// The largest number of buckets: 2^20, for a million secrets and more.
pub const MAX_BUCKETS: u32 = 1 << 20;

/// What a vault is made of.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) vault_id: [u8; 16],
    pub(super) generation: u64,
    pub(super) write_salt: [u8; 32],
    pub(super) bucket_count: u32,
    pub(super) slots: [Slot; SLOTS],
}

/// The same, read from a file and not yet authenticated. It can only be shown a root key.
#[derive(Debug)]
pub(super) struct Unauthenticated {
    header: Header,
    signed: Vec<u8>,
    mac: [u8; 32],
}

impl Unauthenticated {
    /// Takes the fields apart; `size` is the file's, against which counts are checked.
    pub(super) fn parse(path: &Path, bytes: &[u8], size: u64) -> Result<Self, Error> {
        let damaged = |what: &str| Error::Damaged { path: path.to_owned(), what: what.into() };
        let header = bytes.first_chunk::<HEADER>().ok_or_else(|| damaged("it is too short for a header"))?;
        let (signed, mac) = header.split_last_chunk().ok_or_else(|| damaged("it is too short for a header"))?;
        let mut reader = Reader::new(signed);
        let fields = Self::fields(&mut reader).map_err(|Malformed| damaged("a field of the header"))?;
        let header = fields.ok_or_else(|| damaged("it does not begin with MENTIKO1, format 1"))?;
        let is_possible = header.bucket_count.is_power_of_two() && header.bucket_count <= MAX_BUCKETS;
        if !is_possible || header.table_end() > size {
            return Err(damaged("the bucket count of the header"));
        }
        Ok(Self { header, signed: signed.to_vec(), mac: *mac })
    }

    fn fields(reader: &mut Reader<'_>) -> Result<Option<Header>, Malformed> {
        if reader.array::<8>()? != *MAGIC || reader.u32()? != FORMAT || reader.u32()? != 0 {
            return Ok(None);
        }
        let mut header = Header {
            vault_id: reader.array()?,
            generation: reader.u64()?,
            write_salt: reader.array()?,
            bucket_count: reader.u32()?,
            slots: [const { Slot::none() }; SLOTS],
        };
        let slot_count = reader.u32()?;
        for slot in &mut header.slots {
            *slot = Slot::read(reader)?;
        }
        match header.slots.iter().filter(|slot| !slot.is_none()).count() == slot_count as usize {
            true => Ok(Some(header)),
            false => Err(Malformed),
        }
    }

    /// Opens the first slot that the key fits, then checks the MAC, which also commits to the root key:
    /// the slot's number, the root key, the header. `None` where no slot opens.
    pub(super) fn open<'a>(
        self,
        path: &Path,
        key: InstanceKey<'_>,
        instance: Uuid,
        arena: &'a Arena,
    ) -> Result<Option<(usize, RootKey<'a>, Header)>, Error> {
        for (slot, number) in self.header.slots.iter().zip(1..) {
            let Some(root) = slot.open(key, instance, &self.header.vault_id, arena)? else { continue };
            return match with_wiped_frames(|| crypto::hmac_is(&root.header(), &[&self.signed], &self.mac)) {
                true => Ok(Some((number, root, self.header))),
                false => Err(Error::Damaged { path: path.to_owned(), what: "the MAC of the header".into() }),
            };
        }
        Ok(None)
    }

    /// The header whether it is authentic or not.
    #[cfg(feature = "fuzzing")]
    pub(super) fn believe(self) -> Header {
        self.header
    }
}

impl Header {
    /// Where the table ends: an entry for each bucket, and one for the ledger.
    pub(super) fn table_end(&self) -> u64 {
        HEADER as u64 + (u64::from(self.bucket_count) + 1) * ENTRY as u64
    }

    /// What a bucket is bound to; the ledger has the number after the last bucket's.
    pub(super) fn bucket_aad(&self, index: u32) -> Vec<u8> {
        let (generation, count) = (self.generation.to_le_bytes(), self.bucket_count.to_le_bytes());
        [&self.vault_id[..], &generation, &count, &index.to_le_bytes()].concat()
    }

    /// The bucket of each of these names.
    pub(super) fn buckets_of<'n>(
        &self,
        root: &RootKey<'_>,
        names: impl IntoIterator<Item = &'n SecretName>,
    ) -> Vec<u32> {
        with_wiped_frames(|| {
            let key = root.index();
            names.into_iter().map(|name| self.bucket_of(&key, name.as_str())).collect()
        })
    }

    /// The bucket of a name: the first bits of the HMAC of the name under the index key.
    pub(super) fn bucket_of(&self, index_key: &[u8; 32], name: &str) -> u32 {
        let [a, b, c, d, ..] = crypto::hmac(index_key, &[name.as_bytes()]);
        let bits = self.bucket_count.trailing_zeros();
        u32::from_be_bytes([a, b, c, d]).checked_shr(32 - bits).unwrap_or(0)
    }
}
