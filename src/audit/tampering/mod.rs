//! Whatever is done to a log, `verify` finds it, save for what docs/access-log.md says it can't.
//!
//! Logs and edits come from seeded chance, so that what fails once fails again.

mod edit;
mod random;

use std::path::Path;

use super::record::{Head, split_mac, unhex};
use super::segments::segments;
use super::{Expected, Fault, Origin, Record, verify};
use crate::vault::{AuditKey, sha256};
use edit::Edit;
use random::{Case, Chance, cut_after};

const KEY: [u8; 32] = [7; 32];
const OTHER_KEY: [u8; 32] = [8; 32];

// What `verify` says.
const CHANGED: &str = "the line was changed, or written under another key";
const NO_MAC: &str = "has no MAC";
const MISSING: &str = "are missing before it";
const IN_PLACE: &str = "are missing before it; what stands there is no record";
const AGAIN: &str = "moved, repeated or inserted";
const NOT_THERE: &str = "it tells of an unfinished line that is not there";
const BEFORE_CHANGED: &str = "the line before it was changed";
const TIME: &str = "its time is before that of the line before";
const AFTER_NO_RECORD: &str = "the line before it is no record";
const NO_RECORD: &str = "the last line is no record";
const UNFINISHED: &str = "the last line is unfinished";
const CUT: &str = "the end was cut off";
const ANOTHER: &str = "is another than was expected";

/// The same in each run, so that lines have the same lengths.
fn origin() -> Origin {
    Origin { host: "h".into(), uid: 1000, pid: 4711, start: Some(8_812_345) }
}

/// In memory where there is such a place: this is about bytes, not about disks.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// The segments in their order; of each, its name and its lines with their newlines.
type Lines = Vec<(String, Vec<Vec<u8>>)>;

fn read(folder: &Path) -> Lines {
    let texts = segments(folder).unwrap().into_iter().map(|path| {
        let lines = std::fs::read(&path).unwrap().split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), lines)
    });
    texts.collect()
}

fn write(folder: &Path, log: &Lines) {
    for path in segments(folder).unwrap() {
        std::fs::remove_file(path).unwrap();
    }
    for (name, lines) in log {
        std::fs::write(folder.join(name), lines.concat()).unwrap();
    }
}

