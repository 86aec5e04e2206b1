//! `mentiko run`: begin and end runs by hand; which there are, and which of them live.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::chain::{chain_name, unapproved};
use super::process::{Process, each_record, listed, pids};
use super::{Common, Error, context, table};
use crate::audit::{Entry, Event, Filter, Log, Origin, Outcome};
use crate::instance::{Instance, uuid_v7};
use crate::memory::{Arena, with_wiped_stack};
use crate::policy::{ChainName, Definition, InvalidName, RunId, SecretName, judge};
use crate::vault::{self, Pins, Runs, RunsLock, Vault};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Begin a run: print its ID, for --run-id, and pin all of the chain's secrets at once
    #[command(after_help = "Example: export MENTIKO_RUN_ID=$(mentiko run start content-pipeline)")]
    Start {
        /// The chain
        #[arg(value_parser = chain_name)]
        chain: ChainName,
    },
    /// End a run: it holds no versions any more
    #[command(after_help = "Example: mentiko run end $MENTIKO_RUN_ID")]
    End {
        /// The run
        #[arg(value_parser = run_id)]
        id: RunId,
    },
    /// List runs with the versions that they hold; those that are over are forgotten
    #[command(after_help = "Example: mentiko run list --json")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

fn run_id(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|error: InvalidName| error.to_string())
}

pub(super) fn run(common: &Common, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Start { chain } => start(common, &chain)?,
        Command::End { id } => end(common, &id)?,
        Command::List { json } => list(common, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn start(common: &Common, chain: &ChainName) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let definition = Definition::open(&instance.chains, chain)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    let log = Log::open(&instance)?;
    log.check_writable()?;
    let id: RunId = uuid_v7()?.to_string().parse().map_err(|error: InvalidName| error.to_string())?;
    let runs = Runs::open(&instance)?;
    // Before the vault is opened: nothing that it shows can be retired before it is pinned.
    let lock = runs.lock()?;
    with_wiped_stack(|| {
        let vault = Vault::open(&instance, key, &arena)?;
        if let Some(unapproved) = unapproved(&definition, &instance, &vault)? {
            return Err(format!("{unapproved}; no run was begun").into());
        }
        let pins = all_of(&definition, &vault)?;
        runs.store(&lock, &id, &vault.seal_pins(&id, &pins)?)?;
        record(&log, &vault, Event::RUN_START, &id, Some(chain)).inspect_err(|_| {
            let _ = runs.remove(&lock, &id);
        })
    })?;
    Ok(writeln!(std::io::stdout(), "{id}")?)
}

/// The versions that a launch would get now, of every secret in the chain's list.
fn all_of(definition: &Definition, vault: &Vault<'_>) -> Result<Pins, Error> {
    let contents = vault.lookup(definition.secrets())?;
    let facts = |name: &SecretName| contents.get(name).map(vault::Record::facts);
    let mut pins = Pins::new(definition.chain().clone(), context::now());
    for secret in definition.secrets() {
        let version = judge(definition, secret, facts).map_err(|reason| {
            format!("secret '{secret}': {reason}; no run was begun; 'mentiko chain check' shows all faults")
        })?;
        pins.add(secret, version);
    }
    Ok(pins)
}

fn end(common: &Common, id: &RunId) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let log = Log::open(&instance)?;
    log.check_writable()?;
    let runs = Runs::open(&instance)?;
    let lock = runs.lock()?;
    // Damaged ones are ended too.
    let chain = open(&runs, &vault, id).ok().flatten().map(|pins| pins.chain);
    if !runs.remove(&lock, id)? {
        return Err(format!("there is no run '{id}' that holds anything; 'mentiko run list' shows all").into());
    }
    runs.sync()?;
    record(&log, &vault, Event::RUN_END, id, chain.as_ref())?;
    drop(lock);
    let mut out = std::io::stdout();
    writeln!(out, "ended run {id}")?;
    let running = Activity::of_all(&instance, Filter { run: Some(id.to_string()), ..Filter::default() })?;
    let running = running.into_values().flat_map(|activity| activity.running).collect::<Vec<_>>();
    match running.is_empty() {
        true => Ok(()),
        false => Ok(writeln!(out, "its agents go on, with what they were given: {}", pids(&running))?),
    }
}

