//! What only people do with the pins of runs: keep them through a power cut, end a run.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::runs::{TEMPORARY, name_of};
use super::{Error, Pins, Runs, RunsLock};
use crate::instance::{self, sync_folder};
use crate::policy::{RunId, SecretName};

impl Runs {
    /// As [`Runs::replace`], on stable storage when it returns.
    pub fn store(&self, _: &RunsLock, run: &RunId, sealed: &[u8]) -> Result<(), Error> {
        let file = self.write(TEMPORARY, sealed)?;
        file.sync_all().map_err(|error| instance::Error::file("sync", self.path.join(TEMPORARY), error))?;
        self.rename(run)?;
        self.sync()
    }

    /// Removes the pins of a run; whether there were any.
    pub fn remove(&self, _: &RunsLock, run: &RunId) -> Result<bool, Error> {
        match unlinkat(&self.folder, name_of(run).as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(instance::Error::file("remove", self.file(run), errno).into()),
        }
    }

    /// Puts on stable storage what was removed.
    pub fn sync(&self) -> Result<(), Error> {
        Ok(sync_folder(&self.path)?)
    }
}

impl Pins {
    /// All that it holds.
    pub fn versions(&self) -> &BTreeMap<SecretName, u32> {
        &self.versions
    }
}
