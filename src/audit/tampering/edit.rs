//! What someone who can write to the folder may do to a log.

use super::super::record::{Head, split_mac, write_line};
use super::super::{Entry, Event, Outcome, Record};
use super::random::{Case, Chance};
use super::*;
use crate::vault::{AuditKey, sha256};

const FORGED: [(Event, Outcome); 3] = [
    (Event::SECRET_ACCESS, Outcome::Granted),
    (Event::SECRET_ACCESS, Outcome::Denied),
    (Event::LOG_RECOVERED, Outcome::Done),
];

/// One thing that is done to a log. Lines are counted through all segments, from 0.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Replace {
        line: usize,
        at: usize,
        byte: u8,
    },
    Remove {
        line: usize,
        at: usize,
    },
    Insert {
        line: usize,
        at: usize,
        byte: u8,
    },
    Delete {
        line: usize,
        count: usize,
    },
    /// Of the same log, before another line.
    Copy {
        from: usize,
        to: usize,
    },
    Swap {
        one: usize,
        other: usize,
    },
    /// To the end or the start of a segment.
    Move {
        line: usize,
        segment: usize,
        to_end: bool,
    },
    /// A segment ends after so many bytes.
    Cut {
        segment: usize,
        at: usize,
    },
    DropSegment {
        segment: usize,
    },
    SwapSegments {
        one: usize,
        other: usize,
    },
    CopySegment {
        segment: usize,
    },
    /// Text that is no record.
    Junk {
        to: usize,
        text: &'static str,
    },
    /// A line that follows the one before it as it should, but for its MAC.
    Forge {
        to: usize,
        kind: (Event, Outcome),
        with_mac: bool,
    },
    /// Its MAC is made `null`, and a grant a denial.
    Strip {
        line: usize,
        deny: bool,
    },
    /// A line that once stood in this log, in another's place or before it.
    Old {
        line: usize,
        to: usize,
        instead: bool,
    },
}

impl Edit {
    pub(super) fn any(chance: &mut Chance, case: &Case) -> Self {
        let lines = all(&case.log);
        let (line, to) = (chance.below(lines.len()), chance.below(lines.len() + 1));
        let (at, byte) = (chance.below(lines[line].len()), chance.next() as u8);
        let segment = chance.below(case.log.len());
        match chance.below(18) {
            0 | 1 => Self::Replace { line, at, byte },
            2 => Self::Replace { line, at, byte: lines[line][at] ^ 1 << chance.below(8) },
            3 => Self::Remove { line, at },
            4 => Self::Insert { line, at, byte: b" \n\r}\"0a"[chance.below(7)] },
            5 => Self::Delete { line, count: 1 },
            6 => Self::Delete { line, count: 1 + chance.below(4) },
            7 => Self::Copy { from: line, to },
            8 => Self::Copy { from: line, to: line + 1 },
            9 => Self::Swap { one: line, other: chance.below(lines.len()) },
            10 => Self::Move { line, segment, to_end: chance.one_in(2) },
            11 => Self::Cut { segment, at: chance.below(case.log[segment].1.concat().len()) },
            12 => match chance.below(3) {
                0 => Self::DropSegment { segment },
                1 => Self::CopySegment { segment },
                _ => Self::SwapSegments { one: segment, other: chance.below(case.log.len()) },
            },
            13 => Self::Junk { to, text: chance.pick(&["\n", "x\n", "{}\n", "{\"v\":1}\n", " \n", "x"]) },
            14 => Self::Forge { to, kind: FORGED[chance.below(3)], with_mac: chance.one_in(2) },
            15 => Self::Strip { line, deny: chance.one_in(2) },
            _ => Self::Old {
                line: case.fork + chance.below(all(&case.other).len() - case.fork),
                to: chance.below(lines.len() - 1),
                instead: chance.one_in(2),
            },
        }
    }

    pub(super) fn apply(&self, case: &Case) -> Lines {
        let mut log = case.log.clone();
        match *self {
            Self::Replace { line, at, byte } => place(&mut log, line)[at] = byte,
            Self::Remove { line, at } => drop(place(&mut log, line).remove(at)),
            Self::Insert { line, at, byte } => place(&mut log, line).insert(at, byte),
            Self::Delete { line, count } => {
                let count = count.min(all(&case.log).len() - line);
                (0..count).for_each(|_| drop(take(&mut log, line)));
            }
            Self::Copy { from, to } => insert(&mut log, to, all(&case.log)[from].clone()),
            Self::Swap { one, other } => {
                let lines = all(&case.log);
                place(&mut log, one).clone_from(&lines[other]);
                place(&mut log, other).clone_from(&lines[one]);
            }
            Self::Move { line, segment, to_end } => {
                let line = take(&mut log, line);
                let lines = &mut log[segment].1;
                lines.insert(if to_end { lines.len() } else { 0 }, line);
            }
            Self::Cut { segment, at } => log[segment].1 = vec![log[segment].1.concat()[..at].to_vec()],
            Self::DropSegment { segment } => drop(log.remove(segment)),
            Self::SwapSegments { one, other } => {
                let lines = log[one].1.clone();
                log[one].1 = std::mem::replace(&mut log[other].1, lines);
            }
            Self::CopySegment { segment } => log.push(("access-9999-12.jsonl".into(), log[segment].1.clone())),
            Self::Junk { to, text } => insert(&mut log, to, text.into()),
            Self::Forge { to, kind, with_mac } => {
                let line = forged(&all(&case.log)[..to], kind, with_mac.then_some(AuditKey::of(&OTHER_KEY)));
                insert(&mut log, to, line);
            }
            Self::Strip { line, deny } => {
                let place = place(&mut log, line);
                *place = without_mac(place, deny);
            }
            Self::Old { line, to, instead } => {
                if instead {
                    take(&mut log, to);
                }
                insert(&mut log, to, all(&case.other)[line].clone());
            }
        }
        log
    }

