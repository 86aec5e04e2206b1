//! Opening the files that decide or open: only as they were meant to be.
//!
//! Everything is checked on the open descriptor, so that what was checked is what is read.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_descriptor, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nix::unistd::geteuid;

use super::Error;

/// What others may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Others may read it, not write it: configuration, chains, the vault.
    OthersRead,
    /// Nobody else may do anything: key files.
    OwnerOnly,
    /// As systemd lays out credentials: mode 0400 with an ACL for the service's user, whose mask
    /// shows as group bits (systemd.exec(5), CREDENTIALS_DIRECTORY).
    Credential,
}

/// Opens a file for reading that root or the caller owns, without following a final symbolic link.
pub fn open(path: &Path, access: Access) -> Result<File, Error> {
    check_folder(folder_of(path), stat(folder_of(path)))?;
    checked(path, open_descriptor(path, FLAGS, Mode::empty()), access)
}

/// The same, with the file's folder, for looking there again later.
pub fn open_with_folder(path: &Path, access: Access) -> Result<(OwnedFd, File), Error> {
    let (parent, failed) = (folder_of(path), |errno: Errno| Error::file("open", path, errno));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = open_descriptor(parent, flags, Mode::empty()).map_err(failed)?;
    check_folder(parent, fstat(&folder))?;
    let name = path.file_name().unwrap_or_default();
    let file = checked(path, openat(&folder, name, FLAGS, Mode::empty()), access)?;
    Ok((folder, file))
}

/// The same in a folder that is open already, and was checked by [`open_folder`].
pub fn open_at(folder: &OwnedFd, name: &str, path: &Path, access: Access) -> Result<File, Error> {
    checked(path, openat(folder, name, FLAGS, Mode::empty()), access)
}

/// The same for writing too; makes the file, for its owner alone, where it is missing.
pub(crate) fn open_or_make_at(folder: &OwnedFd, name: &str) -> Result<File, Error> {
    let flags = FLAGS | OFlag::O_RDWR | OFlag::O_CREAT;
    checked(Path::new(name), openat(folder, name, flags, Mode::from_bits_truncate(0o600)), Access::OthersRead)
}

/// Opens a folder that root or the caller owns and others can't write.
pub fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = match open_descriptor(path, flags, Mode::empty()) {
        Err(Errno::ENOTDIR) if path.is_symlink() => {
            return Err(untrusted(path, "is a symbolic link", "name the folder itself in instance.json"));
        }
        opened => opened.map_err(|errno| Error::file("open", path, errno))?,
    };
    check_folder(path, fstat(&fd))?;
    Ok(fd)
}

/// O_NONBLOCK: a FIFO put in the file's place must not make the wrapper wait.
const FLAGS: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

fn checked(path: &Path, opened: Result<OwnedFd, Errno>, access: Access) -> Result<File, Error> {
    let file = match opened {
        Ok(fd) => File::from(fd),
        Err(Errno::ELOOP) => {
            return Err(untrusted(path, "is a symbolic link", "name the file itself"));
        }
        Err(errno) => return Err(Error::file("open", path, errno)),
    };
    check(path, &file, access)?;
    Ok(file)
}

/// Reads a whole trusted file.
pub fn read(path: &Path, access: Access) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    open(path, access)?.read_to_end(&mut bytes).map_err(|error| Error::file("read", path, error))?;
    Ok(bytes)
}

fn check(path: &Path, file: &File, access: Access) -> Result<(), Error> {
    let stat = fstat(file).map_err(|errno| Error::file("stat", path, errno))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(untrusted(path, "is not a regular file", "put a regular file in its place"));
    }
    check_owner(path, stat.st_uid)?;
    let mode = stat.st_mode & 0o7777;
    let (forbidden, fault, mend) = match access {
        Access::OthersRead => (0o022, "others can write it", "chmod go-w"),
        Access::OwnerOnly => (0o077, "others have access to the key", "chmod 600"),
        Access::Credential => (0o027, "others have access to the key", "chmod 400"),
    };
    match mode & forbidden {
        0 => Ok(()),
        _ => Err(untrusted(path, format!("has mode {mode:04o}: {fault}"), format!("{mend} {}", path.display()))),
    }
}

/// The folder that the file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Who can write to the folder can put another file there.
fn check_folder(folder: &Path, stat: Result<FileStat, Errno>) -> Result<(), Error> {
    let stat = stat.map_err(|errno| Error::file("open", folder, errno))?;
    check_owner(folder, stat.st_uid)?;
    let mode = stat.st_mode & 0o7777;
    let sticky = mode & 0o1000 != 0;
    match mode & 0o022 == 0 || sticky {
        true => Ok(()),
        false => {
            let fault = format!("has mode {mode:04o}: others can replace files in it");
            Err(untrusted(folder, fault, format!("chmod go-w {}", folder.display())))
        }
    }
}

fn check_owner(path: &Path, owner: u32) -> Result<(), Error> {
    let caller = geteuid().as_raw();
    if owner == 0 || owner == caller {
        return Ok(());
    }
    let fault = format!("is owned by user {owner}, neither root nor the caller ({caller})");
    Err(untrusted(path, fault, format!("chown {caller} {}", path.display())))
}

fn untrusted(path: &Path, fault: impl Into<String>, mend: impl Into<String>) -> Error {
    Error::Untrusted { path: path.to_owned(), fault: fault.into(), mend: mend.into() }
}

/// Fills the buffer from this place of a file, as far as the file goes; how far.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn file_with(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "content").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn modes_decide_and_the_error_names_the_mend() {
        for (mode, access, allowed) in [
            (0o600, Access::OwnerOnly, true),
            (0o400, Access::OwnerOnly, true),
            (0o640, Access::OwnerOnly, false),
            (0o604, Access::OwnerOnly, false),
            (0o644, Access::OthersRead, true),
            (0o664, Access::OthersRead, false),
            (0o646, Access::OthersRead, false),
            (0o440, Access::Credential, true),
            (0o444, Access::Credential, false),
            (0o460, Access::Credential, false),
        ] {
            let (_folder, path) = file_with(mode);
            match open(&path, access) {
                Ok(_) => assert!(allowed, "{mode:o} {access:?}"),
                Err(error) => {
                    assert!(!allowed, "{mode:o} {access:?}");
                    let text = error.to_string();
                    assert!(text.contains("chmod") && text.contains(path.to_str().unwrap()), "{text}");
                }
            }
        }
    }

    #[test]
    fn links_pipes_and_folders_are_refused() {
        let (folder, path) = file_with(0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(open(&link, Access::OwnerOnly).unwrap_err().to_string().contains("symbolic link"));
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        assert!(open(&fifo, Access::OwnerOnly).unwrap_err().to_string().contains("not a regular file"));
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        assert!(open(&inner, Access::OthersRead).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused_unless_sticky() {
        let (folder, path) = file_with(0o600);
        for (mode, allowed) in [(0o777, false), (0o770, false), (0o1777, true), (0o755, true)] {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open(&path, Access::OwnerOnly).is_ok(), allowed, "{mode:o}");
        }
    }
}
