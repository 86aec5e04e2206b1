//! Whose the instance's files are, and who else can change or move them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

use super::Check;
use crate::instance::{Access, Error, Instance, KeySource, open_folder, open_trusted};

pub(super) fn checks(instance: &Instance) -> Vec<Check> {
    let mut checks = vec![Check::ok("configuration", format!("{}/instance.json", instance.folder.display()))];
    checks.extend(key(&instance.key));
    checks.extend(of_one("vault file", &instance.vault, open_trusted(&instance.vault, Access::OthersRead)));
    for (name, folder) in
        [("chain files", &instance.chains), ("log files", &instance.audit), ("run files", &instance.runs)]
    {
        checks.extend(of_folder(name, folder));
    }
    checks.extend(above(instance));
    checks.push(disks(instance));
    checks
}

fn key(source: &KeySource) -> Vec<Check> {
    const NAME: &str = "key";
    match source {
        KeySource::File(path) => of_one("key file", path, open_trusted(path, Access::OwnerOnly)),
        KeySource::Passphrase => vec![Check::ok(NAME, "a passphrase")],
        KeySource::Command(argv) => {
            let program = argv.first().map(String::as_str).unwrap_or_default();
            vec![Check::ok(NAME, format!("what {program} prints; let it ask a person, for agents can run it too"))]
        }
        KeySource::SystemdCredential(name) => vec![match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(_) => Check::ok(NAME, format!("the credential {name}")),
            None => Check::warn(
                NAME,
                format!("the credential {name}, which only a unit of systemd is given"),
                format!("systemd-run --pipe -p LoadCredentialEncrypted={name} mentiko doctor"),
            ),
        }],
    }
}

fn of_one<T>(name: &'static str, path: &Path, opened: Result<T, Error>) -> Vec<Check> {
    vec![match opened {
        Ok(_) => Check::ok(name, format!("{}: its owner alone can change it", path.display())),
        Err(error) => fault(name, error),
    }]
}

fn fault(name: &'static str, error: Error) -> Check {
    match error {
        Error::Untrusted { path, fault, mend } => Check::fail(name, format!("{} {fault}", path.display()), mend),
        error => Check::failed(name, error),
    }
}

/// A folder and every file in it; one line where all is well, else one for each that is not.
fn of_folder(name: &'static str, folder: &Path) -> Vec<Check> {
    if let Err(error) = open_folder(folder) {
        return vec![fault(name, error)];
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return vec![Check::fail(name, format!("can't list {}", folder.display()), "let its owner read it")];
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| !path.is_dir()).collect();
    paths.sort_unstable();
    let faults: Vec<Check> =
        paths.iter().filter_map(|path| Some(fault(name, open_trusted(path, Access::OthersRead).err()?))).collect();
    match faults.is_empty() {
        true => vec![Check::ok(name, format!("{}: its owner alone can change them", folder.display()))],
        false => faults,
    }
}

/// Who can write to a folder above the instance can put another instance in its place.
fn above(instance: &Instance) -> Vec<Check> {
    const NAME: &str = "folders above";
    let key = match &instance.key {
        KeySource::File(path) => path.parent(),
        _ => None,
    };
    let own = [
        Some(instance.folder.as_path()),
        instance.vault.parent(),
        Some(&instance.chains),
        Some(&instance.audit),
        Some(&instance.runs),
        key,
    ];
    let own: BTreeSet<PathBuf> = own.into_iter().flatten().filter_map(|path| path.canonicalize().ok()).collect();
    let is_own = |path: &Path| own.contains(path);
    let above: BTreeSet<&Path> =
        own.iter().flat_map(|path| path.ancestors().skip(1)).filter(|path| !is_own(path)).collect();
    let faults: Vec<Check> = above.iter().filter_map(|path| open_to_others(NAME, path)).collect();
    if !faults.is_empty() {
        return faults;
    }
    // Root's agents have users of their own, or could do anything anyhow.
    let writable = above.iter().find(|path| !geteuid().is_root() && access(**path, AccessFlags::W_OK).is_ok());
    vec![match writable {
        None => Check::ok(NAME, "agents of this user can't move the instance away"),
        Some(path) => Check::warn(
            NAME,
            format!(
                "an agent of this user can write {}, and put a forged instance in this one's place",
                path.display()
            ),
            "let root own the folder above the instance, or start agents as root with --user (docs/threat-model.md)",
        ),
    }]
}

fn open_to_others(name: &'static str, path: &Path) -> Option<Check> {
    let metadata = path.metadata().ok()?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let shown = path.display();
    if owner != 0 && owner != geteuid().as_raw() {
        let finding = format!("{shown} is owned by user {owner}, who can put a forged instance in this one's place");
        return Some(Check::fail(name, finding, format!("chown root {shown}, or move the instance")));
    }
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let finding = format!("{shown} has mode {mode:04o}: others can put a forged instance in this one's place");
        return Some(Check::fail(name, finding, format!("chmod go-w {shown}, or move the instance")));
    }
    None
}

fn disks(instance: &Instance) -> Check {
    const NAME: &str = "disks";
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev());
    match (device(&instance.vault), device(&instance.audit)) {
        (Ok(vault), Ok(log)) if vault == log => Check::warn(
            NAME,
            "vault and log stand on one disk: what takes the one takes the other",
            "name a folder of another disk as 'audit' in instance.json, or keep 'mentiko audit head' elsewhere",
        ),
        (Ok(_), Ok(_)) => Check::ok(NAME, "vault and log stand on two"),
        _ => Check::warn(NAME, "vault or log is missing", "restore it from a backup"),
    }
}
