//! The last step: this process becomes the agent.

use std::convert::Infallible;
use std::ffi::CString;

use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::execve;

use super::failure::say;
use super::{Environment, Failure, Mode, Program, Raised, Site, Status, drop_to};
use crate::memory::{self, Arena, CoreFiles};

/// Gives back what the wrapper changed, closes what is not the agent's, and calls execve(2).
///
/// `core_limit` is the caller's soft limit.
pub fn become_agent(
    site: &Site<'_>,
    program: &Program,
    environment: &Environment<'_>,
    arena: &Arena,
    mode: &Mode,
    fence: Raised,
    core_limit: u64,
) -> Result<Infallible, Failure> {
    let other = |what: &str, errno: Errno| Failure::new(Status::Other, format!("can't {what}: {errno}"));
    let mut keep = site.arguments.pass_fd.clone();
    keep.extend(&site.arguments.listen_fds);
    keep.extend(environment.descriptors());
    memory::mark_close_on_exec(&keep).map_err(|errno| other("close descriptors", errno))?;
    if site.arguments.core_files() == CoreFiles::Allowed {
        memory::restore_core_limit(core_limit)?;
    }
    // A supervisor that masks shares the values, and wipes them itself.
    if !mode.needs_values() {
        memory::wipe_after_exec(arena)?;
    }
    if let Some(target) = site.target() {
        drop_to(target)?;
    }
    mode.tie_to_parent()?;
    if site.arguments.no_new_privs || site.fence_name().is_some() {
        set_no_new_privs().map_err(|errno| other("set no_new_privs", errno))?;
    }
    fence.close()?;
    site.take_warnings().iter().for_each(|line| say(line));
    memory::restore_signals().map_err(|errno| other("restore signals", errno))?;
    let errno = match execve(&program.path, &program.argv, environment.variables()) {
        // A script without an interpreter line: execvp(3) hands it to the shell.
        Err(Errno::ENOEXEC) => run_in_shell(program, environment),
        Err(errno) => errno,
    };
    let status = match errno {
        Errno::ENOENT => Status::NotFound,
        _ => Status::NotExecutable,
    };
    let fault = match errno {
        Errno::ENOENT => "its interpreter is missing".into(),
        Errno::E2BIG => "arguments and environment are too long together; use --clean-env or --deliver file".into(),
        other => other.to_string(),
    };
    Err(Failure::new(status, format!("can't execute '{}': {fault}", program.path.to_string_lossy().escape_debug())))
}

fn run_in_shell(program: &Program, environment: &Environment<'_>) -> Errno {
    let argv: Vec<CString> =
        [c"/bin/sh".to_owned(), program.path.clone()].into_iter().chain(program.argv.iter().skip(1).cloned()).collect();
    let Err(errno) = execve(c"/bin/sh", &argv, environment.variables());
    errno
}
