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
