//! Reading all of a vault, for people: a launch looks up names alone.

use std::collections::BTreeSet;
use std::path::Path;

use super::{AuditKey, Contents, Error, Record, Vault};
use crate::memory::{Arena, equal};
use crate::policy::SecretName;

impl<'a> Vault<'a> {
    /// The key of the access log.
    pub fn audit_key(&self) -> AuditKey<'a> {
        self.audit
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the key slot that was opened.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Every record. Checks that buckets and ledger fill the file without gap or overlap.
    pub fn read_all(&self) -> Result<Contents, Error> {
        let mut contents = Contents::new();
        let mut end = self.header.table_end();
        for index in 0..=self.header.bucket_count {
            let (offset, length) = self.entry(index)?;
            if offset != end {
                return Err(self.damaged(format!("the place of {}", self.name_of(index))));
            }
            end += u64::from(length);
        }
        if end != self.size {
            return Err(self.damaged("there are bytes after the ledger".into()));
        }
        self.ledger()?;
        for index in 0..self.header.bucket_count {
            let records = self.bucket(index)?;
            let indexes = self.header.buckets_of(&self.root, records.iter().map(|record| &record.name));
            if indexes.iter().any(|&its| its != index) {
                return Err(self.damaged(format!("bucket {index} holds another's record")));
            }
            for record in records {
                if let Some(twice) = contents.insert(record.name.clone(), record) {
                    return Err(self.damaged(format!("two records of secret '{}'", twice.name)));
                }
            }
        }
        Ok(contents)
    }

    /// The names of secrets of which some version equals one of the texts. For checks that a value
    /// does not stand where only names belong; the values go no further than this.
    pub fn names_of_values(&self, texts: &[&str], arena: &Arena) -> Result<BTreeSet<SecretName>, Error> {
        let mut found = BTreeSet::new();
        let scratch = arena.alloc(super::MAX_VALUE)?;
        for record in self.read_all()?.into_values() {
            for version in record.versions.iter().filter(|version| !version.sealed.is_wiped()) {
                let length = version.sealed.value_len();
                // Most values differ from all texts in length already, and stay sealed.
                let candidates: Vec<&str> = texts.iter().copied().filter(|text| text.len() == length).collect();
                let Some(place) = scratch.get_mut(..length).filter(|_| !candidates.is_empty()) else { continue };
                self.open_value(&record.name, version, place)?;
                if candidates.iter().any(|text| equal(text.as_bytes(), place)) {
                    found.insert(record.name.clone());
                }
                crate::memory::wipe(place);
            }
        }
        Ok(found)
    }

    /// Whether a version of the record has this value.
    pub fn has_value(&self, record: &Record, value: &[u8], arena: &Arena) -> Result<bool, Error> {
        let scratch = arena.alloc(value.len())?;
        for version in record.versions.iter().filter(|version| version.sealed.value_len() == value.len()) {
            self.open_value(&record.name, version, scratch)?;
            if equal(scratch, value) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
