//! `mentiko secret rotate` and `retire`: a new value, and what becomes of the ones before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::context::{self, Change, secret_name};
use super::exposure::{Exposure, Holder};
use super::process::{Process, listed};
use super::secret::unknown;
use super::{Common, Error, run, table, value};
use crate::audit::Event;
use crate::instance::{Instance, InstanceKey};
use crate::memory::Arena;
use crate::policy::SecretName;
use crate::vault::{self, Record, Runs, State, Vault};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The secret
    #[arg(value_parser = secret_name)]
    name: SecretName,
    /// Read the value from this descriptor
    #[arg(long, value_name = "N")]
    value_fd: Option<RawFd>,
    /// Revoke all older versions at once, wipe their values, say who was given them
    #[arg(long)]
    emergency: bool,
    /// Revoke all versions now; the new value follows later. Implies --emergency
    #[arg(long, conflicts_with = "value_fd")]
    revoke_only: bool,
    /// Send SIGTERM to the agents that were given a revoked version and still run
    #[arg(long)]
    terminate: bool,
    /// Say who was given it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn rotate(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    match (arguments.emergency || arguments.revoke_only, arguments.terminate || arguments.json) {
        (true, _) => revoke(common, arguments),
        (false, false) => replace(common, arguments),
        (false, true) => Err("--terminate and --json go with --emergency or --revoke-only".to_owned().into()),
    }
}

fn replace(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let name = &arguments.name;
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let value = value::read(name.as_str(), arguments.value_fd, &arena)?;
    let key = context::key(common, &instance, &arena)?;
    let (version, complaint) = add_version(&instance, key, &arena, name, value)?;
    if let Some(complaint) = complaint {
        super::say(&complaint);
    }
    let mut out = std::io::stdout();
    writeln!(out, "rotated {name} to version {version}; runs that hold an older one keep it")?;
    writeln!(out, "once they are over, remove what none holds: mentiko secret retire {name}")?;
    Ok(ExitCode::SUCCESS)
}

/// How long the log is waited for: launches that opened the vault right before a version was
/// revoked in it get that one, and are on record soon.
const SETTLE: Duration = Duration::from_secs(1);
/// Stores a new value, which is overwritten by its ciphertext. Its version, and what could not be
/// tidied up on the way.
pub(super) fn add_version(
    instance: &Instance,
    key: InstanceKey<'_>,
    arena: &Arena,
    name: &SecretName,
    value: &mut [u8],
) -> Result<(u32, Option<String>), Error> {
    let mut complaint = None;
    let change = context::change(instance, key, arena, |vault, contents| {
        let record = contents.get_mut(name).ok_or_else(|| unknown(name))?;
        let version = vault.add_version(record, value, context::now())?;
        complaint = run::tidy(instance, vault);
        Ok(Change { event: Event::SECRET_ROTATE, secret: name.clone(), version: Some(version) })
    })?;
    Ok((change.version.unwrap_or_default(), complaint))
}

/// What an emergency did, and who is concerned.
#[derive(Serialize)]
pub(super) struct Emergency {
    /// The versions that were revoked now.
    pub(super) revoked: Vec<u32>,
    /// The new one; `null` where the value is to follow.
    version: Option<u32>,
    pub(super) exposure: Exposure,
    pub(super) terminated: Vec<Process>,
    /// Process IDs of those that could not be sent a signal, and why.
    pub(super) not_terminated: BTreeMap<i32, String>,
}

