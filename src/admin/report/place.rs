//! The file that a report is written to.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::admin::Error;
use crate::instance::{self, sync_folder, uuid_v7};

/// A place where a file may be put, or replaced.
pub(super) struct Place {
    path: PathBuf,
    folder: PathBuf,
}

impl Place {
    /// Refuses what is there and is no plain file: rename(2) would replace a device too.
    pub(super) fn at(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let path = std::path::absolute(path).map_err(|error| format!("--html {shown}: {error}"))?;
        let Some(folder) = path.parent().filter(|_| path.file_name().is_some()) else {
            return Err(format!("--html {shown}: is a folder; name a file in it").into());
        };
        match path.symlink_metadata() {
            Ok(found) if !found.is_file() => Err(format!("--html {shown}: is there, and is no plain file").into()),
            _ => Ok(Self { folder: folder.to_owned(), path }),
        }
    }

    /// Whole or not at all: written beside it under a name of its own, synced, renamed.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.folder.join(format!(".mentiko-report-{}.tmp", uuid_v7()?));
        let written = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&temporary);
            return Err(instance::Error::file("write", &self.path, error).into());
        }
        Ok(sync_folder(&self.folder)?)
    }
}

/// Readable by its owner alone, whatever the umask.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
