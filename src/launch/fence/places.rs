//! What a fence has to cover, and whether it can without covering what the agent needs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::{Cover, Keep, Mounts};
use crate::instance::{Instance, KeySource};
use crate::launch::{Program, Site};

/// The places to cover: real paths, none of a kind below another.
#[derive(Debug)]
pub(super) struct Places {
    /// The instance's files.
    pub(super) of_instance: Vec<Cover>,
    /// Doors through which a process outside the fence can be started on the agent's behalf.
    pub(super) doors: Vec<Cover>,
    /// Whether the root folder is a mount point; below chroot(2) it need not be.
    pub(super) root_is_mounted: bool,
    /// Where the agent works.
    needed: Vec<PathBuf>,
}

impl Places {
    /// Those of this launch; or which of the instance's places the agent needs too.
    pub(super) fn of(site: &Site<'_>, program: &Program) -> Result<Self, String> {
        let mounts = Mounts::of_this_process()?;
        let needed = needed(site, program);
        let mut of_instance = of_instance(&site.instance, &needed)?;
        // Of each, for what is mounted within a folder has no other place in common with it.
        let elsewhere: Vec<_> = of_instance.iter().flat_map(|cover| mounts.other_paths(cover.path())).collect();
        of_instance.extend(elsewhere.into_iter().map(Cover::of));
        let of_instance = outermost(of_instance);
        of_instance.iter().try_for_each(|cover| check_unneeded(cover.path(), &needed))?;
        Ok(Self { of_instance, doors: outermost(doors(site)), root_is_mounted: mounts.have_root(), needed })
    }

    /// Whether the agent works directly in this folder.
    pub(super) fn is_needed(&self, path: &Path) -> bool {
        self.needed.iter().any(|needed| needed == path)
    }
}

/// Without those that are below another.
fn outermost(covers: Vec<Cover>) -> Vec<Cover> {
    let is_below =
        |cover: &Cover, above: &Cover| matches!(above, Cover::Folder(path) if cover.path().starts_with(path));
    let mut kept: Vec<Cover> = Vec::new();
    for cover in covers {
        if !kept.iter().any(|above| is_below(&cover, above)) {
            kept.retain(|one| !is_below(one, &cover));
            kept.push(cover);
        }
    }
    kept
}

/// What an agent can't do without, as real paths.
fn needed(site: &Site<'_>, program: &Program) -> Vec<PathBuf> {
    let fixed = ["/tmp", "/var/tmp", "/dev/null", "/proc", "/usr/bin", "/etc/passwd", "/run"].map(PathBuf::from);
    let named = ["TMPDIR", "HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    fixed
        .into_iter()
        .chain(named)
        .chain(site.target().map(|target| target.user.dir.clone()))
        .chain(std::env::current_dir().ok())
        .chain([Path::new(&*program.path.to_string_lossy()).to_owned()])
        .filter_map(|path| real(&path).ok())
        .collect()
}

fn check_unneeded(folder: &Path, needed: &[PathBuf]) -> Result<(), String> {
    let Some(needed) = needed.iter().find(|needed| needed.starts_with(folder)) else { return Ok(()) };
    Err(format!(
        "{} holds both the instance's files and {}; give the instance a folder of its own",
        folder.display(),
        needed.display()
    ))
}

/// The folders of the instance. Whole folders, for a mount over a file goes when the file is
/// replaced by rename(2), as the vault is at each write.
fn of_instance(instance: &Instance, needed: &[PathBuf]) -> Result<Vec<Cover>, String> {
    let above = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut folders = vec![instance.folder.clone(), instance.chains.clone(), instance.audit.clone()];
    folders.extend([above(&instance.vault), instance.runs.clone()]);
    let mut covers =
        folders.iter().map(|folder| known(folder).map(Cover::Folder)).collect::<Result<Vec<_>, String>>()?;
    if let KeySource::File(key) = &instance.key {
        let key = known(key)?;
        let folder = above(&key);
        covers.push(match needed.iter().any(|needed| needed.starts_with(&folder)) {
            true => Cover::File(key),
            false => Cover::Folder(folder),
        });
    }
    if let KeySource::SystemdCredential(name) = &instance.key
        && let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY")
    {
        // Alone, for the other credentials may be the agent's.
        covers.push(Cover::File(known(&Path::new(&folder).join(name))?));
    }
    Ok(covers)
}

/// Where a place of the instance, which was opened by now, really is: without it, it would stay uncovered.
fn known(path: &Path) -> Result<PathBuf, String> {
    real(path).map_err(|error| format!("can't tell where {} is: {error}", path.display()))
}

/// The path without symbolic links.
fn real(path: &Path) -> io::Result<PathBuf> {
    open_real(path).map(|(path, _)| path)
}

/// The path without symbolic links, as the kernel tells it, and what is there (O_PATH). realpath(3) asks about each folder
/// on the way, which for all the places together takes longer than the mounts.
pub(super) fn open_real(path: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let there = openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", there.as_raw_fd()))?;
    // A pipe or a socket, behind a link of /proc, has no path.
    match path.is_absolute() {
        true => Ok((path, there)),
        false => Err(Errno::ENOENT.into()),
    }
}

fn doors(site: &Site<'_>) -> Vec<Cover> {
    let keeps = |keep| site.arguments.fence_keep.contains(&keep);
    let runtime = PathBuf::from(format!("/run/user/{}", site.agent_uid()));
    let mut candidates = Vec::new();
    if !keeps(Keep::Bus) {
        candidates.extend([runtime.join("bus"), runtime.join("systemd")]);
    }
    if !keeps(Keep::Docker) {
        let below = ["docker.sock", "podman", "containerd"];
        candidates.extend(below.iter().map(|name| runtime.join(name)));
        candidates.extend(below.iter().map(|name| Path::new("/run").join(name)));
    }
    candidates.into_iter().filter_map(|path| real(&path).ok()).map(Cover::of).collect()
}
