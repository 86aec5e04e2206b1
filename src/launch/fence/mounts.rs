//! Where else the files of a folder are mounted: by a bind mount, or as part of a larger subvolume.
//! A cover over one of the places leaves the others open.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The mounts that this process sees, in their order (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    device: String,
    /// Which folder of the device's file system it shows.
    root: PathBuf,
    at: PathBuf,
}

impl Mounts {
    pub(super) fn of_this_process() -> Result<Self, String> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mount = |line: &str| {
            let mut fields = line.split(' ').skip(2);
            let device = fields.next()?.to_owned();
            Some(Mount { device, root: unescaped(fields.next()?), at: unescaped(fields.next()?) })
        };
        Self(text.lines().filter_map(mount).collect())
    }

    /// Whether the root folder is among them.
    pub(super) fn have_root(&self) -> bool {
        self.0.iter().any(|mount| mount.at == Path::new("/"))
    }

    /// The other paths that lead to this folder or file, or to something in it.
    pub(super) fn other_paths(&self, path: &Path) -> Vec<PathBuf> {
        let same = |one: &Path, two: &Path| match (one.metadata(), two.metadata()) {
            (Ok(one), Ok(two)) => (one.dev(), one.ino()) == (two.dev(), two.ino()),
            _ => false,
        };
        // Another mount may lie over either.
        self.candidates(path).into_iter().filter(|(other, own)| same(other, own)).map(|(other, _)| other).collect()
    }

    /// Other paths, each with the path in or at `path` that is the same file.
    fn candidates(&self, path: &Path) -> Vec<(PathBuf, PathBuf)> {
        // Of several mounts at one place, the last is on top.
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.at));
        let Some(own) = above.max_by_key(|mount| mount.at.components().count()) else { return Vec::new() };
        let Ok(below) = path.strip_prefix(&own.at) else { return Vec::new() };
        let inside = own.root.join(below);
        let others = self.0.iter().filter(|mount| mount.device == own.device);
        let found =
            others.filter_map(|mount| match (inside.strip_prefix(&mount.root), mount.root.strip_prefix(&inside)) {
                (Ok(rest), _) => Some((mount.at.join(rest), path.to_owned())),
                (_, Ok(rest)) => Some((mount.at.clone(), path.join(rest))),
                _ => None,
            });
        found.filter(|(other, _)| !other.starts_with(path)).collect()
    }
}

/// Spaces, tabs, newlines and backslashes stand there as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 8));
        bytes.extend_from_slice(rest.as_bytes());
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_a_folder_is_found() {
        let mounts = Mounts::parse(
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             23 22 0:5 / /proc rw - proc proc rw\n\
             24 22 8:2 /@home /home rw shared:1 - btrfs /dev/sda2 rw\n\
             25 22 8:2 / /mnt/all\\040of\\040it rw - btrfs /dev/sda2 rw\n\
             26 22 8:2 /@home/ann/own/audit /log rw - btrfs /dev/sda2 rw\n\
             27 22 8:2 /@other /other rw - btrfs /dev/sda2 rw\n\
             28 22 8:1 /home/ann /decoy rw - ext4 /dev/sda1 rw\n",
        );
        assert!(mounts.have_root());
        let path = Path::new("/home/ann/own");
        let found = mounts.candidates(path);
        let expected = [("/mnt/all of it/@home/ann/own", "/home/ann/own"), ("/log", "/home/ann/own/audit")];
        assert_eq!(found, expected.map(|(other, own)| (other.into(), own.into())));
        assert_eq!(mounts.candidates(Path::new("/etc/own")), []);
    }
}