fn record(log: &Log, vault: &Vault<'_>, event: Event, id: &RunId, chain: Option<&ChainName>) -> Result<(), Error> {
    let entry = Entry {
        chain: chain.map(ChainName::as_str),
        run: Some(id.as_str()),
        generation: Some(vault.generation()),
        ..Entry::new(event, Outcome::Done)
    };
    Ok(log.append(&[entry], Some(&vault.log_key()))?)
}

/// A run that holds versions.
pub(super) struct Run {
    pub(super) id: RunId,
    /// `None` where they are damaged. Then what it holds is not known.
    pub(super) pins: Option<Pins>,
    activity: Activity,
    lives: bool,
}

impl Run {
    fn without_pins(id: RunId, lives: bool) -> Self {
        Self { id, pins: None, activity: Activity::default(), lives }
    }
}

/// What the log says of a run.
#[derive(Default)]
struct Activity {
    /// When an agent of it was given something last.
    last: Option<String>,
    running: Vec<Process>,
}

impl Activity {
    fn of_all(instance: &Instance, filter: Filter) -> Result<BTreeMap<String, Self>, Error> {
        let host = Origin::of_this_process().host;
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        each_record(&instance.audit, &filter, |record| {
            let is_launch = record.outcome == "granted" || record.event == "agent.start";
            let Some(run) = record.run.as_ref().filter(|_| is_launch) else { return };
            let activity = found.entry(run.clone()).or_default();
            activity.last = Some(record.time.clone());
            let running = Process::of(record, &host).filter(|process| !activity.running.contains(process));
            activity.running.extend(running);
        })?;
        Ok(found)
    }
}

/// Removes the pins of the runs that are over, and gives back those that live, and with them those
/// that were over. A run lives while an agent of it does, and for some time after its last launch.
pub(super) fn sweep(
    instance: &Instance,
    runs: &Runs,
    lock: &RunsLock,
    vault: &Vault<'_>,
) -> Result<(Vec<Run>, Vec<Run>), Error> {
    let (living, over): (Vec<Run>, Vec<Run>) = all(instance, runs, vault)?.into_iter().partition(|run| run.lives);
    for run in &over {
        runs.remove(lock, &run.id)?;
    }
    Ok((living, over))
}

/// The same where the ages of the files alone say that there may be something to remove. Nothing
/// depends on it; what went wrong, in one line.
pub(super) fn tidy(instance: &Instance, vault: &Vault<'_>) -> Option<String> {
    let mut entries = std::fs::read_dir(&instance.runs).ok()?;
    if !entries.any(|entry| entry.is_ok_and(|entry| is_old(instance, &entry.path()))) {
        return None;
    }
    let swept = || -> Result<(), Error> {
        let runs = Runs::open(instance)?;
        let lock = runs.lock()?;
        sweep(instance, &runs, &lock, vault).map(|_| ())
    };
    swept().err().map(|error| format!("the pins of runs that are over could not be removed: {error}"))
}

/// Whether nothing was written to it for so long that its run may be over.
fn is_old(instance: &Instance, file: &Path) -> bool {
    let idle = Duration::from_secs(instance.policy.run_idle_hours.saturating_mul(3600));
    let changed = file.symlink_metadata().and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age >= idle))
}

