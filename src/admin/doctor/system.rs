//! What the kernel gives, and what it could give away.

use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::geteuid;

use super::Check;
use crate::instance::Fence;
use crate::memory::{Arena, Error, Forked, Protection, default_sigchld, fork, landlock_version};

/// Below this much locked memory, few and short values can be opened.
const ENOUGH: u64 = 1 << 20;

pub(super) fn checks() -> Vec<Check> {
    vec![memory(), limit(), core_files(), swap(), ptrace()]
}

fn memory() -> Check {
    const NAME: &str = "memory";
    let errno = match Arena::with_protection(Protection::Secretmem) {
        Ok(_) => return Check::ok(NAME, "secretmem: values lie in memory that not even root can read"),
        Err(Error::Lock { errno, .. } | Error::Protect { errno, .. }) => errno,
    };
    let mend = match errno {
        Errno::ENOSYS => "use Linux 5.14 or later, before 6.5 booted with secretmem.enable=1, and let seccomp allow it",
        Errno::EPERM | Errno::EACCES => "let the container's seccomp filter allow memfd_secret",
        _ => "raise RLIMIT_MEMLOCK (ulimit -l, or LimitMEMLOCK= in a unit)",
    };
    match Arena::with_protection(Protection::Mlock) {
        Ok(_) => Check::warn(NAME, format!("mlock: memfd_secret(2) is refused ({errno}); root can read values"), mend),
        Err(error) => Check::failed(NAME, error),
    }
}

fn limit() -> Check {
    const NAME: &str = "locked memory";
    const CAP_IPC_LOCK: u32 = 14;
    if has_capability(CAP_IPC_LOCK) {
        return Check::ok(NAME, "this user is not bound by RLIMIT_MEMLOCK");
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) => Check::ok(NAME, "RLIMIT_MEMLOCK is unlimited"),
        Ok((soft, _)) if soft >= ENOUGH => Check::ok(NAME, format!("RLIMIT_MEMLOCK is {} KiB", soft / 1024)),
        Ok((soft, _)) => Check::warn(
            NAME,
            format!("RLIMIT_MEMLOCK is {} KiB: many or long values do not fit", soft / 1024),
            "LimitMEMLOCK=8M in the unit, or memlock in /etc/security/limits.conf",
        ),
        Err(errno) => Check::failed(NAME, format!("can't read RLIMIT_MEMLOCK: {errno}")),
    }
}

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).is_some_and(|set| set >> number & 1 == 1)
}

fn setting(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}

fn core_files() -> Check {
    const NAME: &str = "core files";
    let Some(pattern) = setting("kernel/core_pattern") else {
        return Check::warn(NAME, "can't read kernel.core_pattern", "mount /proc");
    };
    let Some(program) = pattern.strip_prefix('|') else {
        return Check::ok(NAME, "none: agents have RLIMIT_CORE 0, unless --allow-core");
    };
    let program = program.split(' ').next().unwrap_or_default();
    match program.ends_with("/systemd-coredump") {
        true => Check::ok(NAME, "systemd-coredump gets them, and honors the RLIMIT_CORE 0 of agents"),
        false => Check::warn(
            NAME,
            format!("{program} gets the memory of programs that crash, whatever their RLIMIT_CORE"),
            "sysctl kernel.core_pattern=core, or let it pass over agents",
        ),
    }
}

fn swap() -> Check {
    const NAME: &str = "swap";
    let Ok(text) = std::fs::read_to_string("/proc/swaps") else {
        return Check::warn(NAME, "can't read /proc/swaps", "mount /proc");
    };
    // The first line is a heading.
    let places: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).collect();
    if places.is_empty() {
        return Check::ok(NAME, "off");
    }
    let open: Vec<&str> = places.into_iter().filter(|place| !is_sealed(Path::new(place))).collect();
    match open.is_empty() {
        true => Check::ok(NAME, "on, and encrypted or in memory"),
        false => Check::warn(
            NAME,
            format!("on, not known to be encrypted: {}; agents' memory can be written there", open.join(", ")),
            "encrypt it (crypttab(5), option swap), or turn it off (swapoff -a)",
        ),
    }
}

