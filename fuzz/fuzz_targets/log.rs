//! The access log: writers that die anywhere, anything at its end, any bytes in its place, any byte
//! of it changed. Nothing panics; what crashes leave is recovered; a change is noticed.
#![no_main]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mentiko_exec::audit::{Entry, Event, Log, Outcome, Report, head, segments, verify};
use mentiko_exec::fuzzing::audit::{end, is_record, log};
use mentiko_exec::fuzzing::vault::{audit_key, log_key};
use mentiko_exec::vault::AuditKey;
use mentiko_exec_fuzz::folder;
use serde_json::Value;

const KEY: [u8; 32] = [5; 32];

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Crashes(Vec<Step<'a>>),
    Garbage { launches: u8, garbage: &'a [u8] },
    Anything(&'a [u8]),
    Changes { launches: u8, flips: Vec<(u16, u8)>, length: Option<u16> },
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Append {
        lines: u8,
        with_key: bool,
        reason: &'a str,
    },
    /// The last write ends so many bytes early.
    Cut(u16),
}

fn key() -> AuditKey<'static> {
    audit_key(&KEY)
}

fn append(log: &Log, lines: u8, reason: &str, with_key: bool) {
    let outcome = if with_key { Outcome::Granted } else { Outcome::Denied };
    let entry = Entry { reason: Some(reason), generation: Some(7), ..Entry::new(Event::SECRET_ACCESS, outcome) };
    log.append(&vec![entry; 1 + usize::from(lines % 3)], with_key.then(|| log_key(&KEY)).as_ref()).unwrap();
}

/// The log verifies after a launch with the key, and nothing is left for later.
fn recovers(folder: &Path, log: &Log) -> Report {
    append(log, 0, "after", true);
    let report = verify(folder, key(), None, |_, _| {}).unwrap().unwrap();
    assert_eq!(report.uncovered, 0);
    assert_eq!(report.head, head(folder).unwrap());
    report
}

/// The folder of this process, empty.
fn empty() -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(folder);
    for entry in std::fs::read_dir(&*FOLDER).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    FOLDER.clone()
}

fn last(folder: &Path) -> PathBuf {
    segments(folder).unwrap().pop().unwrap()
}

fn length(folder: &Path) -> u64 {
    segments(folder).unwrap().pop().map_or(0, |path| path.metadata().unwrap().len())
}

fn crashes(steps: &[Step<'_>]) {
    let folder = empty();
    let mut acknowledged = 0;
    // Where the last write began: a crash takes away of that one only.
    let (mut began, mut written) = (0, 0);
    for step in steps.iter().take(8) {
        let log = log(&folder).unwrap();
        match step {
            Step::Append { lines, with_key, reason } => {
                acknowledged += written;
                began = length(&folder);
                append(&log, *lines, reason, *with_key);
                written = 1 + u64::from(lines % 3);
            }
            Step::Cut(bytes) if length(&folder) > began => {
                let left = length(&folder).saturating_sub(u64::from(*bytes)).max(began);
                File::options().write(true).open(last(&folder)).unwrap().set_len(left).unwrap();
                written = 0;
            }
            Step::Cut(_) => {}
        }
    }
    let report = recovers(&folder, &log(&folder).unwrap());
    assert!(report.records > acknowledged + written, "an acknowledged record is gone");
}

fn garbage(launches: u8, garbage: &[u8]) {
    let folder = empty();
    let before = log(&folder).unwrap();
    for _ in 0..1 + launches % 3 {
        append(&before, 0, "before", true);
    }
    let whole = length(&folder);
    OpenOptions::new().append(true).open(last(&folder)).unwrap().write_all(garbage).unwrap();
    let lines = || garbage.split(|&byte| byte == b'\n');
    if lines().any(|line| serde_json::from_slice::<Value>(line).is_ok()) {
        // Perhaps a forged record: what matters is that nothing panics.
        append(&before, 0, "after", true);
        let _ = verify(&folder, key(), None, |_, _| {}).unwrap();
        return;
    }
    assert!(!lines().any(is_record));
    assert_eq!(end(&last(&folder)).unwrap().0, Some(1 + u64::from(launches % 3)));
    let report = recovers(&folder, &log(&folder).unwrap());
    let recovered = u64::from(!garbage.is_empty());
    assert_eq!((report.recovered, report.records), (recovered, 2 + u64::from(launches % 3) + recovered));
    assert!(std::fs::read(last(&folder)).unwrap()[whole as usize..].starts_with(garbage), "it is kept");
}

fn anything(bytes: &[u8]) {
    let folder = empty();
    std::fs::write(folder.join("access-2026-03.jsonl"), bytes).unwrap();
    for line in bytes.split(|&byte| byte == b'\n') {
        is_record(line);
    }
    if let Ok(report) = verify(&folder, key(), None, |_, _| {}).unwrap() {
        assert_eq!((report.records, report.generation), (report.uncovered, 0), "a MAC without the key");
    }
    let before = head(&folder).unwrap();
    append(&log(&folder).unwrap(), 0, "after", true);
    assert_ne!(head(&folder).unwrap(), before, "what was written is not where the log ends");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // By which writers share their syncs.
        let is_ours = path == folder.join("synced") || segments(&folder).unwrap().contains(&path);
        assert!(is_ours, "a file that is no segment");
    }
    let _ = verify(&folder, key(), None, |_, _| {}).unwrap();
}

/// A log of some launches, all with MACs.
static WHOLE: LazyLock<(PathBuf, Vec<u8>)> = LazyLock::new(|| {
    let folder = folder();
    let log = log(&folder).unwrap();
    for lines in 0..4 {
        append(&log, lines, "a reason", true);
    }
    let path = last(&folder);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
});

fn changes(launches: u8, flips: &[(u16, u8)], length: Option<u16>) {
    let (path, bytes) = &*WHOLE;
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let whole = &bytes[..ends.cycle().nth(launches.into()).unwrap()];
    let mut changed = whole.to_vec();
    for &(at, flip) in flips {
        let at = usize::from(at) % changed.len();
        changed[at] ^= flip;
    }
    changed.truncate(length.map_or(usize::MAX, usize::from));
    std::fs::write(path, &changed).unwrap();
    let folder = path.parent().unwrap();
    if verify(folder, key(), None, |_, _| {}).unwrap().is_ok() {
        assert!(whole.starts_with(&changed), "a change that nothing notices");
    }
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Crashes(steps) => crashes(&steps),
        Input::Garbage { launches, garbage: bytes } => garbage(launches, bytes),
        Input::Anything(bytes) => anything(bytes),
        Input::Changes { launches, flips, length } => changes(launches, &flips, length),
    }
});
