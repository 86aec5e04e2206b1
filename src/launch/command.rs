//! Finding the agent's program, before any secret is opened.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess};

use super::{Arguments, Failure, Status};

/// A program that was found and may be executed, with its arguments.
#[derive(Debug)]
pub struct Program {
    /// The file to execute.
    pub path: CString,
    /// Its arguments, argv\[0\] as it was typed.
    pub argv: Vec<CString>,
}

/// Searches as execvp(3) does, but for empty elements of PATH: those mean the current folder, and
/// are passed over.
pub fn resolve(arguments: &Arguments) -> Result<Program, Failure> {
    if let Some(folder) = &arguments.chdir {
        std::env::set_current_dir(folder).map_err(|error| {
            Failure::new(Status::Other, format!("--chdir: can't change to {}: {error}", folder.display()))
        })?;
    }
    let name = arguments.command.first().map(OsString::as_os_str).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let found = search(name, &path)?;
    let text = |word: &OsStr| {
        CString::new(word.as_bytes()).map_err(|_| Failure::new(Status::Other, "an argument holds a NUL byte"))
    };
    Ok(Program {
        path: text(found.as_os_str())?,
        argv: arguments.command.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
    })
}

/// Finds a program by its name in the folders of `path`, or by its path where it has a slash.
pub fn search(name: &OsStr, path: &OsStr) -> Result<PathBuf, Failure> {
    let shown = name.to_string_lossy();
    let shown = shown.escape_debug();
    let not_found = || Failure::new(Status::NotFound, format!("'{shown}': command not found"));
    let refused = |errno: Errno| {
        let fault = match errno {
            Errno::EISDIR => "is a folder".into(),
            Errno::EACCES => "is not executable; chmod +x it".into(),
            other => format!("can't be executed: {other}"),
        };
        Failure::new(Status::NotExecutable, format!("'{shown}' {fault}"))
    };
    if name.is_empty() {
        return Err(not_found());
    }
    if name.as_bytes().contains(&b'/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(not_found()),
            Err(errno) => Err(refused(errno)),
        };
    }
    let mut in_the_way = None;
    for folder in path.as_bytes().split(|&byte| byte == b':').filter(|folder| !folder.is_empty()) {
        let candidate = Path::new(&OsString::from_vec(folder.to_vec())).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(errno) if candidate.symlink_metadata().is_ok() => in_the_way = in_the_way.or(Some(errno)),
            // Not there, or in a folder that this user can't search.
            Err(_) => {}
        }
    }
    Err(in_the_way.map_or_else(not_found, refused))
}

fn check(path: &Path) -> Result<(), Errno> {
    let metadata = std::fs::metadata(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    match metadata.is_file() {
        true => eaccess(path, AccessFlags::X_OK),
        false if metadata.is_dir() => Err(Errno::EISDIR),
        false => Err(Errno::EACCES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn put(folder: &Path, name: &str, mode: u32) {
        let path = folder.join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_executable_in_path_wins() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(one.path(), "tool", 0o644);
        put(two.path(), "tool", 0o755);
        put(one.path(), "dead", 0o644);
        std::fs::create_dir(one.path().join("folder")).unwrap();
        let path: OsString = format!("::/nonexistent:{}:{}", one.path().display(), two.path().display()).into();
        let status = |name: &str| search(OsStr::new(name), &path).map_err(|failure| failure.to_string());
        assert_eq!(status("tool").unwrap(), two.path().join("tool"));
        assert!(status("dead").unwrap_err().contains("is not executable"));
        assert!(status("folder").unwrap_err().contains("is a folder"));
        assert!(status("absent").unwrap_err().contains("command not found"));
        assert!(status("").unwrap_err().contains("command not found"));
        assert!(status("./absent").unwrap_err().contains("command not found"));
    }

    #[test]
    fn an_empty_element_of_path_is_not_the_current_folder() {
        // The tests run in the folder of the crate, where Cargo.toml stands.
        assert!(search(OsStr::new("Cargo.toml"), OsStr::new(":")).unwrap_err().to_string().contains("not found"));
    }
}
