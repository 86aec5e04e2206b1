//! Changing a secret: a value sealed as its next version, versions revoked, schedules as people write them.

use std::fmt;
use std::str::FromStr;

use super::crypto::{self, NONCE};
use super::keys::value_context;
use super::{Error, Record, RootKey, Rotation, Sealed, State, Vault, Version};
use crate::instance::fill;
use crate::memory::with_wiped_frames;
use crate::policy::{Facts, SecretName};

/// The longest value, in bytes: with a name, `=` and NUL it must fit into execve's
/// MAX_ARG_STRLEN of 131,072 (execve(2)).
pub const MAX_VALUE: usize = 131_000;
/// The longest note, in bytes.
pub const MAX_NOTE: usize = 1024;

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
        let context = value_context(vault_id, name, version, &salt);
        let tag = with_wiped_frames(|| crypto::seal(&root.value(&context), &nonce, &context, value))?;
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
    /// What the decision needs to know of it for a run that holds no version of it yet.
    pub fn facts(&self) -> Facts {
        self.facts_for(None)
    }
}

impl Vault<'_> {
    /// Seals a value as the next version of a secret. It becomes current; what was current becomes
    /// previous. `value` is overwritten by its ciphertext. Returns the version's number.
    pub fn add_version(&self, record: &mut Record, value: &mut [u8], now: u64) -> Result<u32, Error> {
        let last = record.versions.iter().map(|version| version.number).max().unwrap_or(0);
        let number = last.checked_add(1).ok_or(Error::TooLarge)?;
        let sealed = Sealed::seal(&self.root, self.id(), &record.name, number, value)?;
        for version in record.versions.iter_mut().filter(|version| version.state == State::Current) {
            version.state = State::Previous;
        }
        record.versions.push(Version { number, state: State::Current, created: now, sealed });
        record.changed = now;
        Ok(number)
    }

    /// A secret without versions yet.
    pub fn new_record(name: SecretName, now: u64) -> Record {
        Record {
            name,
            scope: crate::policy::Scope::All,
            rotation: None,
            note: String::new(),
            created: now,
            changed: now,
            versions: Vec::new(),
        }
    }
}

impl FromStr for Rotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "monthly" => Ok(Self::Monthly),
            "quarterly" => Ok(Self::Quarterly),
            "yearly" => Ok(Self::Yearly),
            _ => text
                .strip_suffix('d')
                .filter(|days| days.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|days| days.parse().ok())
                .filter(|days| (1..=3650).contains(days))
                .map(Self::Days)
                .ok_or_else(|| "use 30d (1d to 3650d), monthly, quarterly or yearly".into()),
        }
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(f, "{days}d"),
            Self::Monthly => f.write_str("monthly"),
            Self::Quarterly => f.write_str("quarterly"),
            Self::Yearly => f.write_str("yearly"),
        }
    }
}
