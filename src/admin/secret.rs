//! `mentiko secret`: values go in, metadata comes out.

use std::io::{IsTerminal, Write};
use std::os::fd::RawFd;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::context::{self, Change, secret_name};
use super::schedule::{self, Schedule};
use super::{Common, Error, advice, import, rotate, table, value};
use crate::audit::Event;
use crate::instance::{Instance, InstanceKey};
use crate::memory::Arena;
use crate::policy::{ChainName, Scope, SecretName, is_reserved, path_of};
use crate::vault::{MAX_NOTE, Record, State, Vault};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Store a value, from standard input or asked without echo; a new version if the name exists
    #[command(after_help = "Example: mentiko secret set OPENAI_API_KEY --scope content-pipeline --rotate-every 30d")]
    Set {
        /// The secret
        #[arg(value_parser = secret_name)]
        name: SecretName,
        #[command(flatten)]
        metadata: Metadata,
        /// Read the value from this descriptor
        #[arg(long, value_name = "N")]
        value_fd: Option<RawFd>,
    },
    /// Store all values of a .env or JSON file, or of variables, in one write
    Import(import::Arguments),
    /// Store a new value of a secret; runs that hold the one before keep it
    #[command(after_help = "Example: mentiko secret rotate OPENAI_API_KEY")]
    Rotate(rotate::Arguments),
    /// Remove previous versions that no living run and no running agent holds
    #[command(after_help = "Example: mentiko secret retire OPENAI_API_KEY")]
    Retire {
        /// The secret
        #[arg(value_parser = secret_name)]
        name: SecretName,
    },
    /// List all secrets: names and metadata
    #[command(after_help = "Example: mentiko secret list --json")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Describe one secret; its value is never shown
    #[command(after_help = "Example: mentiko secret show OPENAI_API_KEY")]
    Show {
        /// The secret
        #[arg(value_parser = secret_name)]
        name: SecretName,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a secret with all its versions
    #[command(after_help = "Example: mentiko secret remove OPENAI_API_KEY --yes")]
    Remove {
        /// The secret
        #[arg(value_parser = secret_name)]
        name: SecretName,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Say which chains may use a secret
    #[command(after_help = "Example: mentiko secret scope OPENAI_API_KEY content-pipeline,newsletter")]
    Scope {
        /// The secret
        #[arg(value_parser = secret_name)]
        name: SecretName,
        /// all, or names of chains with commas between
        #[arg(value_name = "all|CHAIN,CHAIN")]
        scope: Scope,
    },
    /// Say how often a secret is to be rotated; nothing is ever rotated by itself
    #[command(after_help = "Example: mentiko secret schedule OPENAI_API_KEY monthly")]
    Schedule {
        /// The secret
        #[arg(value_parser = secret_name)]
        name: SecretName,
        /// 30d (1d to 3650d), monthly, quarterly, yearly or none; counted from when its value was stored
        #[arg(value_name = "PERIOD|none")]
        period: Schedule,
    },
}

pub(super) fn run(common: &Common, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Set { name, metadata, value_fd } => set(common, name, &metadata, value_fd)?,
        Command::Import(arguments) => return import::run(common, arguments),
        Command::Rotate(arguments) => return rotate::rotate(common, &arguments),
        Command::Retire { name } => return rotate::retire(common, &name),
        Command::List { json } => list(common, json)?,
        Command::Show { name, json } => show(common, &name, json)?,
        Command::Remove { name, yes } => remove(common, name, yes)?,
        Command::Scope { name, scope } => rescope(common, name, scope)?,
        Command::Schedule { name, period } => schedule::run(common, name, period)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What may be said of a secret when it is stored.
#[derive(clap::Args, Debug)]
pub(super) struct Metadata {
    /// The chains that may use it: all, or names with commas between [new secrets: all]
    #[arg(long, value_name = "all|CHAIN,CHAIN")]
    pub(super) scope: Option<Scope>,
    /// How often it is to be rotated: 30d, monthly, quarterly, yearly, none
    #[arg(long, value_name = "PERIOD")]
    pub(super) rotate_every: Option<Schedule>,
    /// A note for people
    #[arg(long, value_name = "TEXT")]
    pub(super) note: Option<String>,
}

fn set(common: &Common, name: SecretName, metadata: &Metadata, value_fd: Option<RawFd>) -> Result<(), Error> {
    refuse_reserved(&name)?;
    check(metadata)?;
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    // Before the lock is taken: others need not wait until it is typed.
    let value = value::read(name.as_str(), value_fd, &arena)?;
    let key = context::key(common, &instance, &arena)?;
    let Stored { version, scope, advice } = store(&instance, key, &arena, &name, metadata, value)?;
    warn_of_unknown_chains(&instance.chains, &scope);
    writeln!(std::io::stdout(), "stored {name} version {version}, scope {scope}")?;
    if let Some(advice) = advice {
        super::say(&advice);
    }
    Ok(())
}

/// Names that are well formed and all the same can't be those of secrets.
pub(super) fn refuse_reserved(name: &SecretName) -> Result<(), Error> {
    match is_reserved(name.as_str()) {
        true => Err(format!("'{name}' can't be a secret: {RESERVED}").into()),
        false => Ok(()),
    }
}

/// What storing a value came to.
pub(super) struct Stored {
    pub(super) version: u32,
    pub(super) scope: Scope,
    pub(super) advice: Option<String>,
}

/// Stores a value, which is overwritten by its ciphertext: a new secret, or a new version.
pub(super) fn store(
    instance: &Instance,
    key: InstanceKey<'_>,
    arena: &Arena,
    name: &SecretName,
    metadata: &Metadata,
    value: &mut [u8],
) -> Result<Stored, Error> {
    let now = context::now();
    let (mut scope, mut advice) = (Scope::All, None);
    let change = context::change(instance, key, arena, |vault, contents| {
        let record = contents.entry(name.clone()).or_insert_with(|| Vault::new_record(name.clone(), now));
        apply(record, metadata);
        scope = record.scope.clone();
        if record.rotation.is_none() && metadata.rotate_every.is_none() {
            advice = advice::line(&record.name);
        }
        let version = vault.add_version(record, value, now)?;
        Ok(Change { event: Event::SECRET_SET, secret: name.clone(), version: Some(version) })
    })?;
    Ok(Stored { version: change.version.unwrap_or_default(), scope, advice })
}

/// Why a name is refused that would be well formed.
pub(super) const RESERVED: &str = "it is the name of a variable that belongs to the system";

pub(super) fn check(metadata: &Metadata) -> Result<(), Error> {
    match metadata.note.as_ref().is_some_and(|note| note.len() > MAX_NOTE) {
        true => Err(format!("the note is longer than {MAX_NOTE} bytes").into()),
        false => Ok(()),
    }
}

pub(super) fn apply(record: &mut Record, metadata: &Metadata) {
    if let Some(scope) = &metadata.scope {
        record.scope = scope.clone();
    }
    if let Some(schedule) = metadata.rotate_every {
        record.rotation = schedule.0;
    }
    if let Some(note) = &metadata.note {
        record.note = note.clone();
    }
}

fn rescope(common: &Common, name: SecretName, scope: Scope) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    set_scope(&instance, key, &arena, &name, &scope)?;
    warn_of_unknown_chains(&instance.chains, &scope);
    Ok(writeln!(std::io::stdout(), "{name}: scope {scope}")?)
}

/// Changes the scope of a secret.
pub(super) fn set_scope(
    instance: &Instance,
    key: InstanceKey<'_>,
    arena: &Arena,
    name: &SecretName,
    scope: &Scope,
) -> Result<(), Error> {
    context::change(instance, key, arena, |_, contents| {
        let record = contents.get_mut(name).ok_or_else(|| unknown(name))?;
        record.scope = scope.clone();
        record.changed = context::now();
        Ok(Change { event: Event::SECRET_SCOPE, secret: name.clone(), version: None })
    })
    .map(|_| ())
}

fn remove(common: &Common, name: SecretName, yes: bool) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    if !yes && !confirmed(&format!("Remove {name} with all its versions? It can't be undone. [y/N] "))? {
        return Err("nothing was removed; say --yes to remove without being asked".to_owned().into());
    }
    context::change(&instance, key, &arena, |_, contents| {
        contents.remove(&name).ok_or_else(|| unknown(&name))?;
        Ok(Change { event: Event::SECRET_REMOVE, secret: name.clone(), version: None })
    })?;
    Ok(writeln!(std::io::stdout(), "removed {name}")?)
}

