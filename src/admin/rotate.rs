//! `mentiko secret rotate`: a new value, and what becomes of the ones before.

use std::io::Write;
use std::os::fd::RawFd;
use std::process::ExitCode;

use super::context::{self, Change, secret_name};
use super::secret::unknown;
use super::{Common, Error, value};
use crate::audit::Event;
use crate::memory::Arena;
use crate::policy::SecretName;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The secret
    #[arg(value_parser = secret_name)]
    name: SecretName,
    /// Read the value from this descriptor
    #[arg(long, value_name = "N")]
    value_fd: Option<RawFd>,
}

pub(super) fn run(common: &Common, arguments: Arguments) -> Result<ExitCode, Error> {
    let Arguments { name, value_fd } = arguments;
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let value = value::read(name.as_str(), value_fd, &arena)?;
    let key = context::key(common, &instance, &arena)?;
    let now = context::now();
    let change = context::change(&instance, key, &arena, |vault, contents| {
        let record = contents.get_mut(&name).ok_or_else(|| unknown(&name))?;
        let version = vault.add_version(record, value, now)?;
        Ok(Change { event: Event::SecretRotate, secret: name, version: Some(version) })
    })?;
    let (name, version) = (change.secret, change.version.unwrap_or_default());
    writeln!(std::io::stdout(), "rotated {name} to version {version}; runs that hold another keep it")?;
    Ok(ExitCode::SUCCESS)
}
