//! The folder of the runs' pins: a file each, which is made whole or not at all.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Error;
use crate::instance::{self, Access, Instance, open_at, open_folder};
use crate::policy::RunId;

/// No run has this name: those begin with a letter or digit.
pub(super) const TEMPORARY: &str = ".tmp";
/// The largest file that is read: more than 65,535 names can fill.
const MAX_FILE: u64 = 16 << 20;

/// `runs/` of an instance, held open.
#[derive(Debug)]
pub struct Runs {
    pub(super) path: PathBuf,
    pub(super) folder: OwnedFd,
}

/// The right to change the pins of a run that others may know of. Who makes up a new run needs
/// none, and readers take none.
#[derive(Debug)]
pub struct RunsLock(#[allow(dead_code)] Flock<OwnedFd>);

impl Runs {
    /// Opens the folder that the configuration names.
    pub fn open(instance: &Instance) -> Result<Self, Error> {
        Ok(Self { path: instance.runs.clone(), folder: open_folder(&instance.runs)? })
    }

    /// The file of a run.
    pub fn file(&self, run: &RunId) -> PathBuf {
        self.path.join(name_of(run))
    }

    /// Waits for others that change pins. The kernel lets go of a dead process's lock, and what it
    /// left half-written is removed here.
    pub fn lock(&self) -> Result<RunsLock, Error> {
        let failed = |errno| Error::Instance(instance::Error::file("lock", &self.path, errno));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(&self.folder, ".", flags, Mode::empty()).map_err(failed)?;
        let lock = Flock::lock(fd, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno))?;
        let _ = unlinkat(&self.folder, TEMPORARY, UnlinkatFlags::NoRemoveDir);
        Ok(RunsLock(lock))
    }

    /// The sealed pins of a run; `None` where it has none. An empty file is what a power cut may
    /// leave of one: who can empty it could remove it as well.
    pub fn read(&self, run: &RunId) -> Result<Option<Vec<u8>>, Error> {
        let path = self.file(run);
        let mut sealed = Vec::new();
        match open_at(&self.folder, &name_of(run), &path, Access::OthersRead) {
            Ok(file) => file
                .take(MAX_FILE)
                .read_to_end(&mut sealed)
                .map_err(|error| instance::Error::file("read", &path, error))?,
            Err(instance::Error::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(sealed).filter(|sealed| !sealed.is_empty()))
    }

    /// Writes the pins of a run that was just made up, so that nobody can be looking for them.
    pub fn create(&self, run: &RunId, sealed: &[u8]) -> Result<(), Error> {
        self.write(&name_of(run), sealed).map(|_| ())
    }

    /// Writes the pins of a run in the place of those before. Not synced: no process of a run
    /// outlives a power cut.
    pub fn replace(&self, _: &RunsLock, run: &RunId, sealed: &[u8]) -> Result<(), Error> {
        self.write(TEMPORARY, sealed)?;
        self.rename(run)
    }

    pub(super) fn rename(&self, run: &RunId) -> Result<(), Error> {
        let renamed = renameat(&self.folder, TEMPORARY, &self.folder, name_of(run).as_str());
        renamed.map_err(|errno| instance::Error::file("write", self.file(run), errno).into())
    }

    pub(super) fn write(&self, name: &str, sealed: &[u8]) -> Result<File, Error> {
        let failed = |what, error| Error::Instance(instance::Error::file(what, self.path.join(name), error));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let created = openat(&self.folder, name, flags, Mode::from_bits_truncate(0o600));
        let mut file = File::from(created.map_err(|errno: Errno| failed("create", errno.into()))?);
        file.write_all(sealed).map_err(|error| {
            let _ = unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir);
            failed("write", error)
        })?;
        Ok(file)
    }
}

pub(super) fn name_of(run: &RunId) -> String {
    format!("{run}.run")
}
