//! Protection of this process while it holds keys: no core file, no ptrace by the same user.

use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::Error;

/// Whether the agent may write core files: they hold its environment, and so its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreFiles {
    /// RLIMIT_CORE 0, and an agent that is not root can't raise it.
    Never,
    /// The wrapper writes none; the agent gets the caller's soft limit back.
    Allowed,
}

/// Before any key is read: PR_SET_DUMPABLE 0, RLIMIT_CORE 0.
///
/// Returns the caller's soft limit for [`restore_core_limit`].
pub fn protect_self(core: CoreFiles) -> Result<u64, Error> {
    prctl::set_dumpable(false).map_err(|errno| Error::Protect { what: "make the process undumpable", errno })?;
    let limit = |errno| Error::Protect { what: "set RLIMIT_CORE", errno };
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).map_err(limit)?;
    let hard = match core {
        CoreFiles::Never => 0,
        CoreFiles::Allowed => hard,
    };
    setrlimit(Resource::RLIMIT_CORE, 0, hard).map_err(limit)?;
    Ok(soft)
}

/// Gives the agent the soft limit that the wrapper was started with.
pub fn restore_core_limit(soft: u64) -> Result<(), Error> {
    let limit = |errno| Error::Protect { what: "restore RLIMIT_CORE", errno };
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).map_err(limit)?;
    let soft = if hard == RLIM_INFINITY { soft } else { soft.min(hard) };
    setrlimit(Resource::RLIMIT_CORE, soft, hard).map_err(limit)
}
