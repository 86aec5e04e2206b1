//! Where a vault was opened: whether it is still the instance's vault, however much later.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};

/// Its folder is held open: behind a fence the path leads elsewhere.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    name: OsString,
    /// Held open, so that no other file gets its number.
    pub(super) file: File,
    id: [u8; 16],
}

impl Place {
    pub(super) fn new(path: &Path, folder: OwnedFd, file: File, id: [u8; 16]) -> Self {
        Self { folder, name: path.file_name().unwrap_or_default().to_owned(), file, id }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    #[allow(clippy::unwrap_used)] // For tests.
    pub(super) fn of_test() -> Self {
        let root = || File::open("/").unwrap();
        Self { folder: root().into(), name: ".".into(), file: root(), id: [0; 16] }
    }

    /// Whether the vault at this place has the same keys as when it was opened: it is the same file,
    /// or one that was written since under them.
    pub(super) fn is_current(&self) -> bool {
        let Ok(opened) = self.file.metadata() else { return false };
        match fstatat(&self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(now) if (now.st_dev, now.st_ino) == (opened.dev(), opened.ino()) => true,
            Ok(_) => self.id_now() == Some(self.id),
            // Privileges were given up since. A file that is still linked was not replaced.
            Err(Errno::EACCES) => opened.nlink() > 0,
            Err(_) => false,
        }
    }

    /// The vault id at bytes 16 to 31, a claim: who could forge it could remove the file.
    fn id_now(&self) -> Option<[u8; 16]> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file: File = openat(&self.folder, self.name.as_os_str(), flags, Mode::empty()).ok()?.into();
        let mut id = [0; 16];
        file.read_exact_at(&mut id, 16).ok()?;
        Some(id)
    }
}
