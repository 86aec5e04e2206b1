//! Where an instance is looked for, and where `mentiko init` puts one.

use std::env::var_os;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::Error;

/// The folder of the instance: `--instance`, else `$MENTIKO_INSTANCE`, else systemd's
/// `$CONFIGURATION_DIRECTORY` where it holds one, else the place for this user.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    if let Some(path) = variable("MENTIKO_INSTANCE") {
        return Ok(path);
    }
    if let Some(path) = variable("CONFIGURATION_DIRECTORY").filter(|path| path.join("instance.json").exists()) {
        return Ok(path);
    }
    Ok(Places::of_this_user()?.config)
}

/// Where `mentiko init` without a folder puts vault (and runs), and the log: XDG base directories,
/// or /var/lib and /var/log for root.
pub fn defaults_for_init() -> Result<(PathBuf, PathBuf, PathBuf), Error> {
    let Places { config, state, logs } = Places::of_this_user()?;
    let config = variable("CONFIGURATION_DIRECTORY").unwrap_or(config);
    let state = variable("STATE_DIRECTORY").unwrap_or(state);
    let logs = variable("LOGS_DIRECTORY").unwrap_or(logs);
    Ok((config, state, logs))
}

struct Places {
    config: PathBuf,
    state: PathBuf,
    logs: PathBuf,
}

impl Places {
    fn of_this_user() -> Result<Self, Error> {
        if geteuid().is_root() {
            return Ok(Self {
                config: "/etc/mentiko".into(),
                state: "/var/lib/mentiko".into(),
                logs: "/var/log/mentiko".into(),
            });
        }
        let base = |name, below_home: &str| {
            // The XDG Base Directory Specification: relative paths are to be ignored.
            variable(name)
                .filter(|path| path.is_absolute())
                .or_else(|| variable("HOME").map(|home| home.join(below_home)))
                .map(|path| path.join("mentiko"))
                .ok_or(Error::NoHome)
        };
        Ok(Self {
            config: base("XDG_CONFIG_HOME", ".config")?,
            state: base("XDG_DATA_HOME", ".local/share")?,
            logs: base("XDG_STATE_HOME", ".local/state")?.join("audit"),
        })
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