    /// What `verify` may say of it.
    pub(super) fn reasons(&self, case: &Case) -> &'static [&'static str] {
        const BYTES: &[&str] = &[CHANGED, BEFORE_CHANGED, NO_RECORD, IN_PLACE, AFTER_NO_RECORD, UNFINISHED];
        const LINES: &[&str] =
            &[MISSING, AGAIN, BEFORE_CHANGED, NO_RECORD, IN_PLACE, AFTER_NO_RECORD, NOT_THERE, UNFINISHED];
        match self {
            Self::Replace { line, .. } | Self::Remove { line, .. } | Self::Insert { line, .. } => {
                match has_mac(&all(&case.log)[*line]) {
                    true => BYTES,
                    // What it says can't be told from what it said.
                    false => &[
                        CHANGED, BEFORE_CHANGED, NO_RECORD, IN_PLACE, AFTER_NO_RECORD, UNFINISHED, MISSING, AGAIN,
                        NOT_THERE, NO_MAC, TIME,
                    ],
                }
            }
            Self::Delete { .. } | Self::DropSegment { .. } => {
                &[MISSING, IN_PLACE, AFTER_NO_RECORD, BEFORE_CHANGED, NOT_THERE, NO_RECORD]
            }
            Self::Cut { .. } => &[UNFINISHED, NO_RECORD, MISSING, IN_PLACE],
            Self::Copy { .. } | Self::Swap { .. } | Self::Move { .. } => LINES,
            Self::SwapSegments { .. } | Self::CopySegment { .. } => &[MISSING, AGAIN, NOT_THERE],
            Self::Junk { .. } => &[NO_RECORD, AFTER_NO_RECORD, BEFORE_CHANGED, IN_PLACE, UNFINISHED, CHANGED],
            Self::Forge { with_mac: true, .. } => &[CHANGED],
            Self::Forge { kind: (_, Outcome::Granted), .. } => &[NO_MAC],
            Self::Forge { kind: (Event::LOG_RECOVERED, _), .. } => &[NOT_THERE, BEFORE_CHANGED],
            Self::Forge { .. } => &[AGAIN, AFTER_NO_RECORD],
            Self::Strip { .. } => &[NO_MAC, BEFORE_CHANGED],
            Self::Old { .. } => LINES,
        }
    }
}

fn place(log: &mut Lines, mut line: usize) -> &mut Vec<u8> {
    for (_, lines) in log {
        match line.checked_sub(lines.len()) {
            None => return &mut lines[line],
            Some(left) => line = left,
        }
    }
    panic!("no such line");
}

fn take(log: &mut Lines, mut line: usize) -> Vec<u8> {
    for (_, lines) in log {
        match line.checked_sub(lines.len()) {
            None => return lines.remove(line),
            Some(left) => line = left,
        }
    }
    panic!("no such line");
}

/// Before that line; at the end where there is none.
fn insert(log: &mut Lines, mut line: usize, text: Vec<u8>) {
    let last = log.len() - 1;
    for (at, (_, lines)) in log.iter_mut().enumerate() {
        match line.checked_sub(lines.len()) {
            Some(left) if left > 0 && at < last => line = left,
            _ => return lines.insert(line.min(lines.len()), text),
        }
    }
}

fn has_mac(line: &[u8]) -> bool {
    line.strip_suffix(b"\n").and_then(split_mac).is_some_and(|(_, mac)| mac.is_some())
}

/// A line that goes on after these.
fn forged(before: &[Vec<u8>], (event, outcome): (Event, Outcome), key: Option<AuditKey<'_>>) -> Vec<u8> {
    let text = before.concat();
    let records = before.iter().rev().map(|line| line.strip_suffix(b"\n").unwrap());
    let head = records.filter_map(|line| Some((Record::parse(line)?, sha256(line)))).next();
    let mut head = head.map_or_else(
        || Head { time: "2900-01-01T00:00:00.000000Z".into(), ..Head::start() },
        |(record, hash)| Head { seq: record.seq, time: record.time, hash },
    );
    assert!(text.is_empty() || text.ends_with(b"\n"));
    let mut line = Vec::new();
    let entry = Entry::new(event, outcome);
    write_line(&mut line, &entry, &mut head, &origin(), "i", key).unwrap();
    line
}

fn without_mac(line: &[u8], deny: bool) -> Vec<u8> {
    match line.strip_suffix(b"\n").and_then(split_mac) {
        Some((covered, Some(_))) => {
            let text = String::from_utf8(covered.to_vec()).unwrap();
            let text = if deny { text.replace("granted", "denied") } else { text };
            format!("{text},\"mac\":null}}\n").into_bytes()
        }
        _ => line.to_vec(),
    }
}
