//! Becoming another user for good, where root starts the wrapper.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, geteuid, getgrouplist, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid,
    setuid,
};

use super::{Failure, Status};

/// The user that the agent is to run as, looked up before anything is opened: a lookup may run the
/// code of others (nsswitch.conf(5)), and may fail.
#[derive(Clone, Debug)]
pub struct Target {
    /// The account.
    pub user: User,
    gid: Gid,
    /// That group and all others that the account is in.
    groups: Vec<Gid>,
}

/// Looks up `--user` and `--group`, names or numbers.
pub(super) fn target(user: Option<&str>, group: Option<&str>) -> Result<Option<Target>, Failure> {
    let Some(name) = user else { return Ok(None) };
    let unknown = |what: &str, name: &str| {
        Failure::new(Status::Configuration, format!("--{what}: there is no {what} '{}'", name.escape_debug()))
    };
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    let user = found.ok().flatten().ok_or_else(|| unknown("user", name))?;
    let gid = match group {
        None => user.gid,
        Some(name) => {
            let found = match name.parse() {
                Ok(number) => Group::from_gid(Gid::from_raw(number)),
                Err(_) => Group::from_name(name),
            };
            found.ok().flatten().ok_or_else(|| unknown("group", name))?.gid
        }
    };
    if !geteuid().is_root() {
        return Err(Failure::new(Status::Configuration, "--user: only root can run an agent as another user"));
    }
    if user.uid.is_root() {
        return Err(Failure::new(Status::Configuration, "--user root gives nothing up; leave it out"));
    }
    let groups = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL).and_then(|name| getgrouplist(&name, gid));
    let groups = groups.map_err(|errno| {
        Failure::new(Status::Configuration, format!("--user: can't read the groups of '{}': {errno}", user.name))
    })?;
    Ok(Some(Target { user, gid, groups }))
}

/// Gives up root: supplementary groups, then group, then user, and then proves that none of it can
/// be had back (setresuid(2) without these checks has failed programs before).
pub fn drop_to(target: &Target) -> Result<(), Failure> {
    let failed = |what: &str, errno: Errno| Failure::new(Status::Other, format!("can't {what}: {errno}"));
    let (uid, gid) = (target.user.uid, target.gid);
    setgroups(&target.groups).map_err(|errno| failed("take the user's groups", errno))?;
    setresgid(gid, gid, gid).map_err(|errno| failed("take the group", errno))?;
    setresuid(uid, uid, uid).map_err(|errno| failed("take the user", errno))?;
    let users = getresuid().map_err(|errno| failed("read the user", errno))?;
    let groups = getresgid().map_err(|errno| failed("read the group", errno))?;
    let held = getgroups().map_err(|errno| failed("read the groups", errno))?;
    let within = |some: &[Gid], all: &[Gid]| some.iter().all(|group| all.contains(group));
    let gone = [users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3]
        && within(&held, &target.groups)
        && within(&target.groups, &held)
        && setuid(Uid::from_raw(0)) == Err(Errno::EPERM);
    match gone {
        true => Ok(()),
        false => Err(Failure::new(Status::Other, "root's powers could be had back; the agent was not started")),
    }
}
