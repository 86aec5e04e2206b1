//! Where a launch takes place: its instance, its log, its run.

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use nix::unistd::{Uid, geteuid};

use super::privileges::{Target, target};
use super::{Arguments, Enclosure, Failure, Fence, Status};
use crate::audit::{self, Entry, Event, Log, Origin, Outcome};
use crate::instance::{FencePolicy, Instance, find, uuid_v7};
use crate::memory::{Arena, Protection, with_wiped_stack};
use crate::policy::RunId;
use crate::vault::{LogKey, Vault};

/// The instance and what every record of this launch says.
#[derive(Debug)]
pub struct Site<'a> {
    /// The command line.
    pub arguments: Arguments,
    /// The instance's configuration.
    pub instance: Instance,
    /// Its access log.
    pub log: Log,
    /// The run that this launch belongs to.
    pub run: RunId,
    /// Whether this launch made the run up, so that nobody else knows of it yet.
    pub run_is_new: bool,
    command: String,
    target: Option<Target>,
    key: RefCell<Option<(LogKey<'a>, u64)>>,
    enclosure: OnceCell<Enclosure>,
    warnings: RefCell<Vec<String>>,
}

impl<'a> Site<'a> {
    /// Reads the configuration.
    pub fn open(arguments: Arguments) -> Result<Self, Failure> {
        let folder = find(arguments.instance.as_deref())?;
        // Absolute, for --chdir must not change what it means.
        let folder = std::path::absolute(&folder).map_err(|error| Failure::new(Status::Other, error.to_string()))?;
        let instance = Instance::open(&folder).map_err(|error| within_a_fence(error.into()))?;
        let log = Log::open(&instance)?;
        let named = run_id(arguments.run_id.clone())?;
        let run_is_new = named.is_none();
        let run = named.map_or_else(new_run_id, Ok)?;
        let command = arguments.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        let command = command.to_string_lossy().into_owned();
        let target = target(arguments.user.as_deref(), arguments.group.as_deref())?;
        let (key, enclosure, warnings) = (RefCell::default(), OnceCell::new(), RefCell::default());
        Ok(Self { arguments, instance, log, run, run_is_new, command, target, key, enclosure, warnings })
    }

    /// Whether a fence is wanted: as the command line says, else as the instance's policy.
    pub fn fence(&self) -> Fence {
        self.arguments.fence.unwrap_or(match self.instance.policy.fence {
            FencePolicy::Auto => Fence::Auto,
            FencePolicy::Require => Fence::Require,
            FencePolicy::Off => Fence::Off,
        })
    }

    /// Whether there may be more launches in this run. A run that this launch made up is known to its
    /// agent alone, and behind a fence no launch is possible.
    pub fn run_goes_on(&self) -> bool {
        !self.run_is_new || self.fence() == Fence::Off
    }

    /// The account of `--user`.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The user ID that the agent will have.
    pub fn agent_uid(&self) -> Uid {
        self.target.as_ref().map_or_else(geteuid, |target| target.user.uid)
    }

    /// Keeps a line for people until the agent is about to run: a launch that fails before says one
    /// line only, and one with `--quiet` none.
    pub fn say_late(&self, line: String) {
        if !self.arguments.quiet {
            self.warnings.borrow_mut().push(line);
        }
    }

    /// The same for a warning.
    pub fn warn_late(&self, text: &str) {
        self.say_late(format!("warning: {text}"));
    }

    /// The lines to say before the agent runs.
    pub fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    /// Notes what stands around the agent, for the records.
    pub fn remember_enclosure(&self, enclosure: Enclosure) {
        let _ = self.enclosure.set(enclosure);
    }

