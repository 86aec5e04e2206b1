//! Reading a vault: one look at the header, then only the buckets that are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::bytes::{Malformed, Reader};
use super::crypto::{self, Key, NONCE, TAG};
use super::header::{ENTRY, HEADER, Header, MAX_BUCKET, MIN_BUCKET, Unauthenticated};
use super::place::Place;
use super::{AuditKey, Error, LogKey, Record, RootKey};
use crate::instance::{self, Access, Instance, InstanceKey, open_with_folder, read_up_to};
use crate::memory::{Arena, wipe, with_wiped_frames};
use crate::policy::SecretName;

/// How much is read at once at first: the header, and the whole table of up to 256 buckets.
const FIRST_READ: usize = 4096;

/// A vault whose header has been authenticated. It stays the generation that was opened, whatever
/// is written meanwhile: writers replace the file.
#[derive(Debug)]
pub struct Vault<'a> {
    pub(super) path: PathBuf,
    place: Arc<Place>,
    pub(super) size: u64,
    pub(super) header: Header,
    pub(super) root: RootKey<'a>,
    pub(super) audit: AuditKey<'a>,
    first: Vec<u8>,
    #[cfg_attr(not(feature = "admin"), allow(dead_code))]
    pub(super) slot: usize,
}

/// Every record of a vault, by name.
pub type Contents = BTreeMap<SecretName, Record>;

impl<'a> Vault<'a> {
    /// Opens the instance's vault with its key.
    pub fn open(instance: &Instance, key: InstanceKey<'_>, arena: &'a Arena) -> Result<Self, Error> {
        let path = instance.vault.clone();
        let (folder, file) = open_with_folder(&path, Access::OthersRead)?;
        let cant_read = |error| Error::Instance(instance::Error::file("read", &path, error));
        let size = file.metadata().map_err(cant_read)?.len();
        let mut first = vec![0; FIRST_READ];
        let length = read_up_to(&file, &mut first, 0).map_err(cant_read)?;
        first.truncate(length);
        let (slot, root, header) = Unauthenticated::parse(&path, &first, size)?
            .open(&path, key, instance.id, arena)?
            .ok_or_else(|| Error::WrongKey { path: path.clone(), fault: wrong(key) })?;
        let audit = root.audit(arena)?;
        let place = Arc::new(Place::new(&path, folder, file, header.vault_id));
        Ok(Self { path, place, size, header, root, audit, first, slot })
    }

    /// How many times it has been written: 1 for a new one.
    pub fn generation(&self) -> u64 {
        self.header.generation
    }

