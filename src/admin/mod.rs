//! `mentiko`, the command for people. None of it is part of `mentiko-exec`.

mod advice;
mod audit;
mod chain;
mod complete;
mod context;
mod doctor;
mod due;
mod export;
mod exposure;
mod import;
mod init;
mod key;
mod man;
mod process;
mod progress;
mod query;
mod quickstart;
mod recovery;
mod rekey;
mod report;
mod rotate;
mod run;
mod scan;
mod schedule;
mod secret;
mod settings;
mod table;
mod value;

use std::io::Write;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::memory::{CoreFiles, protect_self};
use crate::text::{printable, usage_error};

/// Keep the secrets of your agents: store them, say who may have them, see who had them.
#[derive(Parser, Debug)]
#[command(name = "mentiko", version, after_help = "Example: mentiko quickstart")]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(clap::Args, Debug)]
pub(crate) struct Common {
    /// The instance [default: $MENTIKO_INSTANCE, else /etc/mentiko or ~/.config/mentiko]
    #[arg(long, global = true, value_name = "DIR")]
    instance: Option<PathBuf>,
    /// Read the passphrase from this descriptor
    #[arg(long, global = true, value_name = "N")]
    passphrase_fd: Option<RawFd>,
    /// Open the vault with a recovery code, which is asked for, instead of the configured key
    #[arg(long, global = true)]
    recovery_code: bool,
    /// The same, with the code from this descriptor
    #[arg(long, global = true, value_name = "N")]
    recovery_code_fd: Option<RawFd>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make an instance: configuration, key, vault, log
    Init(init::Arguments),
    /// Show the whole thing at work in a throwaway instance
    #[command(after_help = "Example: mentiko quickstart")]
    Quickstart,
    /// Store and describe secrets
    #[command(subcommand, after_help = "Example: mentiko secret set OPENAI_API_KEY --scope content-pipeline")]
    Secret(secret::Command),
    /// List and check chain definitions
    #[command(subcommand, after_help = "Example: mentiko chain show content-pipeline")]
    Chain(chain::Command),
    /// Begin, end and list runs, which keep the versions that they were given
    #[command(subcommand, after_help = "Example: mentiko run start content-pipeline")]
    Run(run::Command),
    /// Say what opens the vault, and change it
    #[command(subcommand, after_help = "Example: mentiko key list")]
    Key(key::Command),
    /// Say who holds a secret: runs, agents, hosts, and which of their processes still run
    Exposure(exposure::Arguments),
    /// List the secrets that are to be rotated, now or soon; exit 1 if there are any
    Due(due::Arguments),
    /// Check each protection and name what mends it; exit 1 if one failed
    Doctor(doctor::Arguments),
    /// Look for values of the vault where they must not be: files, logs, git history
    Scan(scan::Arguments),
    /// Ask the access log
    #[command(subcommand, after_help = "Example: mentiko audit query --secret OPENAI_API_KEY --since 7d")]
    Audit(audit::Command),
    /// Look after secrets, log, chains, runs and rotation on one screen
    #[command(after_help = "Its keys are listed on ?.\n\nExample: mentiko settings")]
    Settings,
    /// Print a script that completes command lines in a shell, names too
    Completions(complete::Completions),
    /// Write the manual pages below a folder
    #[command(hide = true)]
    Man(man::Arguments),
    /// What such a script asks
    #[command(hide = true)]
    Complete(complete::Complete),
}

/// What went wrong, in one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Memory(#[from] crate::memory::Error),
    #[error(transparent)]
    Instance(#[from] crate::instance::Error),
    #[error(transparent)]
    Policy(#[from] crate::policy::Error),
    #[error(transparent)]
    Vault(#[from] crate::vault::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
    #[error("can't write to standard output: {0}")]
    Output(#[from] std::io::Error),
    #[error("{0}")]
    Other(String),
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

/// Runs one command: 0 done, 1 failed or a check found something, 2 usage. `due` alone ends with 2
/// for any error, for with 1 it says that something is due.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            say(&usage_error(&error));
            return ExitCode::from(2);
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match run(cli) {
        Ok(code) => code,
        // The reader has had enough (`mentiko audit query | head`).
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error. Not eprintln!, which panics where nobody reads.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "mentiko: {}", printable(text));
}

fn run(cli: Cli) -> Result<ExitCode, Error> {
    protect_self(CoreFiles::Allowed)?;
    let Cli { common, command } = cli;
    match command {
        Command::Init(arguments) => init::run(&common, arguments),
        Command::Quickstart => quickstart::run(),
        Command::Secret(command) => secret::run(&common, command),
        Command::Chain(command) => chain::run(&common, command),
        Command::Run(command) => run::run(&common, command),
        Command::Key(command) => key::run(&common, command),
        Command::Audit(command) => audit::run(&common, command),
        Command::Settings => settings::run(&common),
        Command::Due(arguments) => Ok(due::run(&common, &arguments)),
        Command::Doctor(arguments) => doctor::run(&common, &arguments),
        Command::Scan(arguments) => Ok(scan::run(&common, &arguments)),
        Command::Exposure(arguments) => exposure::run(&common, &arguments),
        Command::Completions(arguments) => complete::print_script(&arguments),
        Command::Man(arguments) => man::run(&arguments),
        Command::Complete(arguments) => complete::print_candidates(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
