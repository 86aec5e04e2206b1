//! The fence of namespaces: an empty read-only file system over each place.
//!
//! The agent can't take it off: it has no power over the mounts (user_namespaces(7)), and in a
//! user namespace of its own it gets them locked together (mount_namespaces(7)).

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{getegid, geteuid};

use super::{Cover, Places, Refusal};

/// Of the file system over a folder: room for nothing.
const OPTIONS: &str = "size=4k,nr_inodes=2,mode=0555";

/// As an ordinary user: in a user namespace that has this user alone.
pub(super) fn enter(places: &Places) -> Result<(), Refusal> {
    if restricted_by_apparmor() {
        // unshare(2) would succeed, and everything after it fail.
        let fault = "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns)";
        return Err(Refusal::Unfit(fault.into()));
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Refusal::Unfit(format!("user namespaces are refused ({errno})")))?;
    // The files of an undumpable process belong to root, and these must be written. No key lies
    // outside the arena any more.
    prctl::set_dumpable(true).map_err(|errno| broken("make the process dumpable", errno))?;
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1")),
        ("gid_map", format!("{gid} {gid} 1")),
    ];
    let written = maps.iter().try_for_each(|(name, text)| std::fs::write(format!("/proc/self/{name}"), text));
    let undumpable = prctl::set_dumpable(false);
    written.map_err(|error| Refusal::Broken(format!("can't map this user into its namespace: {error}")))?;
    undumpable.map_err(|errno| broken("make the process undumpable", errno))?;
    cover_all(places)
}

/// As root: a mount namespace is enough, for the agent that it is meant for has no power over it.
pub(super) fn enter_as_root(places: &Places) -> Result<(), Refusal> {
    if !places.root_is_mounted {
        // What is mounted in a new namespace would appear outside too.
        return Err(Refusal::Unfit("the root folder is no mount point; was it set by chroot?".into()));
    }
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Refusal::Unfit(format!("mount namespaces are refused ({errno})")))?;
    cover_all(places)
}

fn cover_all(places: &Places) -> Result<(), Refusal> {
    // What is mounted outside later appears inside; nothing goes the other way.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|errno| broken("make the mounts private", errno))?;
    let empty = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for cover in places.of_instance.iter().chain(&places.doors) {
        let covered = match cover {
            Cover::Folder(path) => mount(Some("tmpfs"), path, Some("tmpfs"), empty, Some(OPTIONS)),
            Cover::File(path) => mount(Some("/dev/null"), path, none, MsFlags::MS_BIND, none),
        };
        covered.map_err(|errno| broken(&format!("cover {}", cover.path().display()), errno))?;
    }
    Ok(())
}

fn broken(what: &str, errno: Errno) -> Refusal {
    Refusal::Broken(format!("can't {what}: {errno}"))
}

fn restricted_by_apparmor() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        .is_ok_and(|text| text.trim() != "0")
}
