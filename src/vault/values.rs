//! Opening all values, to find out where else they are.
//!
//! Not part of a launch: a [`Value`] can't become a [`super::Secret`], and no environment is built
//! of one.

use super::{Error, State, Vault};
use crate::memory::Arena;
use crate::policy::SecretName;

/// A value to search for, in the arena. No Clone, no Serialize; Debug shows the name.
pub struct Value<'a> {
    /// The secret.
    pub name: SecretName,
    /// Its version.
    pub version: u32,
    /// What the version may be used for.
    pub state: State,
    /// The value.
    pub bytes: &'a [u8],
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}]", self.name)
    }
}

impl Vault<'_> {
    /// Every version of every value, in the order of the names.
    pub fn open_values<'a>(&self, arena: &'a Arena) -> Result<Vec<Value<'a>>, Error> {
        let mut values = Vec::new();
        for record in self.read_all()?.into_values() {
            for version in &record.versions {
                let place = arena.alloc(version.sealed.value_len())?;
                self.open_value(&record.name, version, place)?;
                let (name, state) = (record.name.clone(), version.state);
                values.push(Value { name, version: version.number, state, bytes: place });
            }
        }
        Ok(values)
    }
}