/// As the files hold them: an edit may have joined or split lines.
fn all(log: &Lines) -> Vec<Vec<u8>> {
    log.iter()
        .flat_map(|(_, lines)| {
            let text = lines.concat();
            text.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect()
}

/// How many lines at the beginning are the same.
fn common(one: &[Vec<u8>], other: &[Vec<u8>]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Whether a log can't be told from a true one, as docs/access-log.md has it: its first lines are
/// true, no line after them has a MAC, and those go on as they should.
fn is_allowed(lines: &[Vec<u8>], true_lines: usize) -> bool {
    let mut head = Head::start();
    let mut torn: Vec<&[u8]> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else { return false };
        let Some((record, (_, mac))) = Record::parse(line).zip(split_mac(line)) else {
            torn.push(line);
            continue;
        };
        let recovers = record.event == "log.recovered";
        let kind = (record.event.as_str(), record.outcome.as_str());
        let kinds = [("secret.access", "denied"), ("agent.end", "done"), ("log.recovered", "done")];
        let before = match recovers {
            true => sha256(&[head.hash, sha256(&torn.join(&b'\n'))].concat()),
            false => head.hash,
        };
        let follows = recovers != torn.is_empty()
            && record.seq == head.seq + 1
            && record.time >= head.time
            && unhex(record.prev.as_bytes()) == Some(before);
        if !follows || (at >= true_lines && (mac.is_some() || !kinds.contains(&kind))) {
            return false;
        }
        torn.clear();
        head = Head { seq: record.seq, time: record.time, hash: sha256(line) };
    }
    torn.is_empty()
}

/// Where in all lines the fault is.
fn position(log: &Lines, fault: &Fault) -> usize {
    let name = fault.path.file_name().unwrap().to_str().unwrap();
    let before = log.iter().take_while(|(segment, _)| segment != name).map(|segment| all(&vec![segment.clone()]).len());
    (before.sum::<usize>() + fault.line as usize).saturating_sub(1)
}

/// The fault is at the first line that is not the true one, or where that shows: at the next record,
/// which knows its hash and its number, or at the end.
fn assert_named(log: &Lines, first_wrong: usize, fault: &Fault, context: &dyn Fn() -> String) {
    let lines = all(log);
    let records =
        (first_wrong..lines.len()).filter(|&at| lines[at].strip_suffix(b"\n").and_then(Record::parse).is_some());
    let last = records.take(2).last().unwrap_or(lines.len());
    let at = position(log, fault);
    let at_end = at + 1 == lines.len() || lines.is_empty();
    assert!((first_wrong..=last).contains(&at) || at_end, "{}: {fault}, not {first_wrong} to {last}", context());
}

#[test]
fn every_edit_is_found_but_for_the_end() {
    let work = folder();
    let (mut found, mut allowed) = (0, 0);
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let case = Case::new(&mut chance);
        let true_lines = all(&case.log);
        for _ in 0..100 {
            let edit = Edit::any(&mut chance, &case);
            let edited = edit.apply(&case);
            let lines = all(&edited);
            let context = || format!("seed {seed}: {edit:?}");
            write(work.path(), &edited);
            // Perhaps in another segment, where one ends and the next one begins.
            if lines == true_lines {
                verify(work.path(), AuditKey::of(&KEY), None, |_, _| {}).unwrap().unwrap();
                continue;
            }
            let same = common(&lines, &true_lines);
            let said = verify(work.path(), AuditKey::of(&KEY), None, |_, _| {}).unwrap();
            assert_eq!(said.is_ok(), is_allowed(&lines, same), "{}: {said:?}", context());
            match said {
                Ok(_) => allowed += 1,
                Err(fault) => {
                    found += 1;
                    assert_named(&edited, same, &fault, &context);
                    let fits = edit.reasons(&case).iter().any(|reason| match *reason {
                        MISSING => fault.what.ends_with(MISSING),
                        reason => fault.what.contains(reason),
                    });
                    assert!(fits, "{}: {fault}", context());
                }
            }
            // With the head that was kept, the end is as safe as the rest.
            let expected: Expected = case.report.head.parse().unwrap();
            let said = verify(work.path(), AuditKey::of(&KEY), Some(expected), |_, _| {}).unwrap();
            assert_eq!(said.is_ok(), same == true_lines.len() && is_allowed(&lines, same), "{}: {said:?}", context());
        }
    }
    println!("{found} found, {allowed} allowed");
    assert!(found > 4000 && allowed > 100, "{found} found, {allowed} allowed");
}

#[test]
fn every_cut_is_found_but_for_whole_lines_without_the_head() {
    let work = folder();
    for seed in 100..106 {
        let case = Case::new(&mut Chance(seed));
        let lines = all(&case.log);
        let expected: Expected = case.report.head.parse().unwrap();
        for count in 0..lines.len() {
            let length = lines[count].len();
            for bytes in (0..length).step_by(41).chain([1, length - 1]).filter(|bytes| *bytes < length) {
                let mut cut = cut_after(&case.log, count + usize::from(bytes > 0));
                if bytes > 0 {
                    cut.last_mut().unwrap().1.last_mut().unwrap().truncate(bytes);
                }
                write(work.path(), &cut);
                let context = || format!("seed {seed}: {bytes} of line {count}");
                let said = verify(work.path(), AuditKey::of(&KEY), None, |_, _| {}).unwrap();
                let is_whole = bytes == 0 && is_allowed(&lines[..count], count);
                assert_eq!(said.is_ok(), is_whole, "{}: {said:?}", context());
                let said = verify(work.path(), AuditKey::of(&KEY), Some(expected), |_, _| {}).unwrap().unwrap_err();
                assert_eq!(position(&cut, &said), all(&cut).len().saturating_sub(1), "{}: {said}", context());
                let reasons = if is_whole { &[CUT][..] } else { &[UNFINISHED, NO_RECORD] };
                assert!(reasons.iter().any(|reason| said.what.contains(reason)), "{}: {said}", context());
            }
        }
    }
}

#[test]
fn a_log_that_was_cut_and_went_on_is_found_with_the_head() {
    let work = folder();
    for seed in 200..240 {
        let case = Case::new(&mut Chance(seed));
        write(work.path(), &case.other);
        verify(work.path(), AuditKey::of(&KEY), None, |_, _| {}).unwrap().unwrap();
        let expected: Expected = case.report.head.parse().unwrap();
        let fault = verify(work.path(), AuditKey::of(&KEY), Some(expected), |_, _| {}).unwrap().unwrap_err();
        assert!(fault.what.contains(ANOTHER) || fault.what.contains(CUT), "seed {seed}: {fault}");
    }
}

#[test]
fn another_key_fits_no_line() {
    let work = folder();
    let case = Case::new(&mut Chance(300));
    write(work.path(), &case.log);
    let fault = verify(work.path(), AuditKey::of(&OTHER_KEY), None, |_, _| {}).unwrap().unwrap_err();
    assert!(fault.line == 1 && fault.what.contains(CHANGED), "{fault}");
}
