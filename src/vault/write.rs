//! Writing a vault: whole, to a temporary file beside it, under a lock.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

use super::crypto::{self, Key, NONCE, TAG};
use super::header::{Header, MAX_BUCKET, MAX_BUCKETS};
use super::ledger::Ledger;
use super::read::Contents;
use super::slots::{PassphraseCost, Slot};
use super::{Error, Record, RootKey, Vault};
use crate::instance::{self, Instance, InstanceKey, fill};
use crate::memory::{Arena, with_wiped_frames};

/// How many records a bucket is meant to hold.
const PER_BUCKET: usize = 16;
/// The largest number of secrets.
const MAX_SECRETS: usize = 1_000_000;

/// The right to write the vault: an exclusive flock(2) on `vault.lock`. Readers take none.
#[derive(Debug)]
pub struct WriteLock {
    path: PathBuf,
    _lock: Flock<OwnedFd>,
}

impl WriteLock {
    /// Waits for other writers. The kernel lets go of a dead writer's lock.
    pub fn take(instance: &Instance) -> Result<Self, Error> {
        let path = instance.vault.clone();
        let lock = instance::beside(&path, ".lock");
        let failed = |errno| Error::Instance(instance::Error::file("lock", &lock, errno));
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&lock, flags, Mode::from_bits_truncate(0o600)).map_err(failed)?;
        let lock = Flock::lock(fd, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno))?;
        instance.key.remove_pending();
        Ok(Self { path, _lock: lock })
    }
}

/// Makes an empty vault with one slot; refuses to replace a file.
pub fn create(
    lock: &WriteLock,
    instance: &Instance,
    key: InstanceKey<'_>,
    cost: PassphraseCost,
    arena: &Arena,
) -> Result<(), Error> {
    if lock.path.symlink_metadata().is_ok() {
        let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(instance::Error::file("create", &lock.path, exists).into());
    }
    let root = arena.key()?;
    fill(root)?;
    let root = RootKey(root);
    let mut vault_id = [0; 16];
    fill(&mut vault_id)?;
    let mut slots = [const { Slot::none() }; super::slots::SLOTS];
    if let Some(first) = slots.first_mut() {
        *first = Slot::seal(key, cost, instance.id, &vault_id, &root)?;
    }
    let header = Header { vault_id, generation: 1, write_salt: [0; 32], bucket_count: 1, slots };
    write(lock, header, &root, &Contents::new(), &Ledger::empty().encode()?)
}

impl Vault<'_> {
    /// Replaces the vault's contents and returns the new generation. `self` must have been opened
    /// after `lock` was taken: else a writer in between is undone. The ledger stays as it is.
    pub fn replace(&self, lock: &WriteLock, contents: &Contents) -> Result<u64, Error> {
        self.rewrite(lock, self.header.clone(), contents, &self.ledger_plain()?)
    }

    /// The same, with another ledger.
    pub fn replace_with_ledger(&self, lock: &WriteLock, contents: &Contents, ledger: &Ledger) -> Result<u64, Error> {
        self.rewrite(lock, self.header.clone(), contents, &ledger.encode()?)
    }

    pub(super) fn rewrite(
        &self,
        lock: &WriteLock,
        mut header: Header,
        contents: &Contents,
        ledger: &[u8],
    ) -> Result<u64, Error> {
        header.generation = header.generation.checked_add(1).ok_or(Error::TooLarge)?;
        let generation = header.generation;
        write(lock, header, &self.root, contents, ledger)?;
        Ok(generation)
    }
}

/// Writes all of it under this root key. `ledger` is the ledger in plain.
pub(super) fn write(
    lock: &WriteLock,
    mut header: Header,
    root: &RootKey<'_>,
    contents: &Contents,
    ledger: &[u8],
) -> Result<(), Error> {
    fill(&mut header.write_salt)?;
    header.bucket_count = bucket_count(contents.len())?;
    let buckets = split(&header, root, contents);
    // What a writer that was killed left there, nobody uses: so says the lock.
    instance::replace_with(&lock.path, 0o600, |file, path| write_file(file, path, &header, root, &buckets, ledger))
}

fn write_file(
    file: &mut File,
    path: &Path,
    header: &Header,
    root: &RootKey<'_>,
    buckets: &[Vec<&Record>],
    ledger: &[u8],
) -> Result<(), Error> {
    let io = |error| Error::from(instance::Error::file("write", path, error));
    let mut out = std::io::BufWriter::with_capacity(1 << 18, file);
    out.write_all(&header.encode(root)).map_err(io)?;
    let mut sealed: Vec<Vec<u8>> = buckets
        .iter()
        .zip(0u32..)
        .map(|(records, index)| seal_bucket(header, root, index, records))
        .collect::<Result<_, _>>()?;
    let key = || root.ledger(&header.write_salt, header.generation);
    sealed.push(seal(header, key, header.bucket_count, ledger)?);
    let mut offset = header.table_end();
    for part in &sealed {
        let length = u32::try_from(part.len()).map_err(|_| Error::TooLarge)?;
        out.write_all(&offset.to_le_bytes()).map_err(io)?;
        out.write_all(&length.to_le_bytes()).map_err(io)?;
        offset += u64::from(length);
    }
    for part in &sealed {
        out.write_all(part).map_err(io)?;
    }
    out.flush().map_err(io)
}