fn revoke(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let name = &arguments.name;
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let value = match arguments.revoke_only {
        true => None,
        false => Some(value::read(name.as_str(), arguments.value_fd, &arena)?),
    };
    let key = context::key(common, &instance, &arena)?;
    let mut emergency = Emergency::declare(&instance, key, &arena, name, value)?;
    if arguments.terminate {
        emergency.terminate();
    }
    match arguments.json {
        true => table::json(&emergency)?,
        false => emergency.show(name)?,
    }
    Ok(if emergency.not_terminated.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Revokes all versions of a record, then adds the new one.
fn revoked(vault: &Vault<'_>, record: &mut Record, value: Option<&mut [u8]>) -> Result<Vec<Change>, vault::Error> {
    let name = record.name.clone();
    let change = |event, version| Change { event, secret: name.clone(), version: Some(version) };
    let mut changes = Vec::new();
    for version in &mut record.versions {
        if version.revoke() {
            changes.push(change(Event::SECRET_REVOKE, version.number));
        }
    }
    if !changes.is_empty() {
        record.changed = context::now();
    }
    if let Some(value) = value {
        let version = vault.add_version(record, value, context::now())?;
        changes.push(change(Event::SECRET_ROTATE, version));
    }
    Ok(changes)
}

impl Emergency {
    /// Revokes all versions of a secret, and stores the value that is to replace them.
    pub(super) fn declare(
        instance: &Instance,
        key: InstanceKey<'_>,
        arena: &Arena,
        name: &SecretName,
        value: Option<&mut [u8]>,
    ) -> Result<Self, Error> {
        let changes = context::changes(instance, key, arena, |vault, contents| {
            let record = contents.get_mut(name).ok_or_else(|| unknown(name))?;
            if let Some(value) = &value
                && vault.has_value(record, value, arena)?
            {
                return Err("this value is one of those to be revoked; nothing was changed".to_owned().into());
            }
            Ok(revoked(vault, record, value)?)
        })?;
        let of = |event: Event| changes.iter().filter(move |change| change.event == event).filter_map(|c| c.version);
        let version = of(Event::SECRET_ROTATE).next();
        if of(Event::SECRET_REVOKE).next().is_some() {
            std::thread::sleep(SETTLE);
        }
        let exposure = Exposure::of(&instance.audit, name.as_str())?.without(version);
        Ok(Self {
            revoked: of(Event::SECRET_REVOKE).collect(),
            version,
            exposure,
            terminated: Vec::new(),
            not_terminated: BTreeMap::new(),
        })
    }

    /// Once for each process, which may hold several versions.
    pub(super) fn running(&self) -> Vec<Process> {
        let mut running: Vec<Process> = Vec::new();
        for process in self.exposure.holders.iter().flat_map(|holder| &holder.held.running) {
            if !running.contains(process) {
                running.push(*process);
            }
        }
        running
    }

    /// Sends SIGTERM to those of them that run.
    pub(super) fn terminate(&mut self) {
        for process in self.running() {
            match process.terminate() {
                Ok(true) => self.terminated.push(process),
                // It has ended by itself.
                Ok(false) => {}
                Err(errno) => {
                    self.not_terminated.insert(process.into(), errno.desc().to_owned());
                }
            }
        }
    }

    fn show(&self, name: &SecretName) -> Result<(), Error> {
        let mut out = std::io::stdout();
        match self.revoked.as_slice() {
            [] => writeln!(out, "{name}: all older versions were revoked before")?,
            revoked => writeln!(out, "{name}: revoked {}, wiped from the vault", versions(revoked))?,
        }
        match self.version {
            Some(version) => writeln!(out, "{name}: version {version} is the current one")?,
            None => writeln!(out, "{name}: launches that need it are refused until: mentiko secret rotate {name}")?,
        }
        if self.exposure.holders.is_empty() {
            return Ok(writeln!(out, "no agent was given it")?);
        }
        writeln!(out)?;
        self.exposure.show()?;
        writeln!(out)?;
        for process in &self.terminated {
            writeln!(out, "sent SIGTERM to pid {}", i32::from(*process))?;
        }
        for (pid, error) in &self.not_terminated {
            writeln!(out, "pid {pid} could not be stopped: {error}")?;
        }
        let left: Vec<Process> =
            self.running().into_iter().filter(|process| !self.terminated.contains(process)).collect();
        if !left.is_empty() {
            writeln!(out, "stop those that still run:\n  kill {}", listed(&left, " "))?;
        }
        writeln!(out, "start them anew, in new runs:")?;
        for command in self.exposure.holders.iter().map(launch).collect::<BTreeSet<_>>() {
            writeln!(out, "  {command}")?;
        }
        Ok(())
    }
}

/// How an agent was launched, but for its arguments, which are not on record.
fn launch(holder: &Holder) -> String {
    let Holder { chain, agent, command, .. } = holder;
    format!("mentiko-exec --chain {chain} --agent {agent} -- {} ...", command.escape_debug())
}

pub(super) fn versions(numbers: &[u32]) -> String {
    let listed: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("version{} {}", if numbers.len() == 1 { "" } else { "s" }, listed.join(", "))
}

/// Who holds a version, in words.
type Holders = BTreeMap<u32, BTreeSet<String>>;

pub(super) fn retire(common: &Common, name: &SecretName) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    let mut kept = Holders::new();
    // Until the vault is written: what is not held now is pinned by nobody before it is gone.
    let mut _lock = None;
    let changes = context::changes(&instance, key, &arena, |vault, contents| {
        let record = contents.get_mut(name).ok_or_else(|| unknown(name))?;
        let runs = Runs::open(&instance)?;
        let lock = runs.lock()?;
        let (living, _) = run::sweep(&instance, &runs, &lock, vault)?;
        _lock = Some(lock);
        kept = holders(&instance, &runs, &living, name)?;
        kept.retain(|number, _| record.version(*number).is_some_and(|version| version.state == State::Previous));
        let is_free =
            |version: &vault::Version| version.state == State::Previous && !kept.contains_key(&version.number);
        let (free, rest): (Vec<_>, Vec<_>) = record.versions.drain(..).partition(is_free);
        record.versions = rest;
        if !free.is_empty() {
            record.changed = context::now();
        }
        let change = |version: vault::Version| Change {
            event: Event::SECRET_RETIRE,
            secret: name.clone(),
            version: Some(version.number),
        };
        Ok(free.into_iter().map(change).collect())
    })?;
    let mut out = std::io::stdout();
    let removed: Vec<u32> = changes.iter().filter_map(|change| change.version).collect();
    match removed.as_slice() {
        [] => writeln!(out, "{name}: there is no previous version to remove")?,
        removed => writeln!(out, "{name}: removed {} from the vault", versions(removed))?,
    }
    for (version, holders) in kept {
        writeln!(out, "{name}: kept version {version}, held by")?;
        holders.iter().try_for_each(|holder| writeln!(out, "  {holder}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The living runs that hold a version, and the agents that were given one and still run although
/// their run was ended.
fn holders(instance: &Instance, runs: &Runs, living: &[run::Run], name: &SecretName) -> Result<Holders, Error> {
    let mut holders = Holders::new();
    for run in living {
        let Some(pins) = &run.pins else {
            return Err(vault::Error::Pins { path: runs.file(&run.id), run: run.id.clone() }.into());
        };
        if let Some(version) = pins.version(name) {
            holders.entry(version).or_default().insert(format!("run {} of chain {}", run.id, pins.chain));
        }
    }
    for holder in Exposure::of(&instance.audit, name.as_str())?.holders {
        if !holder.held.running.is_empty() {
            let Holder { agent, chain, run, version, held, .. } = holder;
            let text = format!("agent {agent} of chain {chain} in run {run}, pid {}", listed(&held.running, ", "));
            holders.entry(version).or_default().insert(text);
        }
    }
    Ok(holders)
}
