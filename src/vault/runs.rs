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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;
    use crate::vault::whole_tests::{Kit, without_right_to};

    #[test]
    fn a_runs_file_is_made_once_and_replaced_whole() {
        let kit = Kit::new();
        let runs = Runs::open(&kit.instance).unwrap();
        let folder = kit.instance.runs.as_path();
        let names =
            || -> Vec<_> { std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        let run: RunId = "nightly".parse().unwrap();
        assert_eq!(runs.read(&run).unwrap(), None);
        runs.create(&run, b"first").unwrap();
        assert_eq!(runs.file(&run), folder.join("nightly.run"));
        assert_eq!(runs.file(&run).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(runs.create(&run, b"second").unwrap_err().to_string().contains("can't create"));
        assert_eq!(runs.read(&run).unwrap().unwrap(), b"first");
        // What a writer left that was killed.
        std::fs::write(folder.join(TEMPORARY), "half of the pi").unwrap();
        let lock = runs.lock().unwrap();
        runs.replace(&lock, &run, b"second").unwrap();
        assert_eq!((runs.read(&run).unwrap().unwrap(), names()), (b"second".to_vec(), vec!["nightly.run".into()]));
        runs.store(&lock, &run, b"third").unwrap();
        assert_eq!((runs.read(&run).unwrap().unwrap(), names()), (b"third".to_vec(), vec!["nightly.run".into()]));
        assert!(runs.remove(&lock, &run).unwrap() && !runs.remove(&lock, &run).unwrap());
        assert_eq!((runs.read(&run).unwrap(), names()), (None, vec![]));
        // One after the other.
        let is_free = || File::open(folder).unwrap().try_lock().is_ok();
        assert!(!is_free());
        drop(lock);
        assert!(is_free());
    }

    #[test]
    fn what_stands_in_a_runs_place_is_its_file_or_refused() {
        let kit = Kit::new();
        let runs = Runs::open(&kit.instance).unwrap();
        let run: RunId = "nightly".parse().unwrap();
        // What a power cut may leave.
        runs.create(&run, b"").unwrap();
        assert_eq!(runs.read(&run).unwrap(), None);
        std::fs::set_permissions(runs.file(&run), std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(runs.read(&run).is_err());
        let lock = runs.lock().unwrap();
        runs.remove(&lock, &run).unwrap();
        symlink(&kit.instance.vault, runs.file(&run)).unwrap();
        assert!(runs.read(&run).is_err());
        runs.remove(&lock, &run).unwrap();
        // Another's folder of this name is no file, and stays.
        std::fs::create_dir(runs.file(&run)).unwrap();
        assert!(runs.read(&run).is_err() && runs.remove(&lock, &run).is_err());
        assert!(runs.replace(&lock, &run, b"pins").unwrap_err().to_string().contains("can't write"));
    }

    /// Else a run would be given other versions than it holds.
    #[test]
    fn pins_that_can_not_be_read_are_not_taken_for_none() {
        let kit = Kit::new();
        let runs = Runs::open(&kit.instance).unwrap();
        let run: RunId = "nightly".parse().unwrap();
        runs.create(&run, b"pins").unwrap();
        let said = without_right_to(&kit.instance.runs, || runs.read(&run).unwrap_err().to_string());
        assert!(said.contains("can't open"), "{said}");
        assert_eq!(runs.read(&run).unwrap().unwrap(), b"pins");
    }

    #[test]
    fn no_program_inherits_what_is_open_here() {
        let kit = Kit::new();
        let runs = Runs::open(&kit.instance).unwrap();
        let lock = runs.lock().unwrap();
        let file = runs.write(TEMPORARY, b"pins").unwrap();
        for flags in [fcntl(&*lock.0, FcntlArg::F_GETFD), fcntl(&file, FcntlArg::F_GETFD)] {
            assert_eq!(flags.unwrap(), FdFlag::FD_CLOEXEC.bits());
        }
    }
}
