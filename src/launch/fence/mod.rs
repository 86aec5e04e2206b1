//! The fence: what keeps an agent, which runs as the same user as the wrapper, from the key, the
//! vault, the log and the definitions.

mod landlock;
mod namespace;
mod places;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use nix::unistd::geteuid;

use super::{Failure, Program, Site, Status};

use places::Places;

/// Whether a launch is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fence {
    /// As well as this system can; a warning where it can't.
    Auto,
    /// Or refuse.
    Require,
    /// Not at all: for an orchestrator, which launches agents itself.
    Off,
}

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

/// Puts the fence around this process. Whatever is read or written by path afterwards is what the
/// agent would reach; the log is held open.
pub fn raise(site: &Site<'_>, program: &Program) -> Result<Enclosure, Failure> {
    let fence = site.fence();
    if fence == Fence::Off {
        return Ok(Enclosure::Off);
    }
    let enclosed = Places::of(site, program).map_err(Refusal::Unfit).and_then(|places| enclose(&places));
    match (enclosed, fence) {
        (Ok(enclosure), _) => {
            if enclosure == Enclosure::Mount && site.target().is_none() {
                site.warn_late("the agent runs as root, which can undo the fence; give it a user with --user".into());
            }
            Ok(enclosure)
        }
        (Err(Refusal::Broken(fault)), _) => {
            Err(Failure::new(Status::Other, format!("the fence failed: {fault}; try --fence off")))
        }
        (Err(Refusal::Unfit(fault)), Fence::Require) => {
            Err(Failure::new(Status::Configuration, format!("no fence: {fault}")))
        }
        (Err(Refusal::Unfit(fault)), _) => {
            site.warn_late(format!("no fence: {fault}; the agent can reach the vault"));
            Ok(Enclosure::None)
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

fn enclose(places: &Places) -> Result<Enclosure, Refusal> {
    if geteuid().is_root() {
        return namespace::enter_as_root(places).map(|()| Enclosure::Mount);
    }
    match namespace::enter(places) {
        Ok(()) => Ok(Enclosure::Namespace),
        Err(Refusal::Broken(fault)) => Err(Refusal::Broken(fault)),
        Err(Refusal::Unfit(refused)) => match landlock::restrict(places) {
            Ok(()) => Ok(Enclosure::Landlock),
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
    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::File(path) => path,
        }
    }
}