    /// What stands around the agent, where anything does.
    pub fn fence_name(&self) -> Option<&'static str> {
        self.enclosure.get().filter(|enclosure| enclosure.stands()).map(|enclosure| enclosure.name())
    }

    /// Keeps the key of the log from the vault once it is open, for whatever is recorded later.
    pub fn remember_key(&self, vault: &Vault<'a>) {
        self.key.replace(Some((vault.log_key(), vault.generation())));
    }

    /// The key of the log.
    pub fn key(&self) -> Option<LogKey<'a>> {
        self.key.borrow().as_ref().map(|(key, _)| key.clone())
    }

    /// What the records of this launch have in common.
    pub fn entry(&self, event: Event, outcome: Outcome, memory: Protection) -> Entry<'_> {
        Entry {
            chain: Some(self.arguments.chain.as_str()),
            agent: Some(self.arguments.agent.as_str()),
            run: Some(self.run.as_str()),
            generation: self.key.borrow().as_ref().map(|(_, generation)| *generation),
            command: Some(&self.command),
            fence: self.enclosure.get().map(|enclosure| enclosure.name()),
            memory: Some(memory.name()),
            ..Entry::new(event, outcome)
        }
    }

    /// Records a refusal, one line for each denial, with a MAC wherever the key can be had without
    /// asking anybody. Gives the failure back, with the log's own if that fails too.
    pub fn refuse(&self, failure: Failure, arena: &'a Arena) -> Failure {
        let denials = failure.denials();
        if denials.is_empty() || self.arguments.dry_run {
            return failure;
        }
        self.look_for_key(arena);
        let reasons: Vec<String> = denials.iter().map(|denial| denial.reason.to_string()).collect();
        let entries: Vec<Entry<'_>> = denials
            .iter()
            .zip(&reasons)
            .map(|(denial, reason)| Entry {
                secret: denial.secret.as_ref().map(|name| name.as_str()),
                reason: Some(reason),
                ..self.entry(Event::SecretAccess, Outcome::Denied, arena.protection())
            })
            .collect();
        match self.append_anyhow(&Origin::of_this_process(), &entries, arena) {
            Ok(()) => failure,
            Err(error) => failure.and(format_args!("and the refusal could not be recorded: {error}")),
        }
    }

    /// Tries for the key of the log where that asks nobody.
    fn look_for_key(&self, arena: &'a Arena) {
        if self.key.borrow().is_none()
            && let Some(vault) = self.open_silently(arena)
        {
            self.remember_key(&vault);
        }
    }

    fn open_silently(&self, arena: &'a Arena) -> Option<Vault<'a>> {
        if !self.instance.key.is_silent() {
            return None;
        }
        with_wiped_stack(|| {
            let key = self.instance.key.read(None, arena).ok()?;
            Vault::open(&self.instance, key, arena).ok()
        })
    }

    /// Appends what may lack a MAC: where the keys were rotated since, under the new one, or none.
    fn append_anyhow(&self, origin: &Origin, entries: &[Entry<'_>], arena: &'a Arena) -> Result<(), audit::Error> {
        match self.log.append_about(origin, entries, self.key().as_ref()) {
            Err(audit::Error::Rotated) => {
                let key = self.open_silently(arena).map(|vault| vault.log_key());
                self.log.append_about(origin, entries, key.as_ref())
            }
            appended => appended,
        }
    }

    /// The same site without the key, for when the arena goes.
    pub fn without_key<'b>(self) -> Site<'b> {
        let Self { arguments, instance, log, run, run_is_new, command, target, .. } = self;
        let (key, enclosure, warnings) = (RefCell::default(), OnceCell::new(), RefCell::default());
        Site { arguments, instance, log, run, run_is_new, command, target, key, enclosure, warnings }
    }

    /// Records the end of a supervised agent.
    pub fn agent_ended(&self, origin: &Origin, status: u8, milliseconds: u64, arena: &'a Arena) -> Result<(), Failure> {
        self.look_for_key(arena);
        let entry = Entry {
            status: Some(status),
            milliseconds: Some(milliseconds),
            memory: None,
            ..self.entry(Event::AgentEnd, Outcome::Done, arena.protection())
        };
        Ok(self.append_anyhow(origin, &[entry], arena)?)
    }

    /// Records that the agent never ran although its grants are on record: the log never says that
    /// an agent held a key which it never got.
    pub fn never_ran(&self, failure: Failure, arena: &'a Arena) -> Failure {
        let reason = failure.to_string();
        let entry =
            Entry { reason: Some(&reason), ..self.entry(Event::LaunchFailed, Outcome::Failed, arena.protection()) };
        match self.log.append(&[entry], self.key().as_ref()) {
            Ok(()) => failure.settled(),
            Err(error) => failure.settled().and(format_args!("and that could not be recorded: {error}")),
        }
    }
}

/// Inside a fence there is no instance to be seen; the caller is to know why.
fn within_a_fence(failure: Failure) -> Failure {
    match std::env::var_os("MENTIKO_FENCE") {
        None => failure,
        Some(_) => Failure::new(
            Status::Configuration,
            "already inside a fence; launch sub-agents from outside, or give the orchestrator --fence off",
        ),
    }
}

/// The run that the caller names.
fn run_id(named: Option<RunId>) -> Result<Option<RunId>, Failure> {
    if named.is_some() {
        return Ok(named);
    }
    let Some(inherited) = std::env::var_os("MENTIKO_RUN_ID").filter(|id| !id.is_empty()) else { return Ok(None) };
    let run = inherited.to_string_lossy().parse();
    run.map(Some).map_err(|error| Failure::new(Status::Configuration, format!("MENTIKO_RUN_ID: {error}")))
}

fn new_run_id() -> Result<RunId, Failure> {
    let id = uuid_v7()?.to_string();
    id.parse().map_err(|error| Failure::new(Status::Other, format!("{error}")))
}
