//! Writing files whole or not at all: beside the one that is in use, synced, renamed over it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::trusted::folder_of;
use super::{Error, KeySource};

/// A new key file, beside the one that is in use until a vault opens under both, under a name that
/// nobody reads; removed again unless it is put in place.
#[derive(Debug)]
pub struct PendingKey {
    path: PathBuf,
    pending: PathBuf,
    is_placed: bool,
}

impl PendingKey {
    /// Writes the key beside the file of this path, synced.
    pub fn write(path: &Path, key: &[u8; 32]) -> Result<Self, Error> {
        let pending = beside(path, ".new");
        let failed = |what| {
            let pending = pending.clone();
            move |error| Error::file(what, pending, error)
        };
        let mut file =
            File::options().write(true).create_new(true).mode(0o600).open(&pending).map_err(failed("create"))?;
        let written = Self { path: path.to_owned(), pending: pending.clone(), is_placed: false };
        file.write_all(key).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        sync_folder(folder_of(path))?;
        Ok(written)
    }

    /// Puts it in the place of the key file.
    pub fn put_in_place(mut self) -> Result<(), Error> {
        std::fs::rename(&self.pending, &self.path).map_err(|error| Error::file("replace", &self.path, error))?;
        self.is_placed = true;
        sync_folder(folder_of(&self.path))
    }
}

impl Drop for PendingKey {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = std::fs::remove_file(&self.pending);
        }
    }
}

impl KeySource {
    /// Removes what a writer that was killed may have left beside the key file. Only for who has
    /// the right to write the vault.
    pub fn remove_pending(&self) {
        if let Self::File(path) = self {
            let _ = std::fs::remove_file(beside(path, ".new"));
        }
    }
}

/// The path with more at its end: a file in the same folder, for a rename(2).
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// fsync of a folder: makes a rename or a new file in it durable (fsync(2)).
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let file = File::open(folder).map_err(|error| Error::file("open", folder, error))?;
    nix::unistd::fsync(file.as_fd()).map_err(|errno| Error::file("sync", folder, errno))
}

/// Puts a file in place, whole or not at all.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    replace_with(path, mode, |file, _| file.write_all(bytes).map_err(|error| Error::file("write", path, error)))
}

/// The same with what `write` puts into it; it is given the path under which that stands meanwhile.
pub(crate) fn replace_with<E: From<Error>>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File, &Path) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = beside(path, ".tmp");
    let failed = |what: &'static str| {
        let path = &temporary;
        move |error| Error::file(what, path, error)
    };
    // Left by a writer that was killed.
    let _ = std::fs::remove_file(&temporary);
    let mut file =
        File::options().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed("create"))?;
    let written = write(&mut file, &temporary)
        .and_then(|()| Ok(file.sync_all().map_err(failed("sync"))?))
        .and_then(|()| Ok(std::fs::rename(&temporary, path).map_err(failed("rename"))?));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    Ok(sync_folder(folder_of(path))?)
}
