//! The fence: what keeps an agent, which runs as the same user as the wrapper, from the key, the
//! vault, the log and the definitions.

mod landlock;
mod mounts;
mod namespace;
mod places;

use std::path::{Path, PathBuf};

use ::landlock::RulesetCreated;
use clap::ValueEnum;
use nix::unistd::geteuid;

use super::{Failure, Program, Site, Status};
use crate::instance::Fence;

use mounts::Mounts;
use places::Places;

/// What an agent inside a fence may need although it leads outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// The user's D-Bus and systemd's private socket.
    Bus,
    /// The sockets of Docker and Podman.
    Docker,
}

/// What stands around an agent, as the access record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enclosure {
    /// A user and mount namespace.
    Namespace,
    /// A mount namespace that root made: safe from an agent that is not root.
    Mount,
    /// Landlock.
    Landlock,
    /// A fence was wanted and could not be had.
    None,
    /// No fence was wanted.
    Off,
}

impl Enclosure {
    /// Whether there is a fence at all.
    pub fn stands(self) -> bool {
        !matches!(self, Self::None | Self::Off)
    }

    /// Its name in access records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Mount => "mount",
            Self::Landlock => "landlock",
            Self::None => "none",
            Self::Off => "off",
        }
    }
}

/// A fence that stands, but for what must come last: under Landlock this process could not write
/// its own log.
#[derive(Debug)]
pub struct Raised {
    /// What stands around the agent, once it is closed.
    pub enclosure: Enclosure,
    rules: Option<RulesetCreated>,
}

impl Raised {
    fn whole(enclosure: Enclosure) -> Self {
        Self { enclosure, rules: None }
    }

    /// The last step, right before execve(2).
    pub(super) fn close(self) -> Result<(), Failure> {
        let restricted = self.rules.map_or(Ok(()), landlock::restrict);
        restricted.map_err(|fault| Failure::new(Status::Other, format!("the fence failed: {fault}; try --fence off")))
    }
}

/// Puts the fence around this process. Whatever is read or written by path afterwards is what the
/// agent would reach; the log is held open.
pub fn raise(site: &Site<'_>, program: &Program) -> Result<Raised, Failure> {
    let fence = site.fence();
    if fence == Fence::Off {
        return Ok(Raised::whole(Enclosure::Off));
    }
    let enclosed = Places::of(site, program).map_err(Refusal::Unfit).and_then(|places| enclose(&places));
    match (enclosed, fence) {
        (Ok(raised), _) => {
            if raised.enclosure == Enclosure::Mount && site.target().is_none() {
                site.warn_late("the agent runs as root, which can undo the fence; give it a user with --user");
            }
            Ok(raised)
        }
        (Err(Refusal::Broken(fault)), _) => {
            Err(Failure::new(Status::Other, format!("the fence failed: {fault}; try --fence off")))
        }
        (Err(Refusal::Unfit(fault)), Fence::Require) => {
            Err(Failure::new(Status::Configuration, format!("no fence: {fault}")))
        }
        (Err(Refusal::Unfit(fault)), _) => {
            site.warn_late(&format!("no fence: {fault}; the agent can reach the vault"));
            Ok(Raised::whole(Enclosure::None))
        }
    }
}

/// Why there is no fence.
#[derive(Debug)]
enum Refusal {
    /// This system, or where the instance lies, does not allow one. Nothing was changed.
    Unfit(String),
    /// It was begun and can be neither completed nor taken back.
    Broken(String),
}

fn enclose(places: &Places) -> Result<Raised, Refusal> {
    if geteuid().is_root() {
        return namespace::enter_as_root(places).map(|()| Raised::whole(Enclosure::Mount));
    }
    match namespace::enter(places) {
        Ok(()) => Ok(Raised::whole(Enclosure::Namespace)),
        Err(Refusal::Broken(fault)) => Err(Refusal::Broken(fault)),
        Err(Refusal::Unfit(refused)) => match landlock::prepare(places) {
            Ok(rules) => Ok(Raised { enclosure: Enclosure::Landlock, rules: Some(rules) }),
            Err(Refusal::Unfit(also)) => Err(Refusal::Unfit(format!("{refused}; {also}"))),
            Err(broken) => Err(broken),
        },
    }
}

/// A folder or a file that the agent must not reach.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cover {
    /// Shown as an empty folder.
    Folder(PathBuf),
    /// Shown as an empty file.
    File(PathBuf),
}

impl Cover {
    fn of(path: PathBuf) -> Self {
        if path.is_dir() { Self::Folder(path) } else { Self::File(path) }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::File(path) => path,
        }
    }
}
