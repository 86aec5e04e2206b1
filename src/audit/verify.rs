//! Proving that no line was changed, removed, inserted or moved by anyone without the key.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Error;
use super::append::head_text;
use super::record::{Head, Record, hex, split_mac, unhex};
use super::segments::segments;
use super::tail;
use crate::vault::{AuditKey, sha256};

/// What a log proves.
#[derive(Debug, Default)]
pub struct Report {
    /// Whole records.
    pub records: u64,
    /// `SEQ:HASH` of the last line, for `--expect`.
    pub head: String,
    /// Lines that a dead writer left unfinished, each followed by `log.recovered`.
    pub recovered: u64,
    /// Records at the end without a MAC, which no later line covers yet.
    pub uncovered: u64,
    /// The highest generation of the vault in any record with a MAC.
    pub generation: u64,
}

/// The first line that does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}: {what}")]
pub struct Fault {
    /// The segment.
    pub path: PathBuf,
    /// The line in it, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

/// A line that a log must have: its number and hash, as `mentiko audit head` printed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    seq: u64,
    hash: [u8; 32],
}

impl FromStr for Expected {
    type Err = String;

    /// `SEQ:HASH`
    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once(':')
            .and_then(|(seq, hash)| Some(Self { seq: seq.parse().ok()?, hash: unhex(hash.as_bytes())? }))
            .ok_or_else(|| "use SEQ:HASH, as 'mentiko audit head' prints it".into())
    }
}

/// `SEQ:HASH` of the last record of a log, without looking at what is before it.
pub fn head(folder: &Path) -> Result<String, Error> {
    for path in segments(folder)?.into_iter().rev() {
        let cant_read = |error| Error::file("read", &path, error);
        let tail = tail::read(&File::open(&path).map_err(cant_read)?).map_err(cant_read)?;
        if let Some(head) = tail.head {
            return Ok(head_text(&head));
        }
    }
    Ok(head_text(&Head::start()))
}

/// Reads the whole log. The outer error is that it can't be read; the inner that it does not hold.
pub fn verify(folder: &Path, key: AuditKey<'_>, expected: Option<Expected>) -> Result<Result<Report, Fault>, Error> {
    let mut state = State { head: Head::start(), torn: None, expected, report: Report::default() };
    let (mut last, mut lines) = (folder.to_owned(), 0);
    for path in segments(folder)? {
        let cant_read = |error| Error::file("read", &path, error);
        let mut reader = BufReader::with_capacity(1 << 16, File::open(&path).map_err(cant_read)?);
        let mut line = Vec::new();
        (last, lines) = (path.clone(), 0);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(cant_read)? == 0 {
                break;
            }
            lines += 1;
            if let Err(what) = state.line(&line, key) {
                return Ok(Err(Fault { path, line: lines, what }));
            }
        }
    }
    if state.torn.is_some() {
        let what = "the last line is no record; the next launch will tell of it".into();
        return Ok(Err(Fault { path: last, line: lines, what }));
    }
    if let Some(expected) = expected.filter(|expected| expected.seq > state.head.seq) {
        let what = format!("the end was cut off: records {} to {} are missing", state.head.seq + 1, expected.seq);
        return Ok(Err(Fault { path: last, line: lines, what }));
    }
    state.report.head = head_text(&state.head);
    Ok(Ok(state.report))
}

struct State {
    head: Head,
    /// Lines that are no records: only `log.recovered` may follow.
    torn: Option<Vec<u8>>,
    expected: Option<Expected>,
    report: Report,
}

impl State {
    fn line(&mut self, line: &[u8], key: AuditKey<'_>) -> Result<(), String> {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err("the last line is unfinished; the next launch will close it".into());
        };
        let parsed = Record::parse(line).zip(split_mac(line));
        let Some((record, (covered, mac))) = parsed else {
            // More than one where a writer died while it recovered what another had left.
            match &mut self.torn {
                None => self.torn = Some(line.to_vec()),
                Some(torn) => {
                    torn.push(b'\n');
                    torn.extend_from_slice(line);
                }
            }
            return Ok(());
        };
        match mac {
            Some(mac) if !key.is_mac(covered, &mac) => {
                return Err("its MAC is wrong: the line was changed, or written under another key".into());
            }
            None if !may_lack_mac(&record) => return Err(format!("a '{}' record has no MAC", record.event)),
            _ => {}
        }
        self.sequence(&record)?;
        if record.time < self.head.time {
            return Err("its time is before that of the line before".into());
        }
        self.report.records += 1;
        match mac {
            Some(_) => {
                self.report.uncovered = 0;
                self.report.generation = self.report.generation.max(record.generation.unwrap_or(0));
            }
            None => self.report.uncovered += 1,
        }
        self.head = Head { seq: record.seq, time: record.time, hash: sha256(line) };
        match self.expected {
            Some(expected) if expected.seq == self.head.seq && expected.hash != self.head.hash => Err(format!(
                "record {} is another than was expected: the log was cut before it, and went on",
                record.seq
            )),
            _ => Ok(()),
        }
    }

    fn sequence(&mut self, record: &Record) -> Result<(), String> {
        let expected = self.head.seq + 1;
        if record.seq > expected {
            let instead = if self.torn.is_some() { "; what stands there is no record" } else { "" };
            return Err(format!("records {expected} to {} are missing before it{instead}", record.seq - 1));
        }
        if record.seq < expected {
            return Err(format!(
                "record {} stands after record {}: moved, repeated or inserted",
                record.seq, self.head.seq
            ));
        }
        let is_recovery = record.event == "log.recovered";
        let before = match self.torn.take() {
            Some(torn) if is_recovery => {
                self.report.recovered += 1;
                sha256(&[self.head.hash, sha256(&torn)].concat())
            }
            Some(_) => return Err("the line before it is no record".into()),
            None if is_recovery => return Err("it tells of an unfinished line that is not there".into()),
            None => self.head.hash,
        };
        match unhex(record.prev.as_bytes()) == Some(before) {
            true => Ok(()),
            false => Err(format!("the line before it was changed: its hash is {}", hex(&before))),
        }
    }
}

/// A denial, and the end of an agent, are recorded even where the key can't be had; a grant never is.
fn may_lack_mac(record: &Record) -> bool {
    matches!(
        (record.event.as_str(), record.outcome.as_str()),
        ("secret.access", "denied") | ("agent.end", "done") | ("log.recovered", "done")
    )
}
