//! Proving that no line was changed, removed, inserted or moved by anyone without the key.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use memchr::memmem;

use super::Error;
use super::filter::time_of_record;
use super::prune::{STUB, Stub, name_of, read_stub};
use super::record::{Head, Record, hex, split_mac, unhex};
use super::scan::{Access, each_line, parts, scan};
use super::segments::segments;
use super::tail;
use crate::vault::{AuditKeys, MacCheckers, sha256};

/// What a log proves.
#[derive(Debug, Default)]
pub struct Report {
    /// Whole records.
    pub records: u64,
    /// `SEQ:HASH` of the last line, for `--expect`.
    pub head: String,
    /// The number of the last record that was pruned; 0 where none was.
    pub pruned: u64,
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
        if let Some(head) = tail::read_path(&path)?.head {
            return Ok(head.text());
        }
    }
    Ok(Head::start().text())
}

/// How a log ends: the time of its last record, and whether a writer left a line unfinished after it.
pub fn ending(folder: &Path) -> Result<(Option<String>, bool), Error> {
    let mut is_torn = false;
    for path in segments(folder)?.into_iter().rev() {
        let tail = tail::read_path(&path)?;
        is_torn |= tail.torn.is_some() || tail.open;
        if let Some(head) = tail.head {
            return Ok((Some(head.time), is_torn));
        }
    }
    Ok((None, is_torn))
}

