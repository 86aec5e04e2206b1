//! What a bucket holds: records of secrets, their metadata in the open, each value sealed apart.

use std::collections::BTreeSet;

use super::bytes::{Malformed, Reader};
use super::crypto::{self, NONCE, TAG};
use super::keys::value_context;
use super::{Error, Rotation, Vault};
use crate::memory::with_wiped_frames;
use crate::policy::{Facts, Scope, SecretName};

/// One secret.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "admin"), allow(dead_code))] // Some fields are for people alone.
pub struct Record {
    /// Its name.
    pub name: SecretName,
    /// The chains that may use it.
    pub scope: Scope,
    /// How often it is to be rotated.
    pub rotation: Option<Rotation>,
    /// A note for people, at most 1,024 bytes.
    pub note: String,
    /// When it was first stored: seconds since 1970, UTC.
    pub created: u64,
    /// When anything of it last changed: seconds since 1970, UTC.
    pub changed: u64,
    /// Its versions, oldest first.
    pub versions: Vec<Version>,
}

/// One value that the secret has or had.
#[derive(Clone, Debug)]
pub struct Version {
    /// 1 for the first.
    pub number: u32,
    /// What it may be used for.
    pub state: State,
    /// When it was stored: seconds since 1970, UTC.
    pub created: u64,
    /// The value.
    pub sealed: Sealed,
}

/// What a version may be used for. The numbers stand in the file, and differ in several bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// What a new run gets.
    Current = 0x1D,
    /// Kept for runs that were given it.
    Previous = 0x62,
    /// Given to nobody any more.
    Revoked = 0xB3,
}

/// A value sealed under a key of its own: ciphertext, then the tag.
#[derive(Clone)]
pub struct Sealed {
    pub(super) salt: [u8; 32],
    pub(super) nonce: [u8; NONCE],
    pub(super) ciphertext: Vec<u8>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[sealed]")
    }
}

impl Sealed {
    /// The length of the value, in bytes.
    pub fn value_len(&self) -> usize {
        self.ciphertext.len().saturating_sub(TAG)
    }
}

impl Record {
    /// The version that a new run gets.
    pub fn current(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.state == State::Current)
    }

    /// The version of this number.
    pub fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The same for a run that holds this version.
    pub fn facts_for(&self, pinned: Option<u32>) -> Facts {
        let version = match pinned {
            Some(number) => self.version(number).filter(|version| version.state != State::Revoked),
            None => self.current(),
        };
        Facts { scope: self.scope.clone(), version: version.map(|version| version.number), pinned: pinned.is_some() }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = parse(reader.text()?)?;
        let scope = match reader.u8()? {
            SCOPE_ALL => Scope::All,
            SCOPE_CHAINS => {
                let mut chains = BTreeSet::new();
                for _ in 0..reader.u16()? {
                    chains.insert(parse(reader.text()?)?);
                }
                Scope::Chains(chains)
            }
            _ => return Err(Malformed),
        };
        let rotation = Rotation::from_code(reader.u8()?, reader.u16()?).ok_or(Malformed)?;
        let note = reader.text()?.to_owned();
        let (created, changed) = (reader.u64()?, reader.u64()?);
        let count = reader.u16()?;
        let versions = (0..count).map(|_| read_version(reader)).collect::<Result<_, _>>()?;
        Ok(Self { name, scope, rotation, note, created, changed, versions })
    }
}

impl Vault<'_> {
    /// Opens a version's value into `place`, which must be [`Sealed::value_len`] bytes of the arena.
    pub(super) fn open_value(&self, name: &SecretName, version: &Version, place: &mut [u8]) -> Result<(), Error> {
        let damaged = || self.damaged(format!("version {} of secret '{name}'", version.number));
        let sealed = &version.sealed;
        let (ciphertext, tag) = sealed.ciphertext.split_last_chunk::<TAG>().ok_or_else(damaged)?;
        if ciphertext.len() != place.len() {
            return Err(damaged());
        }
        place.copy_from_slice(ciphertext);
        let context = value_context(self.id(), name, version.number, &sealed.salt);
        let opened =
            with_wiped_frames(|| crypto::open(&self.root.value(&context), &sealed.nonce, &context, place, tag));
        opened.map_err(|_| damaged())
    }
}

