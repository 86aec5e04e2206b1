//! `mentiko exposure`: the first question of an emergency.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::process::{Process, each_record, pids};
use super::{Common, Error, context, table};
use crate::audit::{Filter, Origin, Record};

#[derive(clap::Args, Debug)]
#[command(after_help = "Example: mentiko exposure STRIPE_API_KEY --json")]
pub(super) struct Arguments {
    /// The secret
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Who was given a secret.
#[derive(Serialize)]
pub(super) struct Exposure {
    secret: String,
    first: Option<String>,
    last: Option<String>,
    accesses: u64,
    pub(super) holders: Vec<Holder>,
}

/// One agent of one run that was given one version.
#[derive(Serialize)]
pub(super) struct Holder {
    pub(super) chain: String,
    pub(super) agent: String,
    pub(super) run: String,
    pub(super) version: u32,
    host: String,
    /// Of its latest launch.
    pub(super) command: String,
    #[serde(flatten)]
    pub(super) held: Held,
}

/// What somebody had of a secret.
#[derive(Serialize, Default, Debug)]
pub(super) struct Held {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) accesses: u64,
    /// Process IDs of those that still run, on this host.
    pub(super) running: Vec<Process>,
}

impl Held {
    /// Adds a grant; they come in the order of the log. `host` is this one.
    pub(super) fn add(&mut self, record: &Record, host: &str) {
        if self.accesses == 0 {
            self.first.clone_from(&record.time);
        }
        self.last.clone_from(&record.time);
        self.accesses += 1;
        self.running.extend(Process::of(record, host).filter(|process| !self.running.contains(process)));
    }
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let exposure = Exposure::of(&instance.audit, &arguments.name)?;
    if exposure.holders.is_empty() {
        return Err(format!("there is no access to '{}' on record", arguments.name.escape_debug()).into());
    }
    match arguments.json {
        true => table::json(&exposure)?,
        false => exposure.show()?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Exposure {
    /// What the log says of a secret.
    pub(super) fn of(audit: &Path, secret: &str) -> Result<Self, Error> {
        let filter = Filter { secret: Some(secret.into()), outcome: Some("granted".into()), ..Filter::default() };
        let host = Origin::of_this_process().host;
        let mut holders: BTreeMap<[String; 5], Holder> = BTreeMap::new();
        each_record(audit, &filter, |record| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let (chain, agent, run) = (text(&record.chain), text(&record.agent), text(&record.run));
            let version = record.version.unwrap_or_default();
            let key = [chain.clone(), agent.clone(), run.clone(), format!("{version:010}"), record.host.clone()];
            let holder = holders.entry(key).or_insert_with(|| Holder {
                chain,
                agent,
                run,
                version,
                host: record.host.clone(),
                command: String::new(),
                held: Held::default(),
            });
            holder.command = text(&record.command);
            holder.held.add(record, &host);
        })?;
        let mut exposure = Self { secret: secret.into(), first: None, last: None, accesses: 0, holders: Vec::new() };
        exposure.holders = holders.into_values().collect();
        exposure.add_up();
        Ok(exposure)
    }

    /// Without those who were given this version.
    pub(super) fn without(mut self, version: Option<u32>) -> Self {
        self.holders.retain(|holder| Some(holder.version) != version);
        self.add_up();
        self
    }

    fn add_up(&mut self) {
        self.first = self.holders.iter().map(|holder| holder.held.first.clone()).min();
        self.last = self.holders.iter().map(|holder| holder.held.last.clone()).max();
        self.accesses = self.holders.iter().map(|holder| holder.held.accesses).sum();
    }

    /// As a table.
    pub(super) fn show(&self) -> Result<(), Error> {
        let time = |text: &str| text.get(..19).unwrap_or(text).replace('T', " ");
        writeln!(
            std::io::stdout(),
            "{}: {} accesses from {} to {} (UTC)",
            self.secret,
            self.accesses,
            time(self.first.as_deref().unwrap_or("-")),
            time(self.last.as_deref().unwrap_or("-"))
        )?;
        let rows: Vec<Vec<String>> = self
            .holders
            .iter()
            .map(|holder| {
                vec![
                    holder.chain.clone(),
                    holder.agent.clone(),
                    holder.run.clone(),
                    holder.version.to_string(),
                    holder.host.clone(),
                    time(&holder.held.first),
                    time(&holder.held.last),
                    pids(&holder.held.running),
                ]
            })
            .collect();
        table::print(&["CHAIN", "AGENT", "RUN", "VERSION", "HOST", "FIRST", "LAST", "STILL RUNNING"], &rows)
    }
}
