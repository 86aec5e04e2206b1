//! `mentiko audit export`, held against what others publish: the fields of Elastic Common Schema
//! and the schema of OCSF as packages ship them, and parsers of CEF.
//!
//! These tests need Python, Node.js with npm, lognormalizer, and the registries PyPI and npm or
//! mirrors of them. What they install stays in a private folder and is used again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/packages.rs"]
mod packages;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Site, log_text, output_with_input, text};
use packages::{installed, npm, pip};
use serde_json::Value;

/// One record of each event, of those of later versions too.
const RECORDS: &str = include_str!("../data/export/records.jsonl");
/// What nobody but a forger writes: whatever may break out of a field.
const HOSTILE: &str = include_str!("../data/export/hostile.jsonl");

/// An instance whose log has one record of each event.
fn site() -> Site {
    let site = Site::new();
    std::fs::write(site.file("audit/access-2026-03.jsonl"), RECORDS).unwrap();
    site
}

/// One whose log has all of that, and what launches write today.
fn site_with_everything() -> Site {
    let site = Site::with_two_agents();
    std::fs::write(site.file("audit/access-2026-03.jsonl"), RECORDS).unwrap();
    std::fs::write(site.file("audit/access-2026-04.jsonl"), HOSTILE).unwrap();
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    assert_eq!(site.exec("c", "three").args(["--", "true"]).status().unwrap().code(), Some(77));
    let supervised = site.exec("c", "two").args(["--supervise", "--", "sh", "-c", "exit 3"]).status().unwrap();
    assert_eq!(supervised.code(), Some(3));
    site
}

/// What `mentiko audit export --format FORMAT OPTIONS` writes.
fn export(site: &Site, format: &str, options: &[&str]) -> String {
    let output = site.mentiko(&["audit", "export", "--format", format]).args(options).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a check with this on its standard input; it says how many lines it has seen.
fn check(command: &mut Command, input: &str) {
    let output = output_with_input(command, input.as_bytes());
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{}", errors.get(..10_000).unwrap_or(&errors));
    assert_eq!(text(&output.stdout).trim(), lines(input).to_string());
}

/// How many, whatever `str::lines` or others take for the end of one.
fn lines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

/// The folder with Python's packages and checks, and its Python.
fn python() -> (PathBuf, PathBuf) {
    let packages = ["jsonschema==4.26.0", "ocsf-json-schema==1.2.0", "pycef==1.11"];
    let files = [("cef.py", include_str!("cef.py")), ("ocsf.py", include_str!("ocsf.py"))];
    let folder = installed("export-python", &packages, &files, pip);
    (folder.join("python/bin/python"), folder)
}

#[test]
fn jsonl_is_the_log_itself() {
    let site = site_with_everything();
    assert!(export(&site, "jsonl", &[]) == log_text(&site.file("audit")));
}

#[test]
fn times_bound_what_is_exported() {
    let site = site();
    let times = ["--since", "2026-03-07T09:03:00Z", "--until", "2026-03-07T09:05:30Z"];
    let expected: Vec<&str> = RECORDS.split_inclusive('\n').skip(2).take(3).collect();
    assert_eq!(export(&site, "jsonl", &times), expected.concat());
    for format in ["ecs", "ocsf", "cef"] {
        assert_eq!(lines(&export(&site, format, &times)), 3, "{format}");
        let until_that_day = export(&site, format, &["--until", "2026-03-07"]);
        assert_eq!(lines(&until_that_day), lines(RECORDS), "{format}");
    }
}

#[test]
fn ecs_fits_the_published_fields() {
    let site = site_with_everything();
    let folder = installed("export-node", &["@elastic/ecs@8.11.5"], &[("ecs.mjs", include_str!("ecs.mjs"))], npm);
    check(Command::new("node").arg("ecs.mjs").current_dir(folder), &export(&site, "ecs", &[]));
}

#[test]
fn ocsf_fits_the_published_schema() {
    let site = site_with_everything();
    let (python, folder) = python();
    check(Command::new(python).arg("ocsf.py").current_dir(folder), &export(&site, "ocsf", &[]));
}

#[test]
fn cef_is_read_by_other_parsers_as_it_was_meant() {
    let site = site_with_everything();
    let (python, folder) = python();
    let log = site.file("log");
    std::fs::write(&log, log_text(&site.file("audit"))).unwrap();
    check(Command::new(python).arg("cef.py").arg(log).current_dir(folder), &export(&site, "cef", &[]));
}

/// What a SIEM keeps is the log: its records can be put back, and then they verify as the log did;
/// an event's ID is what `--expect` takes.
#[test]
fn the_log_can_be_restored_from_what_a_siem_keeps() {
    let site = Site::with_two_agents();
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    let log = log_text(&site.file("audit"));
    for (format, original, id) in [("ecs", "/event/original", "/event/id"), ("ocsf", "/raw_data", "/metadata/uid")] {
        let exported = export(&site, format, &[]);
        let events: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let field = |event: &Value, path| event.pointer(path).unwrap().as_str().unwrap().to_owned();
        let restored: String = events.iter().map(|event| field(event, original) + "\n").collect();
        assert_eq!(restored, log, "{format}");
        for event in &events {
            let verified = site.mentiko(&["audit", "verify", "--expect", &field(event, id)]).output().unwrap();
            assert!(verified.status.success(), "{}", text(&verified.stdout));
        }
    }
    let cef = export(&site, "cef", &[]);
    let head = text(&site.mentiko(&["audit", "head"]).output().unwrap().stdout);
    assert!(cef.lines().last().unwrap().contains(&format!(" cs6={}", head.trim())), "{cef}");
}

/// Records that are there since that time, then each as it is written.
#[test]
fn an_export_follows_the_log() {
    let site = Site::with_two_agents();
    let mut command = site.mentiko(&["audit", "export", "--format", "ecs", "--follow", "--since", "1h"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || output.lines().try_for_each(|line| sender.send(line.unwrap())));
    let next = || -> Value {
        let line = lines.recv_timeout(Duration::from_secs(30)).expect("the export does not follow");
        serde_json::from_str(&line).unwrap()
    };
    for action in ["instance.init", "secret.set", "secret.set"] {
        assert_eq!(next()["event"]["action"], action);
    }
    for (agent, outcome) in [("one", "success"), ("three", "failure")] {
        site.exec("c", agent).args(["--", "true"]).status().unwrap();
        let event = next();
        assert_eq!((&event["mentiko"]["agent"], &event["event"]["outcome"]), (&agent.into(), &outcome.into()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whoever may read the log may export it: no key is asked for.
#[test]
fn an_export_needs_no_key() {
    let site = site();
    std::fs::remove_file(site.file("instance.key")).unwrap();
    assert_eq!(export(&site, "jsonl", &[]), log_text(&site.file("audit")));
    let unknown = site.mentiko(&["audit", "export", "--format", "xml"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}
