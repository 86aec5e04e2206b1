//! `mentiko secret`: values go in, metadata comes out.

use std::io::{IsTerminal, Write};
use std::os::fd::RawFd;
use std::process::ExitCode;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;

use super::context::{self, Change, secret_name};
use super::{Common, Error, rotate, table, value};
use crate::audit::Event;
use crate::memory::Arena;
use crate::policy::{Scope, SecretName, is_reserved, path_of};
use crate::vault::{MAX_NOTE, Record, Rotation, State, Vault};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Store a value, from standard input or asked without echo; a new version if the name exists
    #[command(after_help = "Example: mentiko secret set OPENAI_API_KEY --scope content-pipeline --rotate-every 30d")]
    Set {
        /// The secret
        #[arg(value_parser = secret_name)]
        name: SecretName,
        /// The chains that may use it: all, or names with commas between [new secrets: all]
        #[arg(long, value_name = "all|CHAIN,CHAIN")]
        scope: Option<Scope>,
        /// How often it is to be rotated: 30d, monthly, quarterly, yearly
        #[arg(long, value_name = "PERIOD")]
        rotate_every: Option<Rotation>,
        /// A note for people
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Read the value from this descriptor
        #[arg(long, value_name = "N")]
        value_fd: Option<RawFd>,
    },
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
}

pub(super) fn run(common: &Common, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Set { name, scope, rotate_every, note, value_fd } => {
            set(common, name, &Metadata { scope, rotate_every, note }, value_fd)?;
        }
        Command::Rotate(arguments) => return rotate::rotate(common, &arguments),
        Command::Retire { name } => return rotate::retire(common, &name),
        Command::List { json } => list(common, json)?,
        Command::Show { name, json } => show(common, &name, json)?,
        Command::Remove { name, yes } => remove(common, name, yes)?,
        Command::Scope { name, scope } => rescope(common, name, scope)?,
    }
    Ok(ExitCode::SUCCESS)
}

struct Metadata {
    scope: Option<Scope>,
    rotate_every: Option<Rotation>,
    note: Option<String>,
}

fn set(common: &Common, name: SecretName, metadata: &Metadata, value_fd: Option<RawFd>) -> Result<(), Error> {
    if is_reserved(name.as_str()) {
        return Err(
            format!("'{name}' can't be a secret: it is the name of a variable that belongs to the system").into()
        );
    }
    if metadata.note.as_ref().is_some_and(|note| note.len() > MAX_NOTE) {
        return Err(format!("the note is longer than {MAX_NOTE} bytes").into());
    }
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    // Before the lock is taken: others need not wait until it is typed.
    let value = value::read(name.as_str(), value_fd, &arena)?;
    let key = context::key(common, &instance, &arena)?;
    let now = context::now();
    let mut scope = Scope::All;
    let change = context::change(&instance, key, &arena, |vault, contents| {
        let record = contents.entry(name.clone()).or_insert_with(|| Vault::new_record(name.clone(), now));
        apply(record, metadata);
        scope = record.scope.clone();
        let version = vault.add_version(record, value, now)?;
        Ok(Change { event: Event::SecretSet, secret: name, version: Some(version) })
    })?;
    warn_of_unknown_chains(&instance.chains, &scope);
    let version = change.version.unwrap_or_default();
    Ok(writeln!(std::io::stdout(), "stored {} version {version}, scope {scope}", change.secret)?)
}

fn apply(record: &mut Record, metadata: &Metadata) {
    if let Some(scope) = &metadata.scope {
        record.scope = scope.clone();
    }
    if let Some(rotation) = metadata.rotate_every {
        record.rotation = Some(rotation);
    }
    if let Some(note) = &metadata.note {
        record.note = note.clone();
    }
}

fn rescope(common: &Common, name: SecretName, scope: Scope) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    context::change(&instance, key, &arena, |_, contents| {
        let record = contents.get_mut(&name).ok_or_else(|| unknown(&name))?;
        record.scope = scope.clone();
        record.changed = context::now();
        Ok(Change { event: Event::SecretScope, secret: name.clone(), version: None })
    })?;
    warn_of_unknown_chains(&instance.chains, &scope);
    Ok(writeln!(std::io::stdout(), "{name}: scope {scope}")?)
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
        Ok(Change { event: Event::SecretRemove, secret: name.clone(), version: None })
    })?;
    Ok(writeln!(std::io::stdout(), "removed {name}")?)
}