fn all(instance: &Instance, runs: &Runs, vault: &Vault<'_>) -> Result<Vec<Run>, Error> {
    let now = Timestamp::now();
    let (mut found, mut damaged, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids(instance)? {
        match open(runs, vault, &id) {
            Ok(Some(pins)) => found.push((id, pins)),
            // What a power cut left, or just being made.
            Ok(None) if is_old(instance, &runs.file(&id)) => over.push(Run::without_pins(id, false)),
            Ok(None) => {}
            Err(vault::Error::Pins { .. }) => damaged.push(Run::without_pins(id, true)),
            Err(error) => return Err(error.into()),
        }
    }
    // No run was given anything before it began.
    let oldest = found.iter().filter_map(|(_, pins)| began(pins)).min();
    let mut activities = match found.is_empty() {
        true => BTreeMap::new(),
        false => Activity::of_all(instance, Filter { since: oldest, ..Filter::default() })?,
    };
    let idle = SignedDuration::from_hours(i64::try_from(instance.policy.run_idle_hours).unwrap_or(i64::MAX / 3600));
    let run = |(id, pins): (RunId, Pins)| {
        let activity = activities.remove(id.as_str()).unwrap_or_default();
        let last = activity.last.as_ref().and_then(|time| time.parse().ok());
        // A time to come is that of a clock which was set back since.
        let is_recent = last.max(began(&pins)).is_none_or(|latest| now.duration_since(latest) < idle);
        let lives = is_recent || !activity.running.is_empty();
        Run { id, pins: Some(pins), activity, lives }
    };
    Ok(found.into_iter().map(run).chain(damaged).chain(over).collect())
}

/// The runs that there are files of, in the order of their names.
pub(super) fn ids(instance: &Instance) -> Result<Vec<RunId>, Error> {
    let cant_list = |error| crate::instance::Error::file("list", &instance.runs, error);
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(&instance.runs).map_err(cant_list)? {
        let name = entry.map_err(cant_list)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.strip_suffix(".run")).and_then(|id| id.parse().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

pub(super) fn open(runs: &Runs, vault: &Vault<'_>, id: &RunId) -> Result<Option<Pins>, vault::Error> {
    let sealed = runs.read(id)?;
    sealed.map(|sealed| with_wiped_stack(|| vault.open_pins(id, &sealed, &runs.file(id)))).transpose()
}

fn began(pins: &Pins) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(pins.created).ok()?).ok()
}

/// A run as it is shown.
#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) run: String,
    pub(super) chain: Option<String>,
    pub(super) started: Option<String>,
    pub(super) last_access: Option<String>,
    /// Process IDs of its agents, on this host.
    pub(super) running: Vec<Process>,
    pub(super) versions: BTreeMap<String, u32>,
    /// living, over or damaged
    pub(super) state: &'static str,
}

/// All runs that there are pins of; nothing is removed.
pub(super) fn shown(instance: &Instance, vault: &Vault<'_>) -> Result<Vec<Shown>, Error> {
    let runs = Runs::open(instance)?;
    Ok(all(instance, &runs, vault)?.into_iter().map(Shown::of).collect())
}

impl Shown {
    fn of(run: Run) -> Self {
        let pins = run.pins.as_ref();
        let versions = pins.map(|pins| pins.versions().iter().map(|(name, version)| (name.to_string(), *version)));
        Self {
            run: run.id.to_string(),
            chain: pins.map(|pins| pins.chain.to_string()),
            started: pins.and_then(began).map(|time| time.to_string()),
            last_access: run.activity.last,
            running: run.activity.running,
            versions: versions.map(Iterator::collect).unwrap_or_default(),
            state: match (pins, run.lives) {
                (Some(_), true) => "living",
                (None, true) => "damaged",
                (_, false) => "over",
            },
        }
    }
}

fn list(common: &Common, json: bool) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let runs = Runs::open(&instance)?;
    let (living, over) = sweep(&instance, &runs, &runs.lock()?, &vault)?;
    let shown: Vec<Shown> = living.into_iter().chain(over).map(Shown::of).collect();
    if json {
        return table::json(&shown);
    }
    if shown.is_empty() {
        return Ok(writeln!(std::io::stdout(), "no runs")?);
    }
    let time = |text: Option<String>| {
        text.map_or_else(|| "-".into(), |text| text.get(..19).unwrap_or(&text).replace('T', " "))
    };
    let rows: Vec<Vec<String>> = shown
        .into_iter()
        .map(|run| {
            let versions: Vec<String> =
                run.versions.iter().map(|(name, version)| format!("{name}:{version}")).collect();
            vec![
                run.run,
                run.chain.unwrap_or_else(|| "-".into()),
                time(run.started),
                time(run.last_access),
                if run.running.is_empty() { "-".into() } else { listed(&run.running, ", ") },
                versions.join(" "),
                run.state.into(),
            ]
        })
        .collect();
    table::print(&["RUN", "CHAIN", "STARTED", "LAST ACCESS", "AGENTS", "HOLDS", "STATE"], &rows)
}