    /// The same, for appending to it.
    pub fn log_key(&self) -> LogKey<'a> {
        LogKey::new(self.audit, Arc::clone(&self.place))
    }

    /// Whether no other has been put in its place since it was opened.
    pub fn is_latest(&self) -> bool {
        let same = |now: Metadata, opened: Metadata| (now.dev(), now.ino()) == (opened.dev(), opened.ino());
        std::fs::metadata(&self.path).and_then(|now| Ok(same(now, self.place.file.metadata()?))).unwrap_or(false)
    }

    pub(super) fn id(&self) -> &[u8; 16] {
        &self.header.vault_id
    }

    /// The records of these names, where there are any. Reads each bucket once, however many of
    /// the names are in it.
    pub fn lookup(&self, names: &BTreeSet<SecretName>) -> Result<Contents, Error> {
        let mut wanted: BTreeMap<u32, Vec<&SecretName>> = BTreeMap::new();
        for (index, name) in self.header.buckets_of(&self.root, names).into_iter().zip(names) {
            wanted.entry(index).or_default().push(name);
        }
        let mut found = Contents::new();
        for (index, names) in wanted {
            for record in self.bucket(index)? {
                if names.contains(&&record.name) {
                    found.insert(record.name.clone(), record);
                }
            }
        }
        Ok(found)
    }

    pub(super) fn ledger_plain(&self) -> Result<Plain, Error> {
        let key = || self.root.ledger(&self.header.write_salt, self.header.generation);
        self.unseal(self.header.bucket_count, key)
    }

    /// Where a bucket or the ledger is, checked against the file's size.
    pub(super) fn entry(&self, index: u32) -> Result<(u64, u32), Error> {
        let start = HEADER + index as usize * ENTRY;
        let mut entry = [0; ENTRY];
        match self.first.get(start..start + ENTRY) {
            Some(bytes) => entry.copy_from_slice(bytes),
            None => self.read_exactly(&mut entry, start as u64, index)?,
        }
        let mut reader = Reader::new(&entry);
        let mut place = || -> Result<_, Malformed> { Ok((reader.u64()?, reader.u32()?)) };
        let is_within = |&(offset, length): &(u64, u32)| {
            let end = offset.checked_add(u64::from(length));
            offset >= self.header.table_end()
                && (MIN_BUCKET..=MAX_BUCKET).contains(&length)
                && end.is_some_and(|end| end <= self.size)
        };
        place().ok().filter(is_within).ok_or_else(|| self.damaged(format!("the place of {}", self.name_of(index))))
    }

    /// Reads, authenticates and takes apart one bucket.
    pub(super) fn bucket(&self, index: u32) -> Result<Vec<Record>, Error> {
        let key = || self.root.bucket(&self.header.write_salt, self.header.generation, index);
        records(&self.unseal(index, key)?).map_err(|Malformed| self.damaged(self.name_of(index)))
    }

    /// Reads and authenticates what is sealed at an entry of the table.
    fn unseal(&self, index: u32, key: impl FnOnce() -> Key) -> Result<Plain, Error> {
        let (offset, length) = self.entry(index)?;
        let mut plain = Plain(vec![0; length as usize]);
        self.read_exactly(&mut plain.0, offset, index)?;
        let damaged = || self.damaged(self.name_of(index));
        let (nonce, rest) = plain.0.split_first_chunk_mut::<NONCE>().ok_or_else(damaged)?;
        let (sealed, tag) = rest.split_last_chunk_mut::<TAG>().ok_or_else(damaged)?;
        let aad = self.header.bucket_aad(index);
        with_wiped_frames(|| crypto::open(&key(), nonce, &aad, sealed, tag)).map_err(|_| damaged())?;
        Ok(plain)
    }

    fn read_exactly(&self, bytes: &mut [u8], offset: u64, index: u32) -> Result<(), Error> {
        self.place.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.damaged(format!("it ends within {}", self.name_of(index))),
            _ => Error::Instance(instance::Error::file("read", &self.path, error)),
        })
    }

    /// What an entry of the table is for.
    pub(super) fn name_of(&self, index: u32) -> String {
        match index < self.header.bucket_count {
            true => format!("bucket {index}"),
            false => "the ledger".into(),
        }
    }

    pub(super) fn damaged(&self, what: String) -> Error {
        Error::Damaged { path: self.path.clone(), what }
    }
}

/// What a bucket or the ledger holds, opened in its place between nonce and tag. `zeroize` would wipe it byte by byte, which
/// takes longer than to decrypt it.
pub(super) struct Plain(Vec<u8>);

impl Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.get(NONCE..self.0.len().saturating_sub(TAG)).unwrap_or_default()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

pub(super) fn records(plain: &[u8]) -> Result<Vec<Record>, Malformed> {
    let mut reader = Reader::new(plain);
    let count = reader.u32()?;
    let records = (0..count).map(|_| Record::read(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(records)
}

fn wrong(key: InstanceKey<'_>) -> &'static str {
    match key {
        InstanceKey::Bytes(_) => {
            "the instance key opens no key slot of the vault: it is another instance's key, or the slot is damaged"
        }
        InstanceKey::Passphrase(_) => "the passphrase is wrong, or its key slot of the vault is damaged",
        InstanceKey::Recovery(_) => {
            "the recovery code opens no key slot of the vault: it is another instance's, or was dropped"
        }
    }
}
