//! Values in sealed memory files, for agents that read `NAME_FILE`.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Uid, fchown};

use super::{Failure, Status};
use crate::vault::Secret;

/// A memfd that holds the value, can't be changed any more, and its `NAME_FILE=/proc/self/fd/N`.
///
/// Unlike the arena its pages can be swapped; the kernel has no file that is both secret and
/// readable through /proc.
///
/// It belongs to the agent's user: opening it by that path is subject to its mode.
pub(super) fn memory_file(secret: &Secret<'_>, owner: Uid) -> Result<(CString, OwnedFd), Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::new(Status::Other, format!("can't {what} the memory file for '{}': {error}", secret.variable()))
    };
    let fd = create(secret.variable().as_str()).map_err(|errno| failed("create", errno.into()))?;
    let mut file = File::from(fd);
    file.write_all(secret.value()).and_then(|()| file.rewind()).map_err(|error| failed("write", error))?;
    file.set_permissions(Permissions::from_mode(0o400)).map_err(|error| failed("chmod", error))?;
    fchown(&file, Some(owner), None).map_err(|errno| failed("chown", errno.into()))?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| failed("seal", errno.into()))?;
    let assignment = format!("{}_FILE=/proc/self/fd/{}", secret.variable(), file.as_raw_fd());
    let assignment = CString::new(assignment).map_err(|error| failed("name", error.into()))?;
    Ok((assignment, file.into()))
}

fn create(name: &str) -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // MFD_NOEXEC_SEAL, Linux 6.3: never executable.
    let no_exec = MFdFlags::from_bits_retain(0x0008);
    match memfd_create(name, flags | no_exec) {
        Err(Errno::EINVAL) => memfd_create(name, flags),
        other => other,
    }
}
