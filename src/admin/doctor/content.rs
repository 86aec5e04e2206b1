//! What is in the instance: whether the log is whole, and chains and vault fit together.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Check;
use crate::admin::progress::Bar;
use crate::admin::{Common, Error, chain, context};
use crate::audit::{ending, verify};
use crate::instance::Instance;
use crate::memory::{Arena, with_wiped_stack};
use crate::policy::{Definition, SecretName};
use crate::vault::{Contents, Vault};

/// How many names one line has at the most.
const SHOWN: usize = 10;

pub(super) fn checks(common: &Common, instance: &Instance) -> Vec<Check> {
    let (definitions, mut checks) = definitions(instance);
    let (is_whole, end) = end_of_log(instance);
    checks.extend(end);
    match with_wiped_stack(|| of_vault(common, instance, is_whole)) {
        Ok((of_log, contents)) => {
            checks.extend(of_log);
            checks.push(Check::ok("vault", format!("it opens, and holds {} secrets", contents.len())));
            checks.extend(grants(&definitions, &contents));
            checks.push(unused(&definitions, &contents));
            checks.push(rotation(&contents));
        }
        Err(error) => {
            checks.push(Check::failed("vault", error));
            let finding = "the log's proof, the secrets that chains name, those that none names, rotation";
            checks.push(Check::warn("not looked at", finding, "run it where the key can be had and the vault opens"));
        }
    }
    checks
}

/// Every definition that can be read, and what is wrong with the others.
fn definitions(instance: &Instance) -> (Vec<Definition>, Vec<Check>) {
    const NAME: &str = "chains";
    let files = match chain::files(instance) {
        Ok(files) => files,
        Err(error) => return (Vec::new(), vec![Check::failed(NAME, error)]),
    };
    let (mut definitions, mut checks) = (Vec::new(), Vec::new());
    for path in files {
        let opened = chain::chain_of(&path)
            .and_then(|chain| Definition::open(&instance.chains, &chain).map_err(|error| error.to_string()));
        match opened {
            Ok(definition) => {
                checks.extend(
                    definition.warnings().iter().map(|warning| {
                        Check::warn(NAME, format!("{}: {warning}", path.display()), "mentiko chain check")
                    }),
                );
                definitions.push(definition);
            }
            Err(error) => checks.push(Check::fail(NAME, error, "mentiko chain check")),
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, format!("{} definitions, all well formed", definitions.len())));
    }
    (definitions, checks)
}

/// Whether the last line is whole, and what can be told of the log without a key.
fn end_of_log(instance: &Instance) -> (bool, Vec<Check>) {
    let (time, is_torn) = match ending(&instance.audit) {
        Ok(ending) => ending,
        Err(error) => return (true, vec![Check::failed("log", error)]),
    };
    let mut checks = Vec::new();
    if is_torn {
        let finding = "the last line is unfinished: its writer died, or the disk was full";
        checks.push(Check::warn("log", finding, "nothing: the next record closes it and tells of it"));
    }
    let last: Option<Timestamp> = time.and_then(|time| time.parse().ok());
    checks.push(match last {
        Some(last) if last > Timestamp::now() => Check::fail(
            "clock",
            format!("it stands before the last record ({last:.0}); new records will all be of that time"),
            "set the clock (timedatectl set-ntp true)",
        ),
        _ => Check::ok("clock", "it stands after the last record"),
    });
    (!is_torn, checks)
}

/// What the key opens: whether the log holds, and the vault's contents.
fn of_vault(common: &Common, instance: &Instance, is_whole: bool) -> Result<(Option<Check>, Contents), Error> {
    let arena = Arena::new()?;
    let vault = context::vault(common, instance, &arena)?;
    let contents = vault.read_all()?;
    // A proof would end at the unfinished line.
    Ok((is_whole.then(|| proof(instance, &vault, &arena)), contents))
}

fn proof(instance: &Instance, vault: &Vault<'_>, arena: &Arena) -> Check {
    const NAME: &str = "log";
    let keys = match vault.audit_keys(arena) {
        Ok(keys) => keys,
        Err(error) => return Check::failed(NAME, error),
    };
    let mut bar = Bar::new("checking the log");
    match verify(&instance.audit, keys, None, |done, total| bar.show(done, total)) {
        Ok(Ok(report)) if vault.generation() < report.generation => Check::fail(
            NAME,
            format!(
                "the vault was rolled back: it has generation {}, the log knows {}",
                vault.generation(),
                report.generation
            ),
            "put the newest copy back, and find out who replaced it",
        ),
        Ok(Ok(report)) => Check::ok(NAME, format!("it verifies: {} records", report.records)),
        Ok(Err(fault)) => Check::fail(
            NAME,
            format!("it does not verify: {fault}"),
            "find out who changed it; compare with a copy (mentiko audit verify)",
        ),
        Err(error) => Check::failed(NAME, error),
    }
}

/// What launches will be refused.
fn grants(definitions: &[Definition], contents: &Contents) -> Vec<Check> {
    const NAME: &str = "grants";
    let mut checks = Vec::new();
    for definition in definitions {
        let chain = definition.chain();
        let mut faults: BTreeSet<(&SecretName, &str)> = BTreeSet::new();
        let names = chain::names(definition);
        faults.extend(names.iter().filter(|name| !contents.contains_key(name)).map(|name| (name, "not in the vault")));
        for (_, request) in chain::requests(definition) {
            let state = chain::state(definition, request, contents);
            if state != "granted" && contents.contains_key(&request.secret) {
                faults.insert((&request.secret, state));
            }
        }
        checks.extend(faults.into_iter().map(|(secret, fault)| {
            let finding = format!("chain '{chain}' names secret '{secret}': {fault}");
            Check::fail(NAME, finding, format!("mentiko chain show {chain}"))
        }));
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "every secret that a chain names can be granted"));
    }
    checks
}

fn unused(definitions: &[Definition], contents: &Contents) -> Check {
    const NAME: &str = "unused secrets";
    let used: BTreeSet<SecretName> = definitions.iter().flat_map(chain::names).collect();
    let unused: Vec<&str> = contents.keys().filter(|name| !used.contains(name)).map(SecretName::as_str).collect();
    match unused.is_empty() {
        true => Check::ok(NAME, "none"),
        false => Check::warn(NAME, format!("no chain names {}", some(&unused)), "mentiko secret remove NAME"),
    }
}

fn rotation(contents: &Contents) -> Check {
    const NAME: &str = "rotation";
    let now = Timestamp::now();
    let overdue: Vec<&str> = contents
        .values()
        .filter(|record| record.overdue_since(now).is_some())
        .map(|record| record.name.as_str())
        .collect();
    match overdue.is_empty() {
        true => Check::ok(NAME, "nothing is overdue"),
        false => Check::warn(NAME, format!("overdue: {}", some(&overdue)), "mentiko secret rotate NAME"),
    }
}

fn some(names: &[&str]) -> String {
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
