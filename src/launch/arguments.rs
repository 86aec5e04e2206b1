//! The command line of `mentiko-exec`.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Parser, ValueEnum};
use nix::unistd::getpid;

use super::{Failure, Keep, Status};
use crate::instance::Fence;
use crate::memory::{CoreFiles, adopt, is_open};
use crate::policy::{AgentName, ChainName, RunId};
use crate::text::usage_error;

/// Run an agent with exactly the secrets that its chain grants it.
#[derive(Parser, Debug)]
#[command(
    name = "mentiko-exec",
    version,
    disable_help_flag = true,
    override_usage = "mentiko-exec --chain CHAIN --agent AGENT [OPTIONS] -- COMMAND [ARG...]",
    after_help = "Exit status: 77 denied, 78 configuration, 125-127 other; else the agent's own.\n\n\
                  Example: mentiko-exec --chain content-pipeline --agent researcher -- python agent.py"
)]
pub struct Arguments {
    /// The chain that the agent belongs to
    #[arg(long)]
    pub chain: ChainName,
    /// The agent, as the chain's definition lists it
    #[arg(long)]
    pub agent: AgentName,
    /// The run it belongs to [default: $MENTIKO_RUN_ID or new]
    ///
    /// The run that this launch belongs to; by default $MENTIKO_RUN_ID, else a new one
    #[arg(long, value_name = "ID")]
    pub run_id: Option<RunId>,
    /// The instance [default: $MENTIKO_INSTANCE, else /etc/mentiko or ~/.config/mentiko]
    #[arg(long, value_name = "DIR")]
    pub instance: Option<PathBuf>,
    /// env: NAME=value (default); file: NAME_FILE=PATH
    ///
    /// NAME=value, or NAME_FILE=/proc/self/fd/N on a sealed memory file
    #[arg(long, value_enum, default_value_t = Delivery::Env, value_name = "HOW")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub deliver: Delivery,
    /// Start from PATH, HOME and few other variables only
    ///
    /// Start from PATH HOME USER LOGNAME SHELL LANG LC_* TERM TZ TMPDIR only
    #[arg(long)]
    pub clean_env: bool,
    /// Keep this variable too
    #[arg(long, value_name = "NAME")]
    pub keep: Vec<String>,
    /// Change to this folder first
    #[arg(long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// Hand this open descriptor to the agent; others are closed
    #[arg(long, value_name = "N")]
    pub pass_fd: Vec<RawFd>,
    /// Read the passphrase from this descriptor
    #[arg(long, value_name = "N")]
    pub passphrase_fd: Option<RawFd>,
    /// Keep it from key, vault and log: auto, require, off
    ///
    /// Keep the agent from the key, the vault and the log [default: the instance's policy, else auto]
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub fence: Option<Fence>,
    /// Leave this door through the fence open: bus, docker
    #[arg(long, value_enum, value_name = "DOOR", hide_possible_values = true)]
    pub fence_keep: Vec<Keep>,
    /// As root: run the agent as this user
    #[arg(long)]
    pub user: Option<String>,
    /// With --user: in this group instead of the user's own
    #[arg(long, requires = "user")]
    pub group: Option<String>,
    /// The agent can't gain privileges, as inside a fence
    ///
    /// The agent can't gain privileges by executing anything; always so inside a fence
    #[arg(long)]
    pub no_new_privs: bool,
    /// Stay as the agent's parent, record its end, end as it did
    ///
    /// Stay as the agent's parent: pass on signals, record its end, end as it did (128+n for signal n)
    #[arg(long)]
    pub supervise: bool,
    /// Replace granted values in its output by their names
    ///
    /// Replace granted values in the agent's output by their names; implies --supervise
    #[arg(long)]
    pub mask: bool,
    /// Don't warn; refusals are said all the same
    ///
    /// Don't warn, of an overdue rotation or a missing fence for example; refusals are said all the same
    #[arg(long)]
    pub quiet: bool,
    /// Let the agent write core files, which hold its secrets
    #[arg(long)]
    pub allow_core: bool,
    /// Print the decision; open, record and run nothing
    ///
    /// Print the decision, names only; open no value, write no record, run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print help
    // On one screen; mentiko-exec(1) says more.
    #[arg(short, long, action = ArgAction::HelpShort)]
    pub help: Option<bool>,
    /// The agent's command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND", hide_short_help = true)]
    pub command: Vec<OsString>,
    /// What systemd hands over, by its own protocol
    #[arg(skip)]
    pub listen_fds: Vec<RawFd>,
}

/// How a value reaches the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// As the variable's value.
    Env,
    /// In a sealed memfd, whose path is the value of NAME_FILE.
    File,
}

/// Parses the process's arguments; `None` after `--help` and `--version`, which are printed.
pub fn parse() -> Result<Option<Arguments>, Failure> {
    let mut arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return match error.print() {
                Ok(()) => Ok(None),
                Err(error) => Err(Failure::new(Status::Other, error.to_string())),
            };
        }
        Err(error) => return Err(Failure::new(Status::Other, usage_error(&error))),
    };
    // Checked while nothing of ours is open: no number can mean a file that was opened later.
    let usage = |text: String| Err(Failure::new(Status::Other, text));
    if let Some(fd) = arguments.pass_fd.iter().chain(&arguments.passphrase_fd).find(|&&fd| !is_open(fd)) {
        return usage(format!("descriptor {fd} is not open"));
    }
    if let Some(fd) = arguments.passphrase_fd.filter(|fd| arguments.pass_fd.contains(fd)) {
        return usage(format!(
            "descriptor {fd} is named by both --passphrase-fd and --pass-fd; the agent gets no passphrase"
        ));
    }
    arguments.listen_fds = listen_fds();
    Ok(Some(arguments))
}

/// The descriptors that systemd hands to this process (sd_listen_fds(3)).
fn listen_fds() -> Vec<RawFd> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<RawFd>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == getpid().as_raw() => {
            let end = 3i32.saturating_add(count);
            (3..end).take(1024).filter(|&fd| is_open(fd)).collect()
        }
        _ => Vec::new(),
    }
}

impl Arguments {
    /// Whether the agent may write core files.
    pub fn core_files(&self) -> CoreFiles {
        match self.allow_core {
            true => CoreFiles::Allowed,
            false => CoreFiles::Never,
        }
    }

    /// The descriptor of `--passphrase-fd`, taken over.
    pub fn passphrase(&self) -> Result<Option<File>, Failure> {
        let Some(fd) = self.passphrase_fd else { return Ok(None) };
        adopt(fd)
            .map(|fd| Some(File::from(fd)))
            .map_err(|_| Failure::new(Status::Other, format!("--passphrase-fd {fd}: use a descriptor above 2")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_agents_own_options_are_not_ours() {
        let words = ["mentiko-exec", "--chain", "c", "--agent", "a", "python", "--chain", "x", "--", "-c"];
        let arguments = Arguments::try_parse_from(words).unwrap();
        assert_eq!(arguments.chain.as_str(), "c");
        assert_eq!(arguments.command, ["python", "--chain", "x", "--", "-c"]);
    }

    #[test]
    fn an_error_is_one_line() {
        for words in [
            &["mentiko-exec"][..],
            &["mentiko-exec", "--chain", "a b", "--agent", "a", "true"],
            &["mentiko-exec", "-x"],
        ] {
            let error = Arguments::try_parse_from(words).unwrap_err();
            let line = usage_error(&error);
            assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
        }
    }
}
