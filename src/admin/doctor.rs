//! `mentiko doctor`: whether this system, this instance and what is in it are as they should be.
//!
//! Nothing is changed and nothing is recorded. When the log was verified last is not kept anywhere:
//! whoever could forge the log could forge that too. So it is verified here and now.

mod content;
mod files;
mod system;

use std::process::ExitCode;

use serde::Serialize;

use super::table::{Printer, Tone};
use super::{Common, Error, context, table};
use crate::instance::Fence;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example: mentiko doctor --json")]
pub(super) struct Arguments {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// A protection is missing that others make up for, or something is to be done.
    Warn,
    /// A promise does not hold, or launches will be refused.
    Fail,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    finding: String,
    /// What mends it.
    mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, state: State::Ok, finding: finding.into(), mend: None }
    }

    fn warn(name: &'static str, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Warn, finding: finding.into(), mend: Some(mend.into()) }
    }

    fn fail(name: &'static str, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Fail, finding: finding.into(), mend: Some(mend.into()) }
    }

    /// A failure whose text has its mend in it.
    fn failed(name: &'static str, error: impl ToString) -> Self {
        Self { name, state: State::Fail, finding: error.to_string(), mend: None }
    }
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut checks = system::checks();
    match context::instance(common) {
        Ok(instance) => {
            checks.push(system::fence(instance.policy.fence));
            checks.extend(files::checks(&instance));
            checks.extend(content::checks(common, &instance));
        }
        Err(error) => {
            checks.push(system::fence(Fence::default()));
            checks.push(Check::failed("configuration", error));
            let mend = "mend the configuration first";
            checks.push(Check::warn("not looked at", "the instance: files, vault, log, chains", mend));
        }
    }
    show(&checks, arguments.json)?;
    let failed = checks.iter().any(|check| check.state == State::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(checks: &[Check], json: bool) -> Result<(), Error> {
    if json {
        return table::json(&checks);
    }
    let mut printer = Printer::new(&["STATE", "WHAT", "FINDING"]);
    for check in checks {
        let finding = match &check.mend {
            Some(mend) => format!("{}; mend: {mend}", check.finding),
            None => check.finding.clone(),
        };
        let tone = if check.state == State::Fail { Tone::Alarm } else { Tone::Plain };
        printer.push(vec![check.state.name().into(), check.name.into(), finding], tone)?;
    }
    printer.flush()
}