pub(super) const SCOPE_ALL: u8 = 0x2E;
pub(super) const SCOPE_CHAINS: u8 = 0xD1;

fn read_version(reader: &mut Reader<'_>) -> Result<Version, Malformed> {
    let number = reader.u32()?;
    let state = match reader.u8()? {
        0x1D => State::Current,
        0x62 => State::Previous,
        0xB3 => State::Revoked,
        _ => return Err(Malformed),
    };
    let created = reader.u64()?;
    let (salt, nonce) = (reader.array()?, reader.array()?);
    let length = reader.u32()? as usize;
    if length == 0 && state != State::Revoked {
        return Err(Malformed);
    }
    let ciphertext = reader.take(length)?.to_vec();
    Ok(Version { number, state, created, sealed: Sealed { salt, nonce, ciphertext } })
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: State, ciphertext: &[u8]) -> Record {
        let sealed = Sealed { salt: [1; 32], nonce: [2; NONCE], ciphertext: ciphertext.to_vec() };
        let versions = vec![Version { number: 1, state, created: 7, sealed }];
        let name = "A".parse().unwrap();
        Record { versions, ..crate::vault::Vault::new_record(name, 7) }
    }

    fn read_back(record: &Record) -> Result<Record, Malformed> {
        let mut out = Vec::new();
        record.write(&mut out).unwrap();
        Record::read(&mut Reader::new(&out))
    }

    #[test]
    fn a_revoked_version_alone_may_lack_its_value() {
        for state in [State::Current, State::Previous, State::Revoked] {
            assert!(read_back(&record(state, &[3; 17])).is_ok(), "{state:?}");
            assert_eq!(read_back(&record(state, &[])).is_ok(), state == State::Revoked, "{state:?}");
        }
    }

    #[test]
    fn metadata_is_read_as_it_was_written() {
        let chains = ["a", "b"].map(|name| name.parse().unwrap());
        for scope in [Scope::All, Scope::Chains(chains.into())] {
            let note = "for two chains".to_owned();
            let written = Record { scope, note, changed: 8, ..record(State::Current, &[3; 17]) };
            let read = read_back(&written).unwrap();
            assert_eq!((&read.name, &read.scope, &read.note), (&written.name, &written.scope, &written.note));
            assert_eq!((read.created, read.changed, read.versions[0].created), (7, 8, 7));
        }
    }

    #[test]
    fn nothing_of_a_revoked_value_is_left() {
        let mut record = record(State::Current, &[3; 17]);
        assert!(record.versions[0].revoke());
        assert!(!record.versions[0].revoke(), "it was done already");
        assert!(self::record(State::Revoked, &[3; 17]).versions[0].revoke(), "its value was there");
        let mut out = Vec::new();
        record.write(&mut out).unwrap();
        assert!(!out.windows(3).any(|window| [[1; 3], [2; 3], [3; 3]].contains(&window.try_into().unwrap())));
        let read = read_back(&record).unwrap();
        assert_eq!((read.versions[0].state, read.current().is_none()), (State::Revoked, true));
        assert_eq!(read.facts_for(Some(1)).version, None);
    }

    #[test]
    fn a_run_gets_the_version_that_it_holds_or_none() {
        let mut record = record(State::Previous, &[3; 17]);
        let sealed = record.versions[0].sealed.clone();
        record.versions.push(Version { number: 2, state: State::Current, created: 8, sealed });
        let version = |record: &Record, pinned| record.facts_for(pinned).version;
        assert_eq!(
            [None, Some(1), Some(2), Some(3)].map(|pinned| version(&record, pinned)),
            [Some(2), Some(1), Some(2), None]
        );
        record.versions[0].revoke();
        assert_eq!([None, Some(1), Some(2)].map(|pinned| version(&record, pinned)), [Some(2), None, Some(2)]);
    }
}