/// Reads the whole log. The outer error is that it can't be read; the inner that it does not hold.
/// `progress` hears how many bytes of how many were checked.
pub fn verify<'a>(
    folder: &Path,
    keys: impl Into<AuditKeys<'a>>,
    expected: Option<Expected>,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Result<Report, Fault>, Error> {
    let keys = keys.into();
    let mut state = State::new(expected, &keys);
    let parts = parts(folder)?;
    let total: u64 = parts.iter().map(|part| part.size).sum();
    let stub_path = folder.join(STUB);
    let mut place = Place { path: &stub_path, line: 1 };
    match read_stub(folder, keys.current())? {
        None => {}
        Some(Err(())) => {
            let what = "it is not what 'mentiko audit prune' wrote: changed, or of another instance".into();
            return Ok(Err(place.fault(what)));
        }
        Some(Ok(stub)) => {
            if let Some(part) = parts.iter().find(|part| name_of(&part.path) < stub.first) {
                place.path = &part.path;
                let what = "older than what was pruned: left by an interrupted pruning, or put there since; \
                            'mentiko audit prune' removes it";
                return Ok(Err(place.fault(what.into())));
            }
            if let Err(what) = state.begin(stub) {
                return Ok(Err(place.fault(what)));
            }
        }
    }
    place = Place { path: folder, line: 0 };
    let mut done = 0;
    let checker = keys.checker();
    let work = |lines: &[u8]| {
        let mut checked = Vec::new();
        each_line(lines, None, |line| checked.push(Line::check(line, &checker)));
        (checked, lines.len() as u64)
    };
    let found = scan(&parts, Access::Read, work, |part, (lines, length)| {
        place.enter(&part.path);
        for line in lines {
            place.line += 1;
            state.line(line).map_err(|what| Stop::Fault(place.fault(what)))?;
        }
        done += length;
        progress(done, total);
        Ok(())
    });
    match found.and_then(|()| state.end().map_err(|what| Stop::Fault(place.fault(what)))) {
        Ok(report) => Ok(Ok(report)),
        Err(Stop::Fault(fault)) => Ok(Err(fault)),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// Why reading ended early.
enum Stop {
    Fault(Fault),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The line that is being looked at.
struct Place<'p> {
    path: &'p Path,
    line: u64,
}

impl<'p> Place<'p> {
    fn enter(&mut self, path: &'p Path) {
        if path != self.path {
            (self.path, self.line) = (path, 0);
        }
    }

    fn fault(&self, what: String) -> Fault {
        Fault { path: self.path.to_owned(), line: self.line, what }
    }
}

/// What can be said of a line without those before it.
enum Line {
    /// It is a record, and has the MAC that it must.
    Record(Link),
    /// It is none: left by a dead writer.
    Torn(Vec<u8>),
    Wrong(String),
}

/// What ties a record to those before and after it.
struct Link {
    seq: u64,
    time: String,
    prev: Option<[u8; 32]>,
    hash: [u8; 32],
    is_recovery: bool,
    /// The generation that it tells of; `None` without a MAC.
    authentic: Option<u64>,
}

impl Line {
    fn check(line: &[u8], keys: &MacCheckers) -> Self {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Self::Wrong("the last line is unfinished; the next launch will close it".into());
        };
        let Some((covered, mac)) = split_mac(line) else { return Self::Torn(line.to_vec()) };
        // No line of ours begins otherwise.
        let seq = covered.strip_prefix(START).and_then(number).unwrap_or(u64::MAX);
        let is_authentic = mac.is_some_and(|mac| keys.of(seq).is_mac(covered, &mac));
        // What has its MAC was written by this program, and has its form.
        if is_authentic && let Some(link) = Link::of_authentic(line, covered) {
            return Self::Record(link);
        }
        let Some(record) = Record::parse(line) else { return Self::Torn(line.to_vec()) };
        match mac {
            Some(_) if !is_authentic => {
                return Self::Wrong("its MAC is wrong: the line was changed, or written under another key".into());
            }
            None if !may_lack_mac(&record) => {
                return Self::Wrong(format!("a '{}' record has no MAC", record.event.escape_debug()));
            }
            _ => {}
        }
        Self::Record(Link {
            seq: record.seq,
            prev: unhex(record.prev.as_bytes()),
            hash: sha256(line),
            is_recovery: record.event == "log.recovered",
            authentic: mac.and(Some(record.generation.unwrap_or(0))),
            time: record.time,
        })
    }
}

impl Link {
    /// Picks the fields out of a line that this program wrote, without taking all of it apart.
    fn of_authentic(line: &[u8], covered: &[u8]) -> Option<Self> {
        let (rest, prev) = covered.strip_suffix(b"\"")?.split_last_chunk::<64>()?;
        rest.strip_suffix(b",\"prev\":\"")?;
        let time = time_of_record(line)?;
        let after_time = rest.get(memmem::find(rest, time.as_bytes())? + time.len()..)?;
        let event = after_time.strip_prefix(b"\",\"event\":\"")?;
        // No other field can hold it: a quotation mark inside a string is escaped.
        let generation = after_time.get(memmem::find(after_time, GENERATION)? + GENERATION.len()..)?;
        Some(Self {
            seq: number(line.strip_prefix(START)?)?,
            time: time.to_owned(),
            prev: unhex(prev),
            hash: sha256(line),
            is_recovery: event.starts_with(b"log.recovered\""),
            authentic: Some(number(generation).unwrap_or(0)),
        })
    }
}

const START: &[u8] = b"{\"v\":1,\"seq\":";
const GENERATION: &[u8] = b",\"generation\":";

/// The number that a text begins with.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}

struct State {
    head: Head,
    /// Lines that are no records: only `log.recovered` may follow.
    torn: Option<Vec<u8>>,
    expected: Option<Expected>,
    /// The lines at which the keys were rotated, which the vault knows.
    ends: Vec<Expected>,
    report: Report,
}

impl State {
    fn new(expected: Option<Expected>, keys: &AuditKeys<'_>) -> Self {
        let ends = keys.ends().map(|(seq, hash)| Expected { seq, hash }).collect();
        Self { head: Head::start(), torn: None, expected, ends, report: Report::default() }
    }

    /// Goes on from where a pruned log begins.
    fn begin(&mut self, stub: Stub) -> Result<(), String> {
        self.report.pruned = stub.head.seq;
        self.report.generation = stub.generation;
        self.head = stub.head;
        match self.expected {
            Some(expected) if expected.seq < self.head.seq => {
                Err(format!("record {} was pruned; expect a later one", expected.seq))
            }
            _ => self.is_expected(),
        }
    }

    fn line(&mut self, line: Line) -> Result<(), String> {
        let link = match line {
            Line::Record(link) => link,
            Line::Wrong(what) => return Err(what),
            Line::Torn(line) => {
                // More than one where a writer died while it recovered what another had left.
                match &mut self.torn {
                    None => self.torn = Some(line),
                    Some(torn) => {
                        torn.push(b'\n');
                        torn.extend_from_slice(&line);
                    }
                }
                return Ok(());
            }
        };
        self.sequence(&link)?;
        if link.time < self.head.time {
            return Err("its time is before that of the line before".into());
        }
        self.report.records += 1;
        match link.authentic {
            Some(generation) => {
                self.report.uncovered = 0;
                self.report.generation = self.report.generation.max(generation);
            }
            None => self.report.uncovered += 1,
        }
        self.head = Head { seq: link.seq, time: link.time, hash: link.hash };
        self.is_expected()
    }

    fn is_expected(&self) -> Result<(), String> {
        if self.ends.iter().any(|end| end.seq == self.head.seq && end.hash != self.head.hash) {
            return Err(format!("record {} is another than stood there when the keys were rotated", self.head.seq));
        }
        match self.expected {
            Some(expected) if expected.seq == self.head.seq && expected.hash != self.head.hash => Err(format!(
                "record {} is another than was expected: the log was cut before it, and went on",
                self.head.seq
            )),
            _ => Ok(()),
        }
    }

    fn sequence(&mut self, link: &Link) -> Result<(), String> {
        let expected = self.head.seq + 1;
        if link.seq > expected {
            let instead = if self.torn.is_some() { "; what stands there is no record" } else { "" };
            return Err(format!("records {expected} to {} are missing before it{instead}", link.seq - 1));
        }
        if link.seq < expected {
            return Err(format!(
                "record {} stands after record {}: moved, repeated or inserted",
                link.seq, self.head.seq
            ));
        }
        let before = match self.torn.take() {
            Some(torn) if link.is_recovery => {
                self.report.recovered += 1;
                sha256(&[self.head.hash, sha256(&torn)].concat())
            }
            Some(_) => return Err("the line before it is no record".into()),
            None if link.is_recovery => return Err("it tells of an unfinished line that is not there".into()),
            None => self.head.hash,
        };
        match link.prev == Some(before) {
            true => Ok(()),
            false => Err(format!("the line before it was changed: its hash is {}", hex(&before))),
        }
    }

    fn end(mut self) -> Result<Report, String> {
        if self.torn.is_some() {
            return Err("the last line is no record; the next launch will tell of it".into());
        }
        let known = self.ends.iter().chain(&self.expected).map(|expected| expected.seq).max();
        if let Some(last) = known.filter(|&last| last > self.head.seq) {
            return Err(format!("the end was cut off: records {} to {last} are missing", self.head.seq + 1));
        }
        self.report.head = self.head.text();
        Ok(self.report)
    }
}

/// A denial, and the end of an agent, are recorded even where the key can't be had; a grant never is.
fn may_lack_mac(record: &Record) -> bool {
    matches!(
        (record.event.as_str(), record.outcome.as_str()),
        ("secret.access", "denied") | ("agent.end", "done") | ("log.recovered", "done")
    )
}

#[cfg(test)]
mod tests {
    use super::super::record::write_line;
    use super::super::{Entry, Event, Log, Origin, Outcome};
    use super::*;
    use crate::memory::Arena;
    use crate::vault::whole_tests::Kit;
    use crate::vault::{AuditKey, LogKey};

    const KEY: [u8; 32] = [7; 32];

    fn append(log: &Log, generation: u64, key: Option<&LogKey<'_>>) {
        let entry = Entry { generation: Some(generation), ..Entry::new(Event::SECRET_ACCESS, Outcome::Denied) };
        log.append(&[entry], key).unwrap();
    }

    fn only_segment(folder: &Path) -> PathBuf {
        segments(folder).unwrap().pop().unwrap()
    }

    #[test]
    fn the_report_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!((head(path).unwrap(), ending(path).unwrap()), (Head::start().text(), (None, false)));
        let log = Log::at(path).unwrap();
        for generation in [5, 7, 6] {
            append(&log, generation, Some(&LogKey::of(&KEY)));
        }
        std::fs::write(only_segment(path), [&std::fs::read(only_segment(path)).unwrap()[..], b"torn"].concat())
            .unwrap();
        assert!(ending(path).unwrap().1);
        append(&log, 9, None);
        append(&log, 9, None);
        let mut heard = (0, 0);
        let report = verify(path, AuditKey::of(&KEY), None, |done, total| heard = (done, total)).unwrap().unwrap();
        let size = only_segment(path).metadata().unwrap().len();
        assert_eq!(heard, (size, size));
        let Report { records, recovered, uncovered, generation, pruned, ref head } = report;
        // The recovery has no MAC either, as who wrote it had no key.
        assert_eq!((records, recovered, uncovered, generation, pruned), (6, 1, 3, 7, 0));
        assert_eq!(*head, super::head(path).unwrap());
        assert!(head.starts_with("6:"));
        let (time, is_torn) = ending(path).unwrap();
        let text = std::fs::read_to_string(only_segment(path)).unwrap();
        assert!(text.lines().last().unwrap().contains(&format!("\"time\":\"{}\"", time.unwrap())) && !is_torn);
        // A record that lacks nothing but its newline.
        std::fs::write(only_segment(path), text.trim_end()).unwrap();
        assert!(ending(path).unwrap().1);
        std::fs::write(only_segment(path), "torn\n").unwrap();
        assert_eq!(ending(path).unwrap(), (None, true));
    }

    #[test]
    fn the_expected_line_is_there_or_the_log_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::at(folder.path()).unwrap();
        let say = |expected: &str| {
            let said = verify(folder.path(), AuditKey::of(&KEY), Some(expected.parse().unwrap()), |_, _| {}).unwrap();
            said.map_err(|fault| fault.what)
        };
        append(&log, 1, Some(&LogKey::of(&KEY)));
        let first = head(folder.path()).unwrap();
        append(&log, 1, Some(&LogKey::of(&KEY)));
        let second = head(folder.path()).unwrap();
        say(&first).unwrap();
        say(&second).unwrap();
        let hash = second.split_once(':').unwrap().1;
        assert!(say(&format!("1:{hash}")).unwrap_err().contains("record 1 is another than was expected"));
        let cut = say(&format!("5:{hash}")).unwrap_err();
        assert_eq!(cut, "the end was cut off: records 3 to 5 are missing");
        let letters = "ab".repeat(32);
        assert_eq!(format!("1:{letters}").parse(), Ok(Expected { seq: 1, hash: [0xab; 32] }));
        for text in [
            "",
            "1",
            "1:",
            ":",
            &format!("x:{letters}"),
            &format!("{letters}:1"),
            &format!("1:{}", letters.to_uppercase()),
        ] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_authentic_line_of_another_form_is_taken_apart_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        let mut head = Head { time: "2026-03-07T09:15:02.482113Z".into(), ..Head::start() };
        let entry = Entry { generation: Some(5), ..Entry::new(Event::SECRET_SET, Outcome::Done) };
        let key = AuditKey::of(&KEY);
        write_line(&mut out, &entry, &mut head, &Origin::of_this_process(), "i", Some(key)).unwrap();
        let text = String::from_utf8(out).unwrap().replace(",\"generation\"", ", \"generation\"");
        let (covered, _) = split_mac(text.trim_end().as_bytes()).unwrap();
        let covered = std::str::from_utf8(covered).unwrap();
        let line = format!("{covered},\"mac\":\"{}\"}}\n", hex(&key.mac(covered.as_bytes())));
        std::fs::write(folder.path().join("access-2026-03.jsonl"), line).unwrap();
        let report = verify(folder.path(), key, None, |_, _| {}).unwrap().unwrap();
        assert_eq!((report.records, report.generation), (1, 5));
    }

    #[test]
    fn lines_are_checked_under_the_key_of_their_time() {
        let kit = Kit::new();
        let arena = Arena::new().unwrap();
        let old = LogKey::of(&KEY);
        let folder = kit.instance.audit.as_path();
        let log = Log::open(&kit.instance).unwrap();
        append(&log, 1, Some(&old));
        append(&log, 1, Some(&old));
        let last: Expected = head(folder).unwrap().parse().unwrap();
        // The vault knows a line which the log has, another in its place, and one that is missing.
        for (seq, hash, fault) in [
            (2, last.hash, ""),
            (2, [1; 32], "record 2 is another than stood there when the keys were rotated"),
            (9, last.hash, "the end was cut off: records 4 to 9 are missing"),
        ] {
            let vault = kit.open(&arena);
            let mut ledger = kit.empty_ledger();
            ledger.retire(&AuditKey::of(&KEY), seq, hash, 0);
            kit.replace_ledger(&vault, &ledger);
            let vault = kit.open(&arena);
            let key = if seq == 9 { old.clone() } else { vault.log_key() };
            let text = std::fs::read(only_segment(folder)).unwrap();
            append(&log, 1, Some(&key));
            let said = verify(folder, vault.audit_keys(&arena).unwrap(), None, |_, _| {}).unwrap();
            assert_eq!(said.err().map_or_else(String::new, |fault| fault.what), fault);
            std::fs::write(only_segment(folder), text).unwrap();
        }
    }
}