/// Asks on standard error; no where nobody can answer.
pub(super) fn confirmed(question: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(std::io::stderr(), "{question}")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A secret as it is shown: no value in it.
#[derive(Serialize)]
struct Shown {
    name: String,
    /// `null` for all chains.
    scope: Option<Vec<String>>,
    version: Option<u32>,
    rotate_every: Option<String>,
    due: Option<String>,
    overdue: bool,
    note: String,
    created: String,
    changed: String,
    versions: Vec<ShownVersion>,
}

#[derive(Serialize)]
struct ShownVersion {
    version: u32,
    state: &'static str,
    created: String,
}

impl Shown {
    fn of(record: &Record, now: Timestamp) -> Self {
        Self {
            name: record.name.to_string(),
            scope: chains(&record.scope),
            version: record.current().map(|version| version.number),
            rotate_every: record.rotation.map(|rotation| rotation.to_string()),
            due: record.due().map(|time| time.to_string()),
            overdue: record.overdue_since(now).is_some(),
            note: record.note.clone(),
            created: time(record.created),
            changed: time(record.changed),
            versions: record
                .versions
                .iter()
                .map(|version| ShownVersion {
                    version: version.number,
                    state: match version.state {
                        State::Current => "current",
                        State::Previous => "previous",
                        State::Revoked => "revoked",
                    },
                    created: time(version.created),
                })
                .collect(),
        }
    }
}

/// The chains of a scope, as JSON shows them: `null` for all.
pub(super) fn chains(scope: &Scope) -> Option<Vec<String>> {
    match scope {
        Scope::All => None,
        Scope::Chains(chains) => Some(chains.iter().map(ToString::to_string).collect()),
    }
}

/// As people and programs read it; empty for a time that is none.
pub(super) fn time(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(String::new, |time| time.to_string())
}

fn list(common: &Common, json: bool) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let contents = context::vault(common, &instance, &arena)?.read_all()?;
    let now = Timestamp::now();
    if json {
        return table::json(&contents.values().map(|record| Shown::of(record, now)).collect::<Vec<_>>());
    }
    if contents.is_empty() {
        return Ok(writeln!(std::io::stdout(), "no secrets yet; store one with: mentiko secret set NAME")?);
    }
    let day = |text: &str| text.get(..10).unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = contents
        .values()
        .map(|record| {
            let shown = Shown::of(record, now);
            let due = shown.due.as_deref().map_or_else(|| "-".into(), day);
            vec![
                shown.name,
                record.scope.to_string(),
                shown.version.map_or_else(|| "-".into(), |version| version.to_string()),
                shown.rotate_every.unwrap_or_else(|| "-".into()),
                if shown.overdue { format!("{due} overdue") } else { due },
                day(&shown.changed),
                shown.note,
            ]
        })
        .collect();
    table::print(&["SECRET", "SCOPE", "VERSION", "ROTATE", "DUE", "CHANGED", "NOTE"], &rows)
}

