//! Where an instance is looked for.

use std::env::var_os;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::Error;

/// The folder of the instance: `--instance`, else `$MENTIKO_INSTANCE`, else systemd's
/// `$CONFIGURATION_DIRECTORY` where it holds one, else the place for this user.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    if let Some(path) = variable("MENTIKO_INSTANCE") {
        return Ok(path);
    }
    if let Some(path) = variable("CONFIGURATION_DIRECTORY").filter(|path| path.join("instance.json").exists()) {
        return Ok(path);
    }
    match geteuid().is_root() {
        true => Ok("/etc/mentiko".into()),
        false => below_home("XDG_CONFIG_HOME", ".config"),
    }
}

/// The mentiko folder of this user in one of the XDG base directories.
pub(crate) fn below_home(base: &str, below_home: &str) -> Result<PathBuf, Error> {
    // The XDG Base Directory Specification: relative paths are to be ignored.
    variable(base)
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(below_home)))
        .map(|path| path.join("mentiko"))
        .ok_or(Error::NoHome)
}

pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