/// Compressed memory, or a device of dm-crypt.
fn is_sealed(place: &Path) -> bool {
    let device = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let uuid = std::fs::read_to_string(Path::new("/sys/class/block").join(&name).join("dm/uuid"));
    name.starts_with("zram") && device.starts_with("/dev") || uuid.is_ok_and(|uuid| uuid.starts_with("CRYPT-"))
}

fn ptrace() -> Check {
    const NAME: &str = "ptrace";
    match setting("kernel/yama/ptrace_scope").as_deref() {
        Some("0") => Check::warn(
            NAME,
            "kernel.yama.ptrace_scope is 0: outside a fence, processes of one user can read each other's memory",
            "sysctl kernel.yama.ptrace_scope=1",
        ),
        Some(scope) => Check::ok(NAME, format!("kernel.yama.ptrace_scope is {scope}")),
        None => Check::warn(
            NAME,
            "this kernel has no Yama: outside a fence, processes of one user can read each other's memory",
            "boot a kernel with Yama (lsm=...,yama), or give each agent a user of its own",
        ),
    }
}

/// What a fence can be made of here.
pub(super) fn fence(policy: Fence) -> Check {
    const NAME: &str = "fence";
    let refused = match refusal() {
        None if geteuid().is_root() => return stands(policy, "mount namespaces, for agents with --user"),
        None => return stands(policy, "user and mount namespaces"),
        Some(refused) => refused,
    };
    let (why, mend) = refused;
    match landlock_version() {
        Ok(version) => Check::warn(
            NAME,
            format!("Landlock (version {version}) alone, if the instance lies in no folder that agents work in: {why}"),
            mend,
        ),
        Err(_) if policy == Fence::Off => stands(policy, "none"),
        Err(errno) => {
            let finding = format!("none: {why}, and Landlock too ({errno})");
            match policy {
                Fence::Require => Check::fail(NAME, finding + "; policy.fence is require", mend),
                _ => Check::warn(NAME, finding + "; agents can reach the vault", mend),
            }
        }
    }
}

fn stands(policy: Fence, what: &str) -> Check {
    const NAME: &str = "fence";
    let landlock = match landlock_version() {
        Ok(version) => format!("Landlock version {version}"),
        Err(errno) => format!("no Landlock ({errno})"),
    };
    match policy {
        Fence::Off => Check::warn(
            NAME,
            format!("policy.fence is off: agents can reach the vault; possible: {what}; {landlock}"),
            "set policy.fence of instance.json to auto or require",
        ),
        _ => Check::ok(NAME, format!("{what}; {landlock}")),
    }
}

/// Why namespaces can't be had, and what mends it.
fn refusal() -> Option<(String, &'static str)> {
    if !geteuid().is_root() {
        if setting("kernel/apparmor_restrict_unprivileged_userns").is_some_and(|value| value != "0") {
            return Some((
                "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns)".into(),
                "give mentiko-exec an AppArmor profile with 'userns,', or set that sysctl to 0",
            ));
        }
        if setting("kernel/unprivileged_userns_clone").is_some_and(|value| value == "0") {
            return Some(("kernel.unprivileged_userns_clone is 0".into(), "sysctl kernel.unprivileged_userns_clone=1"));
        }
    }
    let errno = attempt()?;
    Some(match errno {
        Errno::ENOSPC => (
            "there can be no more of them (user.max_user_namespaces, user.max_mnt_namespaces)".into(),
            "sysctl user.max_user_namespaces=10000 user.max_mnt_namespaces=10000",
        ),
        _ => (
            format!("namespaces are refused ({errno})"),
            "let the container's seccomp filter or the unit's RestrictNamespaces= allow them",
        ),
    })
}

/// Enters the namespaces of a fence, in a child that ends at once.
fn attempt() -> Option<Errno> {
    let flags = match geteuid().is_root() {
        true => CloneFlags::CLONE_NEWNS,
        false => CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS,
    };
    let _ = default_sigchld();
    match fork() {
        Ok(Forked::Child) => std::process::exit(unshare(flags).err().map_or(0, |errno| errno as i32)),
        Ok(Forked::Parent(child)) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => None,
            Ok(WaitStatus::Exited(_, number)) => Some(Errno::from_raw(number)),
            // A seccomp filter may kill.
            Ok(_) => Some(Errno::EPERM),
            Err(errno) => Some(errno),
        },
        Err(errno) => Some(errno),
    }
}
