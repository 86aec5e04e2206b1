//! A new key file, beside the one that is in use until a vault opens under both.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Error, KeySource, sync_folder};

/// A key file under a name that nobody reads; removed again unless it is put in place.
#[derive(Debug)]
pub struct PendingKey {
    path: PathBuf,
    pending: PathBuf,
    is_placed: bool,
}

impl PendingKey {
    /// Writes the key beside the file of this path, synced.
    pub fn write(path: &Path, key: &[u8; 32]) -> Result<Self, Error> {
        let pending = pending(path);
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
            let _ = std::fs::remove_file(pending(path));
        }
    }
}

fn pending(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
