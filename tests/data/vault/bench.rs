//! One vault under test, changed in place and read as a launch reads it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Error, Vault};

use super::kit::{self, Good, OwnedKey, Step, Values};

pub(crate) const HEADER: usize = 976;
pub(crate) const ENTRY: usize = 12;

/// A vault in a folder of its own, and what opens it.
pub(crate) struct Bench {
    _folder: tempfile::TempDir,
    pub(crate) instance: Instance,
    pub(crate) key: OwnedKey,
    /// Of every secret that the good vault has.
    pub(crate) names: BTreeSet<SecretName>,
    pub(crate) file: File,
}

impl Bench {
    pub(crate) fn of(good: &Good, bytes: Vec<u8>) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let instance = kit::instance(folder.path(), good.instance_id());
        kit::put(&instance, &bytes);
        let file = File::options().write(true).open(&instance.vault).unwrap();
        Self { _folder: folder, instance, key: good.key(), names: kit::names_of(good.secrets().keys()), file }
    }

    pub(crate) fn open<'a>(&self, arena: &'a Arena) -> Result<Vault<'a>, Error> {
        Vault::open(&self.instance, self.key.key(), arena)
    }

    pub(crate) fn opening_fails(&self) -> bool {
        let arena = Arena::new().unwrap();
        self.open(&arena).map_err(|error| clear(&error)).is_err()
    }

    pub(crate) fn ledger_fails(&self) -> bool {
        let arena = Arena::new().unwrap();
        self.open(&arena).and_then(|vault| vault.ledger()).map_err(|error| clear(&error)).is_err()
    }

    /// What a launch does: open, look up, open what is granted.
    pub(crate) fn launch(&self, names: &BTreeSet<SecretName>) -> Result<Values, (Step, String)> {
        let arena = Arena::new().unwrap();
        let vault = self.open(&arena).map_err(|error| (Step::Open, clear(&error)))?;
        let contents = vault.lookup(names).map_err(|error| (Step::Lookup, clear(&error)))?;
        kit::open_granted(&vault, &contents, &arena).map_err(|error| (Step::Value, clear(&error)))
    }

    pub(crate) fn read_all(&self) -> Result<(), String> {
        let arena = Arena::new().unwrap();
        self.open(&arena).and_then(|vault| vault.read_all()).map(drop).map_err(|error| clear(&error))
    }

    /// The names in each bucket, found out from which names go with it when it breaks.
    pub(crate) fn buckets(&self) -> Vec<BTreeSet<SecretName>> {
        let bytes = std::fs::read(&self.instance.vault).unwrap();
        let buckets: Vec<BTreeSet<SecretName>> = (0..4)
            .map(|index| {
                let last = place_of(&bytes, index).end - 1;
                self.file.write_all_at(&[!bytes[last]], last as u64).unwrap();
                let is_lost = |name: &&SecretName| self.launch(&BTreeSet::from([(*name).clone()])).is_err();
                let lost = self.names.iter().filter(is_lost).cloned().collect();
                self.file.write_all_at(&[bytes[last]], last as u64).unwrap();
                lost
            })
            .collect();
        assert!(buckets.iter().all(|names| !names.is_empty()));
        assert_eq!(buckets.iter().map(BTreeSet::len).sum::<usize>(), self.names.len());
        buckets
    }

    /// What is in the other buckets is read as if nothing had happened.
    pub(crate) fn others_are_untouched(&self, good: &Good, buckets: &[BTreeSet<SecretName>], part: Part) {
        let broken = match part {
            Part::Header => return,
            Part::Bucket(index) => index,
            Part::Ledger => usize::MAX,
        };
        for (_, names) in buckets.iter().enumerate().filter(|&(index, _)| index != broken) {
            assert_eq!(self.launch(names), Ok(only(good, names)));
        }
    }
}

/// Whom a byte matters to.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Header,
    /// The bucket itself, or its entry in the table.
    Bucket(usize),
    /// The ledger, or its entry: whoever looks for a secret does not read it.
    Ledger,
}

pub(crate) fn part_of(bytes: &[u8], at: usize) -> Part {
    if at < HEADER {
        return Part::Header;
    }
    let in_table = at < HEADER + ENTRY * 5;
    let is_its = |&index: &usize| place_of(bytes, index).contains(&at);
    let index = if in_table { Some((at - HEADER) / ENTRY) } else { (0..5).find(is_its) };
    match index.unwrap() {
        4 => Part::Ledger,
        index => Part::Bucket(index),
    }
}

pub(crate) fn place_of(bytes: &[u8], index: usize) -> Range<usize> {
    let entry = &bytes[HEADER + ENTRY * index..HEADER + ENTRY * (index + 1)];
    let start = usize::try_from(u64::from_le_bytes(entry[..8].try_into().unwrap())).unwrap();
    start..start + u32::from_le_bytes(entry[8..].try_into().unwrap()) as usize
}

pub(crate) fn only(good: &Good, names: &BTreeSet<SecretName>) -> Values {
    let mut values = good.granted();
    values.retain(|name, _| names.iter().any(|wanted| wanted.as_str() == name));
    values
}

/// An error of damage: one line that names the file, and no other kind of error.
pub(crate) fn clear(error: &Error) -> String {
    let line = error.to_string();
    assert!(matches!(error, Error::Damaged { .. } | Error::WrongKey { .. }), "{line}");
    assert!(!line.contains('\n') && line.contains("/vault: the "), "{line}");
    line
}
