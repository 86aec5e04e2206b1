//! What a bucket holds: records of secrets, their metadata in the open, each value sealed apart.

use std::collections::BTreeSet;

use super::bytes::{Malformed, Reader, put_text};
use super::crypto::{self, Forged, NONCE, TAG};
use super::keys::{RootKey, ValueContext};
use super::{Error, Rotation};
use crate::instance::fill;
use crate::policy::{Facts, Scope, SecretName};

/// The longest value, in bytes: with a name, `=` and NUL it must fit into execve's
/// MAX_ARG_STRLEN of 131,072 (execve(2)).
pub const MAX_VALUE: usize = 131_000;
/// The longest note, in bytes.
pub const MAX_NOTE: usize = 1024;

/// One secret.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub name: SecretName,
    /// The chains that may use it.
    pub scope: Scope,
    /// How often it is to be rotated.
    pub rotation: Option<Rotation>,
    /// A note for people, at most [`MAX_NOTE`] bytes.
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
    salt: [u8; 32],
    nonce: [u8; NONCE],
    ciphertext: Vec<u8>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[sealed]")
    }
}

impl Sealed {
    /// Seals a value as this version of this secret; `value` becomes its ciphertext.
    pub(super) fn seal(
        root: &RootKey<'_>,
        vault_id: &[u8; 16],
        name: &SecretName,
        version: u32,
        value: &mut [u8],
    ) -> Result<Self, Error> {
        let (mut salt, mut nonce) = ([0; 32], [0; NONCE]);
        fill(&mut salt)?;
        fill(&mut nonce)?;
        let context = ValueContext::new(vault_id, name, version);
        let tag = crypto::seal(&root.value(&context, &salt), &nonce, &context.aad(&salt), value)?;
        let ciphertext = [&*value, &tag].concat();
        Ok(Self { salt, nonce, ciphertext })
    }

    /// What is left of a value that was wiped: it opens as nothing.
    pub(crate) fn wiped() -> Self {
        Self { salt: [0; 32], nonce: [0; NONCE], ciphertext: Vec::new() }
    }

    pub(super) fn is_wiped(&self) -> bool {
        self.ciphertext.is_empty()
    }

    /// The length of the value, in bytes.
    pub fn value_len(&self) -> usize {
        self.ciphertext.len().saturating_sub(TAG)
    }

    /// Opens it into `place`, which must be [`Sealed::value_len`] bytes of the arena.
    pub(super) fn open_into(
        &self,
        root: &RootKey<'_>,
        vault_id: &[u8; 16],
        name: &SecretName,
        version: u32,
        place: &mut [u8],
    ) -> Result<(), Forged> {
        let (ciphertext, tag) = self.ciphertext.split_last_chunk::<TAG>().ok_or(Forged)?;
        if ciphertext.len() != place.len() {
            return Err(Forged);
        }
        place.copy_from_slice(ciphertext);
        let context = ValueContext::new(vault_id, name, version);
        let key = root.value(&context, &self.salt);
        crypto::open(&key, &self.nonce, &context.aad(&self.salt), place, tag)
    }
}

impl Version {
    /// Gives it to nobody any more, and wipes its value. False where both were so already.
    pub fn revoke(&mut self) -> bool {
        let was_there = self.state != State::Revoked || !self.sealed.is_wiped();
        self.state = State::Revoked;
        self.sealed = Sealed::wiped();
        was_there
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

    /// What the decision needs to know of it for a run that holds no version of it yet.
    pub fn facts(&self) -> Facts {
        self.facts_for(None)
    }

    /// The same for a run that holds this version.
    pub fn facts_for(&self, pinned: Option<u32>) -> Facts {
        let version = match pinned {
            Some(number) => self.version(number).filter(|version| version.state != State::Revoked),
            None => self.current(),
        };
        Facts { scope: self.scope.clone(), version: version.map(|version| version.number), pinned: pinned.is_some() }
    }

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
            let length = u32::try_from(version.sealed.ciphertext.len()).map_err(|_| Error::TooLarge)?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&version.sealed.ciphertext);
        }
        Ok(())
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = parse(reader.text()?)?;
        let scope = match reader.u8()? {
            SCOPE_ALL => Scope::All,
            SCOPE_CHAINS => {
                let count = reader.u16()?;
                let chains: BTreeSet<_> =
                    (0..count).map(|_| parse(reader.text()?)).collect::<Result<_, Malformed>>()?;
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

const SCOPE_ALL: u8 = 0x2E;
const SCOPE_CHAINS: u8 = 0xD1;

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

fn put_count(out: &mut Vec<u8>, count: usize) -> Result<(), Error> {
    let count = u16::try_from(count).map_err(|_| Error::TooLarge)?;
    out.extend_from_slice(&count.to_le_bytes());
    Ok(())
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
