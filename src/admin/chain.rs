//! `mentiko chain`: what the definitions say, and whether the vault can give it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::context::Rewritten;
use super::{Common, Error, context, secret, table};
use crate::audit::Event;
use crate::instance::{Instance, Tree};
use crate::memory::{Arena, with_wiped_stack};
use crate::policy::{
    AgentName, ChainName, Definition, InvalidName, Reason, Request, SecretName, Unapproved, judge, review,
};
use crate::vault::{Approval, Contents, Vault};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// List the chains with their agents
    #[command(after_help = "Example: mentiko chain list")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show which agent of a chain gets which secret
    #[command(after_help = "Example: mentiko chain show content-pipeline")]
    Show {
        /// The chain
        #[arg(value_parser = chain_name)]
        chain: ChainName,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Approve what a chain's definition grants now, for the policy require_approval
    #[command(after_help = "Example: mentiko chain approve content-pipeline")]
    Approve {
        /// The chain
        #[arg(value_parser = chain_name)]
        chain: ChainName,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Check definitions against the rules and the vault; exit 1 if anything is wrong
    #[command(after_help = "Example: mentiko chain check chains/content-pipeline.json")]
    Check {
        /// The files [default: all of the instance]
        files: Vec<PathBuf>,
    },
}

pub(super) fn chain_name(text: &str) -> Result<ChainName, String> {
    text.parse().map_err(|error: InvalidName| error.to_string())
}

pub(super) fn run(common: &Common, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::List { json } => list(common, json),
        Command::Show { chain, json } => show(common, &chain, json),
        Command::Approve { chain, yes } => approve(common, chain, yes),
        Command::Check { files } => check(common, files),
    }
}

