//! An opened value: in the arena, and only for a launch that was granted it.

use std::ffi::CStr;

use super::{Error, Record, Vault};
use crate::memory::Arena;
use crate::policy::{Grant, SecretName, VariableName};

/// A value that a launch may hand to its agent.
///
/// It lies in the arena as `NAME=value` with a final NUL, as execve(2) takes it, so that it is
/// never copied. No Clone, no Serialize; Debug shows the name.
pub struct Secret<'a> {
    grant: Grant,
    assignment: &'a [u8],
}

impl std::fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}]", self.name())
    }
}

impl<'a> Secret<'a> {
    /// The variable that is to hold it.
    pub fn variable(&self) -> &VariableName {
        self.grant.variable()
    }

    /// The secret's name.
    pub fn name(&self) -> &SecretName {
        self.grant.secret()
    }

    /// The version that was opened.
    pub fn version(&self) -> u32 {
        self.grant.version()
    }

    /// `NAME=value`, NUL-terminated, in the arena.
    pub fn assignment(&self) -> Option<&'a CStr> {
        CStr::from_bytes_with_nul(self.assignment).ok()
    }

    /// The value alone, in the arena.
    pub fn value(&self) -> &'a [u8] {
        let start = self.variable().as_str().len() + 1;
        self.assignment.get(start..self.assignment.len().saturating_sub(1)).unwrap_or_default()
    }
}

impl Vault<'_> {
    /// Opens what was granted; the grant is used up.
    pub fn open_secret<'a>(&self, grant: Grant, record: &Record, arena: &'a Arena) -> Result<Secret<'a>, Error> {
        let damaged = || self.damaged(format!("version {} of secret '{}'", grant.version(), grant.secret()));
        let version = record.version(grant.version()).filter(|_| record.name == *grant.secret()).ok_or_else(damaged)?;
        let name = grant.variable().as_str().as_bytes();
        let length = version.sealed.value_len();
        let assignment = arena.alloc(name.len() + 1 + length + 1)?;
        let (prefix, rest) = assignment.split_at_mut_checked(name.len() + 1).ok_or_else(damaged)?;
        prefix.iter_mut().zip(name.iter().chain(b"=")).for_each(|(place, byte)| *place = *byte);
        let place = rest.get_mut(..length).ok_or_else(damaged)?;
        self.open_value(&record.name, version, place)?;
        Ok(Secret { grant, assignment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::whole_tests::{Kit, grants, opened};

    #[test]
    fn a_secret_is_the_assignment_of_what_was_granted() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let contents = kit.fill(2);
        let vault = kit.open(&arena);
        for (secret, assignment) in opened(&vault, &contents, &arena).iter().zip([c"S0=value of S0", c"S1=value of S1"])
        {
            assert_eq!(secret.assignment(), Some(assignment));
            assert_eq!(secret.value(), &assignment.to_bytes()[3..]);
            assert_eq!((secret.name().as_str(), secret.version()), (secret.variable().as_str(), 2));
            assert_eq!(format!("{secret:?}"), format!("[{}]", secret.name()));
        }
    }

    #[test]
    fn a_grant_opens_no_other_secret_and_no_other_version() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let contents = kit.fill(2);
        let vault = kit.open(&arena);
        let mut records: Vec<Record> = contents.values().cloned().collect();
        let said = |record: &Record| {
            let grant = grants(&contents).remove(0);
            vault.open_secret(grant, record, &arena).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(said(&records[0]), Ok(()));
        assert!(said(&records[1]).unwrap_err().contains("version 2 of secret 'S0'"));
        // The value of another in its place, or of another version.
        records[1].name = records[0].name.clone();
        assert!(said(&records[1]).unwrap_err().contains("version 2 of secret 'S0'"));
        records[0].versions.remove(1);
        assert!(said(&records[0]).unwrap_err().contains("version 2 of secret 'S0'"));
        records[0].versions[0].number = 2;
        assert!(said(&records[0]).unwrap_err().contains("version 2 of secret 'S0'"));
    }
}
