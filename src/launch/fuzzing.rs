//! See [`crate::fuzzing`].

use std::ffi::{CString, OsString};

use clap::Parser;

use super::{Arguments, Environment, Inherited};
use crate::policy::Definition;

pub use super::mask::fuzzing as mask;

/// A command line; `None` where it is refused.
pub fn arguments(words: &[String]) -> Option<Arguments> {
    Arguments::try_parse_from(words).ok()
}

/// What is inherited of these variables.
pub fn inherited(all: Vec<(OsString, OsString)>, arguments: &Arguments, definition: &Definition) -> Inherited {
    Inherited::from(all, arguments, definition)
}

/// Copies of what execve(2) would be called with.
pub fn variables(environment: &Environment<'_>) -> Vec<CString> {
    environment.variables().iter().map(|variable| variable.as_ref().to_owned()).collect()
}