fn confirmed(question: &str) -> Result<bool, Error> {
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
    fn of(record: &Record) -> Self {
        Self {
            name: record.name.to_string(),
            scope: match &record.scope {
                Scope::All => None,
                Scope::Chains(chains) => Some(chains.iter().map(ToString::to_string).collect()),
            },
            version: record.current().map(|version| version.number),
            rotate_every: record.rotation.map(|rotation| rotation.to_string()),
            due: due(record).map(|time| time.to_string()),
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

/// When the current version is to be replaced: counted in UTC from when it was stored.
fn due(record: &Record) -> Option<Timestamp> {
    let stored = Timestamp::from_second(i64::try_from(record.current()?.created).ok()?).ok()?;
    let period = match record.rotation? {
        Rotation::Days(days) => i64::from(days).days(),
        Rotation::Monthly => 1.month(),
        Rotation::Quarterly => 3.months(),
        Rotation::Yearly => 1.year(),
    };
    let date = TimeZone::UTC.to_datetime(stored).checked_add(period).ok()?;
    TimeZone::UTC.to_timestamp(date).ok()
}

fn time(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(String::new, |time| time.to_string())
}

fn list(common: &Common, json: bool) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let contents = context::vault(common, &instance, &arena)?.read_all()?;
    if json {
        return table::json(&contents.values().map(Shown::of).collect::<Vec<_>>());
    }
    if contents.is_empty() {
        return Ok(writeln!(std::io::stdout(), "no secrets yet; store one with: mentiko secret set NAME")?);
    }
    let day = |text: &str| text.get(..10).unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = contents
        .values()
        .map(|record| {
            let shown = Shown::of(record);
            vec![
                shown.name,
                record.scope.to_string(),
                shown.version.map_or_else(|| "-".into(), |version| version.to_string()),
                shown.rotate_every.unwrap_or_else(|| "-".into()),
                shown.due.map_or_else(|| "-".into(), |due| day(&due)),
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
    let shown = Shown::of(record);
    if json {
        return table::json(&shown);
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}", shown.name)?;
    writeln!(out, "  scope    {}", record.scope)?;
    writeln!(out, "  rotate   {}", shown.rotate_every.as_deref().unwrap_or("never"))?;
    if let Some(due) = &shown.due {
        writeln!(out, "  due      {due}")?;
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

fn warn_of_unknown_chains(chains: &std::path::Path, scope: &Scope) {
    let Scope::Chains(names) = scope else { return };
    for name in names.iter().filter(|name| !path_of(chains, name).exists()) {
        super::say(&format!("there is no chain '{name}' yet ({})", path_of(chains, name).display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Contents;

    #[test]
    fn due_dates_are_those_that_a_person_expects() {
        for (stored, rotation, expected) in [
            ("2026-01-31T12:00:00Z", "monthly", "2026-02-28T12:00:00Z"),
            ("2024-01-31T12:00:00Z", "monthly", "2024-02-29T12:00:00Z"),
            ("2026-01-31T12:00:00Z", "30d", "2026-03-02T12:00:00Z"),
            ("2026-11-30T00:00:00Z", "quarterly", "2027-02-28T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "yearly", "2025-02-28T00:00:00Z"),
        ] {
            let mut contents = Contents::new();
            let name: SecretName = "A".parse().unwrap();
            let record = contents.entry(name.clone()).or_insert_with(|| Vault::new_record(name, 0));
            record.rotation = Some(rotation.parse().unwrap());
            assert_eq!(due(record), None, "no version, nothing due");
            let created = stored.parse::<Timestamp>().unwrap().as_second().try_into().unwrap();
            record.versions.push(crate::vault::Version {
                number: 1,
                state: State::Current,
                created,
                sealed: crate::vault::Sealed::wiped(),
            });
            assert_eq!(due(record).unwrap().to_string(), expected, "{stored} {rotation}");
        }
    }
}
