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
    /// Every version of every value, in the order of the names; what was wiped is gone.
    pub fn open_values<'a>(&self, arena: &'a Arena) -> Result<Vec<Value<'a>>, Error> {
        let mut values = Vec::new();
        for record in self.read_all()?.into_values() {
            for version in record.versions.iter().filter(|version| !version.sealed.is_wiped()) {
                let place = arena.alloc(version.sealed.value_len())?;
                self.open_value(&record.name, version, place)?;
                let (name, state) = (record.name.clone(), version.state);
                values.push(Value { name, version: version.number, state, bytes: place });
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::whole_tests::Kit;

    #[test]
    fn each_value_that_was_not_wiped_is_opened() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let mut contents = kit.fill(2);
        assert!(contents.values_mut().next().unwrap().versions[0].revoke());
        kit.open(&arena).replace(&kit.lock(), &contents).unwrap();
        let vault = kit.open(&arena);
        let values = vault.open_values(&arena).unwrap();
        let said: Vec<_> = values.iter().map(|value| (format!("{value:?}"), value.version, value.state)).collect();
        let current = |name: &str| (name.to_owned(), 2, State::Current);
        assert_eq!(said, [current("[S0]"), ("[S1]".into(), 1, State::Previous), current("[S1]")]);
        assert!(values.iter().map(|value| value.bytes).eq([&b"value of S0"[..], b"old", b"value of S1"]));
    }
}