fn show(common: &Common, name: &SecretName, json: bool) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let contents = context::vault(common, &instance, &arena)?.lookup(&[name.clone()].into())?;
    let record = contents.get(name).ok_or_else(|| unknown(name))?;
    let shown = Shown::of(record, Timestamp::now());
    if json {
        return table::json(&shown);
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}", shown.name)?;
    writeln!(out, "  scope    {}", record.scope)?;
    writeln!(out, "  rotate   {}", shown.rotate_every.as_deref().unwrap_or("never"))?;
    if let Some(due) = &shown.due {
        writeln!(out, "  due      {due}{}", if shown.overdue { " (overdue)" } else { "" })?;
    }
    if !shown.note.is_empty() {
        writeln!(out, "  note     {}", shown.note.escape_debug())?;
    }
    writeln!(out, "  created  {}", shown.created)?;
    for version in &shown.versions {
        writeln!(out, "  version  {} ({}, {})", version.version, version.state, version.created)?;
    }
    Ok(())
}

pub(super) fn unknown(name: &SecretName) -> Error {
    Error::Other(format!("there is no secret '{name}'; 'mentiko secret list' shows all"))
}

pub(super) fn warn_of_unknown_chains(chains: &std::path::Path, scope: &Scope) {
    for name in unknown_chains(chains, scope) {
        super::say(&format!("there is no chain '{name}' yet ({})", path_of(chains, name).display()));
    }
}

/// The chains of a scope that nobody has defined yet.
pub(super) fn unknown_chains<'s>(chains: &std::path::Path, scope: &'s Scope) -> Vec<&'s ChainName> {
    let Scope::Chains(names) = scope else { return Vec::new() };
    names.iter().filter(|name| !path_of(chains, name).exists()).collect()
}