fn seal_bucket(header: &Header, root: &RootKey<'_>, index: u32, records: &[&Record]) -> Result<Vec<u8>, Error> {
    let mut plain = Zeroizing::new(Vec::new());
    plain.extend_from_slice(&u32::try_from(records.len()).map_err(|_| Error::TooLarge)?.to_le_bytes());
    for record in records {
        record.write(&mut plain)?;
    }
    seal(header, || root.bucket(&header.write_salt, header.generation, index), index, &plain)
}

/// Nonce, ciphertext and tag of what stands at an entry of the table.
fn seal(header: &Header, key: impl FnOnce() -> Key, index: u32, plain: &[u8]) -> Result<Vec<u8>, Error> {
    let mut nonce = [0; NONCE];
    fill(&mut nonce)?;
    // In place: the one copy of the plain text is overwritten by its ciphertext.
    let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE + plain.len() + TAG));
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let aad = header.bucket_aad(index);
    let buffer = sealed.get_mut(NONCE..).unwrap_or_default();
    let tag = with_wiped_frames(|| crypto::seal(&key(), &nonce, &aad, buffer))?;
    sealed.extend_from_slice(&tag);
    match sealed.len() <= MAX_BUCKET as usize {
        true => Ok(std::mem::take(&mut *sealed)),
        false => Err(Error::TooLarge),
    }
}

/// The records of each bucket, in the order of their names.
fn split<'c>(header: &Header, root: &RootKey<'_>, contents: &'c Contents) -> Vec<Vec<&'c Record>> {
    let mut buckets = vec![Vec::new(); header.bucket_count as usize];
    let indexes = header.buckets_of(root, contents.values().map(|record| &record.name));
    for (record, index) in contents.values().zip(indexes) {
        if let Some(bucket) = buckets.get_mut(index as usize) {
            bucket.push(record);
        }
    }
    buckets
}

fn bucket_count(secrets: usize) -> Result<u32, Error> {
    if secrets > MAX_SECRETS {
        return Err(Error::Full);
    }
    let buckets = secrets.div_ceil(PER_BUCKET).max(1).next_power_of_two();
    u32::try_from(buckets).ok().filter(|&count| count <= MAX_BUCKETS).ok_or(Error::Full)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::vault::whole_tests::{KEY, Kit};

    #[test]
    fn there_is_a_bucket_for_some_sixteen_secrets() {
        for (secrets, buckets) in [(0, 1), (1, 1), (16, 1), (17, 2), (32, 2), (33, 4), (1_000_000, 65_536)] {
            assert_eq!(bucket_count(secrets).unwrap(), buckets, "{secrets}");
        }
        assert!(matches!(bucket_count(1_000_001), Err(Error::Full)));
    }

    #[test]
    fn generations_do_not_begin_anew() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let vault = kit.open(&arena);
        let before = std::fs::read(&kit.instance.vault).unwrap();
        let header = Header { generation: u64::MAX, ..vault.header.clone() };
        assert!(matches!(vault.rewrite(&kit.lock(), header, &Contents::new(), &[]), Err(Error::TooLarge)));
        assert_eq!(std::fs::read(&kit.instance.vault).unwrap(), before);
    }

    #[test]
    fn a_vault_is_made_where_nothing_is_and_for_its_owner() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let create = || create(&kit.lock(), &kit.instance, KEY, PassphraseCost::default(), &arena);
        let mode = kit.instance.vault.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = std::fs::read(&kit.instance.vault).unwrap();
        assert!(create().unwrap_err().to_string().contains("can't create"));
        assert_eq!(std::fs::read(&kit.instance.vault).unwrap(), before);
        // Where something is to be, too.
        std::fs::remove_file(&kit.instance.vault).unwrap();
        symlink("elsewhere", &kit.instance.vault).unwrap();
        assert!(create().unwrap_err().to_string().contains("can't create"));
    }

    #[test]
    fn one_writer_at_a_time() {
        let kit = Kit::new();
        let path = instance::beside(&kit.instance.vault, ".lock");
        let is_free = || File::open(&path).unwrap().try_lock().is_ok();
        let lock = kit.lock();
        assert!(!is_free());
        drop(lock);
        assert!(is_free());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // A lock elsewhere would be no lock.
        std::fs::rename(&path, path.with_extension("moved")).unwrap();
        symlink(path.with_extension("moved"), &path).unwrap();
        assert!(WriteLock::take(&kit.instance).unwrap_err().to_string().contains("can't lock"));
    }
}