/// The definitions in the instance's folder, by file name.
pub(super) fn files(instance: &Instance) -> Result<Vec<PathBuf>, Error> {
    let cant_list = |error| crate::instance::Error::file("list", &instance.chains, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&instance.chains).map_err(cant_list)? {
        let path = entry.map_err(cant_list)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The chain that a file defines is that of its name.
pub(super) fn chain_of(path: &Path) -> Result<ChainName, String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.parse().map_err(|error| format!("{}: {error}", path.display()))
}

#[derive(Serialize)]
struct Listed {
    chain: String,
    /// `null` where any agent gets the chain's list.
    agents: Option<Vec<String>>,
    secrets: Vec<String>,
    error: Option<String>,
}

fn list(common: &Common, json: bool) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let mut listed = Vec::new();
    for path in files(&instance)? {
        let opened = chain_of(&path)
            .and_then(|chain| Definition::open(&instance.chains, &chain).map_err(|error| error.to_string()));
        listed.push(match opened {
            Ok(definition) => Listed {
                chain: definition.chain().to_string(),
                agents: definition.agents().map(|agents| agents.keys().map(ToString::to_string).collect()),
                secrets: definition.secrets().iter().map(ToString::to_string).collect(),
                error: None,
            },
            Err(error) => Listed {
                chain: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                agents: Some(Vec::new()),
                secrets: Vec::new(),
                error: Some(error),
            },
        });
    }
    if json {
        table::json(&listed)?;
    } else if listed.is_empty() {
        writeln!(std::io::stdout(), "no chains yet; define one in {}/NAME.json", instance.chains.display())?;
    } else {
        let rows: Vec<Vec<String>> = listed
            .into_iter()
            .map(|listed| match listed.error {
                Some(error) => vec![listed.chain, "-".into(), error],
                None => vec![
                    listed.chain,
                    listed.agents.map_or_else(|| "any".into(), |agents| agents.join(", ")),
                    listed.secrets.join(", "),
                ],
            })
            .collect();
        table::print(&["CHAIN", "AGENTS", "SECRETS"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct ShownRequest {
    agent: String,
    variable: String,
    secret: String,
    state: &'static str,
}

fn show(common: &Common, chain: &ChainName, json: bool) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let definition = Definition::open(&instance.chains, chain)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let contents = vault.lookup(&names(&definition))?;
    let unapproved = unapproved(&definition, &instance, &vault)?;
    let shown: Vec<ShownRequest> = requests(&definition)
        .into_iter()
        .map(|(agent, request)| ShownRequest {
            agent,
            variable: request.variable.to_string(),
            secret: request.secret.to_string(),
            state: match unapproved {
                None => state(&definition, request, &contents),
                Some(_) => "denied: definition not approved",
            },
        })
        .collect();
    if json {
        table::json(&shown)?;
    } else {
        let rows: Vec<Vec<String>> =
            shown.into_iter().map(|row| vec![row.agent, row.variable, row.secret, row.state.to_owned()]).collect();
        table::print(&["AGENT", "VARIABLE", "SECRET", "STATE"], &rows)?;
        show_approval(&definition, &vault, unapproved)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How the definition differs from what was approved, where the policy asks for approval.
pub(super) fn unapproved(
    definition: &Definition,
    instance: &Instance,
    vault: &Vault<'_>,
) -> Result<Option<Unapproved>, crate::vault::Error> {
    let approved =
        || Ok::<_, crate::vault::Error>(vault.approval(definition.chain())?.map(|approval| approval.definition));
    Ok(review(definition, instance.policy.approval, approved)?.err())
}

/// An approval is of interest too where the policy does not ask for it yet.
fn show_approval(definition: &Definition, vault: &Vault<'_>, unapproved: Option<Unapproved>) -> Result<(), Error> {
    let mut out = std::io::stdout();
    let lines = match (vault.approval(definition.chain())?, unapproved) {
        (None, None) => return Ok(()),
        (None, Some(unapproved)) => unapproved.lines(),
        (Some(approval), _) if approval.definition == definition.canonical() => {
            return Ok(writeln!(out, "\napproved as it stands, {}", secret::time(approval.time))?);
        }
        (Some(approval), _) => definition.differences(&approval.definition),
    };
    writeln!(out, "\nnot approved as it stands; approve it with: mentiko chain approve {}", definition.chain())?;
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    Ok(())
}

/// What is shown is what is approved: the definition is read once.
fn approve(common: &Common, chain: ChainName, yes: bool) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let definition = Definition::open(&instance.chains, &chain)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    let before = with_wiped_stack(|| Vault::open(&instance, key, &arena)?.approval(&chain))?;
    let canonical = definition.canonical();
    let mut out = std::io::stdout();
    match &before {
        Some(approval) if approval.definition == canonical => {
            writeln!(out, "chain '{chain}' is approved as it stands; nothing was changed")?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(approval) => {
            writeln!(out, "since it was approved, {}:", secret::time(approval.time))?;
            let lines = definition.differences(&approval.definition);
            lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
        None => {
            writeln!(out, "chain '{chain}' was never approved; it says:")?;
            definition.grants().iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
    }
    if !yes && !secret::confirmed(&format!("Approve chain '{chain}'? [y/N] "))? {
        return Err("nothing was approved; say --yes to approve without being asked".to_owned().into());
    }
    let approval = Approval { time: context::now(), definition: canonical };
    context::rewrite(&instance, key, &arena, Event::CHAIN_APPROVE, |vault, lock| {
        let mut ledger = vault.ledger()?;
        ledger.approve(chain.clone(), approval);
        let generation = vault.replace_with_ledger(lock, &vault.read_all()?, &ledger)?;
        Ok(Rewritten { generation, chain: Some(chain.clone()), detail: None })
    })?;
    writeln!(out, "approved chain '{chain}'")?;
    Ok(ExitCode::SUCCESS)
}

/// Each agent with each of its requests; `(any)` where none are listed.
pub(super) fn requests(definition: &Definition) -> Vec<(String, &Request)> {
    let name = |agent: Option<&AgentName>| agent.map_or("(any)".into(), AgentName::to_string);
    let entries = definition.entries().into_iter();
    entries.flat_map(|(agent, requests)| requests.iter().map(move |request| (name(agent), request))).collect()
}

pub(super) fn names(definition: &Definition) -> std::collections::BTreeSet<SecretName> {
    let asked = requests(definition).into_iter().map(|(_, request)| request.secret.clone());
    asked.chain(definition.secrets().iter().cloned()).collect()
}

/// What a launch would say of the request.
pub(super) fn state(definition: &Definition, request: &Request, contents: &Contents) -> &'static str {
    let facts = |name: &SecretName| contents.get(name).map(|record| record.facts());
    match judge(definition, &request.secret, facts) {
        Ok(_) => "granted",
        Err(Reason::NotInChain) => "denied: not in the chain's list",
        Err(Reason::Missing) => "denied: not in the vault",
        Err(Reason::OutOfScope) => "denied: out of scope",
        Err(Reason::NoVersion) => "denied: no usable version",
        Err(_) => "denied",
    }
}

fn check(common: &Common, named: Vec<PathBuf>) -> Result<ExitCode, Error> {
    let instance = context::instance(common);
    let paths = match named.is_empty() {
        true => files(instance.as_ref().map_err(|error| error.to_string())?)?,
        false => named,
    };
    let arena = Arena::new()?;
    // Files can be checked where there is no vault, in a repository's CI for example.
    let vault = match &instance {
        Ok(instance) => Some(context::vault(common, instance, &arena)?),
        Err(error) => {
            super::say(&format!("only the form is checked, not against a vault: {error}"));
            None
        }
    };
    let mut faults = 0;
    let mut out = std::io::stdout();
    for path in &paths {
        let found = faults_of(path, instance.as_ref().ok(), vault.as_ref(), &arena)?;
        match found.is_empty() {
            true => writeln!(out, "{}: ok", path.display())?,
            false => found.iter().try_for_each(|fault| writeln!(out, "{fault}"))?,
        }
        faults += found.len();
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything wrong with one file, a line each.
fn faults_of(
    path: &Path,
    instance: Option<&Instance>,
    vault: Option<&Vault<'_>>,
    arena: &Arena,
) -> Result<Vec<String>, Error> {
    let chain = match chain_of(path) {
        Ok(chain) => chain,
        Err(fault) => return Ok(vec![fault]),
    };
    let text = std::fs::read(path).map_err(|error| crate::instance::Error::file("read", path, error))?;
    // Files of the instance must be trusted too; others are only read.
    let is_ours = instance.is_some_and(|instance| path.parent() == Some(&instance.chains));
    let opened = match instance {
        Some(instance) if is_ours => Definition::open(&instance.chains, &chain),
        _ => Definition::parse(path, &chain, &text),
    };
    let mut faults = Vec::new();
    match &opened {
        Err(error) => faults.push(error.to_string()),
        Ok(definition) => {
            faults.extend(definition.warnings().iter().map(|warning| format!("{}: {warning}", path.display())));
            if let (Some(vault), Some(instance), true) = (vault, instance, is_ours)
                && let Some(unapproved) = unapproved(definition, instance, vault)?
            {
                faults
                    .extend(unapproved.lines().iter().map(|line| format!("{}: not approved: {line}", path.display())));
            }
            if let Some(vault) = vault {
                let contents = vault.lookup(&names(definition))?;
                for (agent, request) in requests(definition) {
                    let state = state(definition, request, &contents);
                    if state != "granted" {
                        faults.push(format!(
                            "{}: agent '{agent}', secret '{}': {state}",
                            path.display(),
                            request.secret
                        ));
                    }
                }
            }
        }
    }
    if let (Some(vault), Ok(tree)) = (vault, Tree::parse(&text)) {
        for name in vault.names_of_values(&tree.strings(), arena)? {
            faults.push(format!(
                "{}: the value of secret '{name}' stands in it; rotate it, and name it instead",
                path.display()
            ));
        }
    }
    Ok(faults)
}
