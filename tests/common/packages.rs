//! Packages of PyPI and npm, in a private folder of the tests, installed once and used again.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{AccessFlags, eaccess, geteuid};

use crate::common::text;

/// A private folder with these packages, put there by `install` unless they are there already, and
/// beside them these files (name, content).
pub fn installed(name: &str, packages: &[&str], files: &[(&str, &str)], install: fn(&Path, &[&str])) -> PathBuf {
    let parent = private_folder();
    // Tests run at once, and so may whole runs of them.
    let lock = File::create(parent.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let folder = parent.join(name);
    // Written last: what a broken run left is made anew, as is what another version left.
    let (complete, content) = (folder.join("complete"), format!("{packages:?}\n{files:?}"));
    if std::fs::read_to_string(&complete).is_ok_and(|text| text == content) {
        return folder;
    }
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}: {error}", folder.display());
    }
    std::fs::create_dir(&folder).unwrap();
    for (file, content) in files {
        std::fs::write(folder.join(file), content).unwrap();
    }
    install(&folder, packages);
    std::fs::write(complete, content).unwrap();
    folder
}

/// Cargo's folder for the tests, unless another user built them.
fn private_folder() -> PathBuf {
    let of_cargo = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let uid = geteuid();
    let folder = match eaccess(of_cargo, AccessFlags::W_OK) {
        Ok(()) => of_cargo.join("clients"),
        Err(_) => std::env::temp_dir().join(format!("mentiko-exec-clients-{uid}")),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    // What is run from it must be what was installed.
    let owner = std::fs::symlink_metadata(&folder).unwrap().uid();
    assert_eq!(owner, uid.as_raw(), "{} belongs to another user", folder.display());
    folder
}

/// Runs one step of an installation; what it says is the error.
fn step(program: impl Into<OsString>, arguments: &[&str], folder: &Path) -> Result<(), String> {
    let program = program.into();
    let shown = format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{shown}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// With Node.js.
pub fn npm(folder: &Path, packages: &[&str]) {
    let arguments = ["install", "--prefix", ".", "--ignore-scripts", "--no-audit", "--no-fund"];
    let arguments = [&arguments, packages].concat();
    let made = step("node", &["--version"], folder).and_then(|()| step("npm", &arguments, folder));
    if let Err(error) = made {
        panic!("this test needs Node.js and npm (Debian: nodejs, npm) and npm's registry\n{error}");
    }
}

/// Makes `python/bin/python`, which finds the packages: in a virtual environment, or, where no
/// python3 can make one, beside the files, where Python looks first.
pub fn pip(folder: &Path, packages: &[&str]) {
    let program = folder.join("python/bin/python");
    let mut errors = Vec::new();
    for python in pythons() {
        let made = step(python, &["-m", "venv", "--clear", "python"], folder);
        match made.and_then(|()| step(&program, &[&["-m", "pip", "install"], packages].concat(), folder)) {
            Ok(()) => return,
            Err(error) => errors.push(error),
        }
    }
    for python in pythons() {
        match step(&python, &[&["-m", "pip", "install", "--target", "."], packages].concat(), folder) {
            Ok(()) => {
                let _ = std::fs::remove_dir_all(folder.join("python"));
                std::fs::create_dir_all(folder.join("python/bin")).unwrap();
                return symlink(python, program).unwrap();
            }
            Err(error) => errors.push(error),
        }
    }
    let errors = errors.join("\n");
    panic!("this test needs Python 3.10 or later with venv (Debian: python3, python3-venv) and PyPI\n{errors}");
}

/// Every python3 of PATH, then the system's. The first can be another user's, or have no venv.
fn pythons() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into()]);
    folders.map(|folder| folder.join("python3")).filter(|python| python.exists()).collect()
}
