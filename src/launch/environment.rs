//! The agent's environment: made only of what was inherited, granted and recorded.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::unistd::getpid;

use super::inherited::name_of;
use super::{Delivery, Failure, Inherited, Site, Status, deliver};
use crate::audit::Recorded;
use crate::vault::{Contents, Secret};

/// The longest `NAME=value` with its NUL: MAX_ARG_STRLEN of execve(2), 32 pages of 4 KiB.
const MAX_ASSIGNMENT: usize = 131_072;

/// What execve(2) is called with. There is no other way to run an agent. It has no Debug: nothing prints it.
pub struct Environment<'a> {
    variables: Vec<Variable<'a>>,
    files: Vec<OwnedFd>,
}

/// `NAME=value`: the caller's on the heap, a secret's in the arena.
enum Variable<'a> {
    Plain(CString),
    Secret(&'a CStr),
}

impl AsRef<CStr> for Variable<'_> {
    fn as_ref(&self) -> &CStr {
        match self {
            Self::Plain(text) => text,
            Self::Secret(text) => text,
        }
    }
}

impl<'a> Environment<'a> {
    /// Puts the secrets, the access to which was recorded, into what the caller's environment
    /// leaves. A grant replaces an inherited variable; no name stands twice.
    pub fn build(
        site: &Site<'_>,
        inherited: Inherited,
        contents: &Contents,
        secrets: Vec<Secret<'a>>,
        recorded: &Recorded,
    ) -> Result<Self, Failure> {
        let mut granted = Vec::new();
        let mut files = Vec::new();
        for secret in &secrets {
            if !recorded.covers(secret) {
                return Err(Failure::new(Status::Other, format!("the access to '{}' is not on record", secret.name())));
            }
            match site.arguments.deliver {
                Delivery::Env => granted.push(Variable::Secret(assignment(secret)?)),
                Delivery::File => {
                    let (assignment, file) = deliver::memory_file(secret, site.agent_uid())?;
                    granted.push(Variable::Plain(assignment));
                    files.push(file);
                }
            }
        }
        for (name, value) in [
            ("MENTIKO_CHAIN", site.arguments.chain.as_str()),
            ("MENTIKO_AGENT", site.arguments.agent.as_str()),
            ("MENTIKO_RUN_ID", site.run.as_str()),
        ] {
            granted.extend(plain(name, value));
        }
        if let Some(name) = site.fence_name() {
            granted.extend(plain("MENTIKO_FENCE", name));
        }
        if !site.arguments.listen_fds.is_empty() {
            // The agent's own number, which a supervised agent does not share with its caller's child.
            granted.extend(plain("LISTEN_PID", &getpid().to_string()));
        }
        if let Some(target) = site.target() {
            let user = &target.user;
            granted.extend(plain("HOME", &user.dir.to_string_lossy()));
            granted.extend(plain("SHELL", &user.shell.to_string_lossy()));
            granted.extend(["USER", "LOGNAME"].into_iter().filter_map(|name| plain(name, &user.name)));
        }
        let mut taken = BTreeSet::new();
        taken.extend(granted.iter().map(|variable| name_of(variable.as_ref())));
        taken.extend(secrets.iter().map(|secret| secret.variable().as_str().as_bytes()));
        let mut variables: Vec<Variable<'_>> = inherited
            .without_secrets(contents)
            .into_iter()
            .filter(|text| !taken.contains(name_of(text)))
            .map(Variable::Plain)
            .collect();
        variables.append(&mut granted);
        Ok(Self { variables, files })
    }

    pub(super) fn variables(&self) -> &[impl AsRef<CStr>] {
        &self.variables
    }

    /// The descriptors that the agent needs for `NAME_FILE`.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.files.iter().map(AsRawFd::as_raw_fd)
    }
}

/// `NAME=value` on the heap; `None` where it can't be, for names and values here hold no NUL.
fn plain<'a>(name: &str, value: &str) -> Option<Variable<'a>> {
    CString::new(format!("{name}={value}")).ok().map(Variable::Plain)
}

/// Whether the value fits into an environment; asked before anything is recorded.
pub(super) fn check_length(secret: &Secret<'_>, delivery: Delivery) -> Result<(), Failure> {
    let fits = secret.variable().as_str().len() + secret.value().len() + 2 <= MAX_ASSIGNMENT;
    match fits || delivery == Delivery::File {
        true => Ok(()),
        false => Err(Failure::of_secret(
            Status::Configuration,
            format!("secret '{}' is too long for variable '{}'; use --deliver file", secret.name(), secret.variable()),
            secret.name().clone(),
        )),
    }
}

fn assignment<'a>(secret: &Secret<'a>) -> Result<&'a CStr, Failure> {
    let fault = || Failure::new(Status::Other, format!("secret '{}' holds a NUL byte; store it again", secret.name()));
    secret.assignment().ok_or_else(fault)
}
