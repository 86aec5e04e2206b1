//! The report: what it says, that its file is safe, and how it fares in a real browser.
#![allow(
    clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs, unreachable_pub
)]

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod file;
mod page;

use std::path::PathBuf;

use common::{Site, text};
use mentiko_exec::audit::{Entry, Event, Log, Outcome};
use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Vault, WriteLock};
use serde_json::Value;

/// Makes the report of a site; the page, and the exit status.
fn report(site: &Site, options: &[&str]) -> (PathBuf, Option<i32>) {
    let path = site.file("report.html");
    let mut command = site.mentiko(&["audit", "report", "--html"]);
    let output = command.arg(&path).args(options).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    (path, output.status.code())
}

/// The same as JSON.
fn json(site: &Site, options: &[&str]) -> Value {
    let output = site.mentiko(&[&["audit", "report", "--json"], options].concat()).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Some grants and denials: A to `one` twice, B to `two`, B refused to `intruder`; C is never used.
fn used() -> Site {
    let site = Site::with_two_agents().unfenced();
    site.set("C", "value-of-c-1337");
    site.chain("other", r#"{"secrets": ["A", "MISSING"], "agents": {"one": ["A"], "lost": ["MISSING"]}}"#);
    for (chain, agent, status) in
        [("c", "one", 0), ("other", "one", 0), ("c", "two", 0), ("c", "intruder", 77), ("other", "lost", 77)]
    {
        let output = site.exec(chain, agent).args(["--run-id", "r1", "--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
    }
    site
}

/// Stores many secrets at once.
fn store(site: &Site, names: &[String]) {
    let instance = Instance::open(site.path()).unwrap();
    let arena = Arena::new().unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    let mut contents = vault.read_all().unwrap();
    for name in names {
        let name: SecretName = name.parse().unwrap();
        let mut record = Vault::new_record(name.clone(), 1_700_000_000);
        vault.add_version(&mut record, &mut b"some value".to_vec(), 1_700_000_000).unwrap();
        contents.insert(name, record);
    }
    vault.replace(&lock, &contents).unwrap();
}

/// Appends accesses with their MACs, as launches would.
fn append(site: &Site, entries: &[Entry<'_>]) {
    let instance = Instance::open(site.path()).unwrap();
    let arena = Arena::new().unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    Log::open(&instance).unwrap().append(entries, Some(&vault.log_key())).unwrap();
}

/// A grant or a denial.
fn access<'a>(outcome: Outcome, secret: &'a str, chain: &'a str) -> Entry<'a> {
    let (agent, run) = (Some("agent"), Some("run"));
    let reason = (outcome == Outcome::Denied).then_some("chain out of scope");
    let (secret, chain, version) = (Some(secret), Some(chain), Some(1));
    Entry { secret, chain, agent, run, version, reason, ..Entry::new(Event::SECRET_ACCESS, outcome) }
}

/// Changes the last line that was not forged, and appends the result: a forgery that no MAC covers.
fn forge(site: &Site, change: impl Fn(&mut Value)) {
    let log = site.log();
    let seq = log.last().unwrap()["seq"].clone();
    let mut line = log.into_iter().find(|line| line["seq"] == seq).unwrap();
    change(&mut line);
    let path = site.segment();
    let before = std::fs::read_to_string(&path).unwrap();
    // In the order of the fields, which serde_json's maps don't keep.
    let sample = before.lines().last().unwrap();
    let mut fields: Vec<&String> = line.as_object().unwrap().keys().collect();
    fields.sort_by_key(|field| sample.find(&format!("\"{field}\":")).unwrap());
    let fields: Vec<String> = fields.iter().map(|&field| format!("\"{field}\":{}", line[field])).collect();
    std::fs::write(&path, format!("{before}{{{}}}\n", fields.join(","))).unwrap();
}
