//! What the pages show: read anew when something changes. No value is in it, not even a sealed one.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Session;
use crate::admin::{Error, chain, run};
use crate::instance::Instance;
use crate::memory::{Arena, with_wiped_stack};
use crate::policy::{Definition, SecretName};
use crate::vault::{Contents, Record, Sealed, Vault};

/// Secrets, chains and runs of the instance.
#[derive(Default)]
pub(super) struct Model {
    /// By name. Their values are left out.
    pub(super) secrets: Vec<Record>,
    pub(super) chains: Vec<Chain>,
    pub(super) runs: Vec<run::Shown>,
}

/// Which agent of a chain gets what.
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) agents: Vec<String>,
    /// For each secret a cell for each agent.
    pub(super) rows: Vec<(String, Vec<Cell>)>,
    /// Why the definition can't be used.
    pub(super) fault: Option<String>,
}

/// What an agent gets of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Nothing,
    /// In these variables.
    Granted(Vec<String>),
    /// A launch of it is refused, for this reason.
    Denied(&'static str),
}

impl Model {
    pub(super) fn read(session: &Session<'_>) -> Result<Self, Error> {
        let arena = Arena::new()?;
        let instance = session.instance;
        with_wiped_stack(|| {
            let vault = Vault::open(instance, session.key, &arena)?;
            let contents = vault.read_all()?;
            let files = chain::files(instance)?;
            let chains = files.iter().map(|path| Chain::of(instance, path, &vault, &contents)).collect();
            let runs = run::shown(instance, &vault)?;
            Ok(Self { secrets: contents.into_values().map(without_values).collect(), chains, runs })
        })
    }

    pub(super) fn secret(&self, name: &SecretName) -> Option<&Record> {
        self.secrets.iter().find(|record| record.name == *name)
    }
}

fn without_values(mut record: Record) -> Record {
    for version in &mut record.versions {
        version.sealed = Sealed::wiped();
    }
    record
}

impl Chain {
    fn of(instance: &Instance, path: &Path, vault: &Vault<'_>, contents: &Contents) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let opened = chain::chain_of(path).and_then(|chain| {
            let definition = Definition::open(&instance.chains, &chain).map_err(|error| error.to_string())?;
            let unapproved = chain::unapproved(&definition, instance, vault).map_err(|error| error.to_string())?;
            Ok((definition, unapproved.is_some()))
        });
        match opened {
            Ok((definition, unapproved)) => Self::defined(name, &definition, unapproved, contents),
            Err(fault) => Self { name, agents: Vec::new(), rows: Vec::new(), fault: Some(fault) },
        }
    }

    fn defined(name: String, definition: &Definition, unapproved: bool, contents: &Contents) -> Self {
        let requests = chain::requests(definition);
        let mut agents: Vec<String> = match definition.agents() {
            Some(agents) => agents.keys().map(ToString::to_string).collect(),
            None => Vec::new(),
        };
        let mut rows: BTreeMap<String, BTreeMap<String, Cell>> = BTreeMap::new();
        for secret in definition.secrets() {
            rows.entry(secret.to_string()).or_default();
        }
        for (agent, request) in requests {
            if !agents.contains(&agent) {
                agents.push(agent.clone());
            }
            let variable = request.variable.to_string();
            let cells = rows.entry(request.secret.to_string()).or_default();
            let state = match unapproved {
                true => "denied: not approved",
                false => chain::state(definition, request, contents),
            };
            match state {
                "granted" => match cells.entry(agent).or_insert_with(|| Cell::Granted(Vec::new())) {
                    Cell::Granted(variables) => variables.push(variable),
                    Cell::Nothing | Cell::Denied(_) => {}
                },
                denied => {
                    cells.insert(agent, Cell::Denied(denied));
                }
            }
        }
        let rows = rows
            .into_iter()
            .map(|(secret, mut cells)| {
                let row = agents.iter().map(|agent| cells.remove(agent).unwrap_or(Cell::Nothing)).collect();
                (secret, row)
            })
            .collect();
        Self { name, agents, rows, fault: None }
    }
}

/// What tells that something was changed: of the vault, the definitions, the folder of the pins.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(u64, i64, i64)>);

impl Stamp {
    pub(super) fn of(session: &Session<'_>) -> Self {
        let instance = session.instance;
        let mut places = vec![instance.vault.clone(), instance.chains.clone(), instance.runs.clone()];
        places.extend(chain::files(instance).unwrap_or_default());
        let stamp = |path: &std::path::PathBuf| {
            path.symlink_metadata().map_or((0, 0, 0), |file| (file.ino(), file.mtime(), file.mtime_nsec()))
        };
        Self(places.iter().map(stamp).collect())
    }
}
