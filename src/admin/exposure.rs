//! `mentiko exposure`: the first question of an emergency.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use nix::unistd::Pid;
use serde::Serialize;

use super::{Common, Error, context, table};
use crate::audit::{Filter, Origin, Record, search};

#[derive(clap::Args, Debug)]
#[command(after_help = "Example: mentiko exposure STRIPE_API_KEY --json")]
pub(super) struct Arguments {
    /// The secret
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Exposure {
    secret: String,
    first: String,
    last: String,
    accesses: u64,
    holders: Vec<Holder>,
}

/// One agent of one run that was given one version.
#[derive(Serialize)]
struct Holder {
    chain: String,
    agent: String,
    run: String,
    version: u32,
    host: String,
    #[serde(flatten)]
    held: Held,
}

/// What somebody had of a secret.
#[derive(Serialize, Default, Debug)]
pub(super) struct Held {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) accesses: u64,
    /// Process IDs of those that still run, on this host.
    pub(super) running: Vec<i32>,
}

impl Held {
    /// Adds a grant; they come in the order of the log. `host` is this one.
    pub(super) fn add(&mut self, record: &Record, host: &str) {
        if self.accesses == 0 {
            self.first.clone_from(&record.time);
        }
        self.last.clone_from(&record.time);
        self.accesses += 1;
        if still_runs(record, host) && !self.running.contains(&record.pid) {
            self.running.push(record.pid);
        }
    }
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let filter = Filter { secret: Some(arguments.name.clone()), outcome: Some("granted".into()), ..Filter::default() };
    let host = Origin::of_this_process().host;
    let mut holders: BTreeMap<[String; 5], Holder> = BTreeMap::new();
    search(&instance.audit, &filter, |line| -> Result<(), Error> {
        let Some(record) = Record::parse(line) else { return Ok(()) };
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
            held: Held::default(),
        });
        holder.held.add(&record, &host);
        Ok(())
    })?;
    let holders: Vec<Holder> = holders.into_values().collect();
    let first = holders.iter().map(|holder| holder.held.first.clone()).min();
    let last = holders.iter().map(|holder| holder.held.last.clone()).max();
    let (Some(first), Some(last)) = (first, last) else {
        return Err(format!("there is no access to '{}' on record", arguments.name.escape_debug()).into());
    };
    let accesses = holders.iter().map(|holder| holder.held.accesses).sum();
    let exposure = Exposure { secret: arguments.name.clone(), first, last, accesses, holders };
    match arguments.json {
        true => table::json(&exposure)?,
        false => show(&exposure)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Its process is still that: a number alone may have been given to another since.
fn still_runs(record: &Record, host: &str) -> bool {
    record.host == host && record.start.is_some() && Origin::of(Pid::from_raw(record.pid)).start == record.start
}

fn show(exposure: &Exposure) -> Result<(), Error> {
    let time = |text: &str| text.get(..19).unwrap_or(text).replace('T', " ");
    writeln!(
        std::io::stdout(),
        "{}: {} accesses from {} to {} (UTC)",
        exposure.secret,
        exposure.accesses,
        time(&exposure.first),
        time(&exposure.last)
    )?;
    let rows: Vec<Vec<String>> = exposure
        .holders
        .iter()
        .map(|holder| {
            let running: Vec<String> = holder.held.running.iter().map(ToString::to_string).collect();
            vec![
                holder.chain.clone(),
                holder.agent.clone(),
                holder.run.clone(),
                holder.version.to_string(),
                holder.host.clone(),
                time(&holder.held.first),
                time(&holder.held.last),
                if running.is_empty() { "-".into() } else { format!("pid {}", running.join(", ")) },
            ]
        })
        .collect();
    table::print(&["CHAIN", "AGENT", "RUN", "VERSION", "HOST", "FIRST", "LAST", "STILL RUNNING"], &rows)
}
