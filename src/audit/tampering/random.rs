//! Logs as they come to be: over several months, with and without MACs, with writers that died.

use std::io::Write;

use super::super::record::{Head, write_line};
use super::super::segments::{name_for, segments};
use super::super::{Entry, Event, Log, Outcome, Report, tail, verify};
use super::{KEY, Lines, all, folder, origin, read, write};
use crate::vault::{AuditKey, LogKey};

/// SplitMix64: small, and the same everywhere.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub(super) fn pick(&mut self, texts: &[&'static str]) -> &'static str {
        texts[self.below(texts.len())]
    }
}

/// A log that grows as one does.
struct Writer<'c> {
    folder: tempfile::TempDir,
    log: Log,
    /// Counted on from the year 2900, which is after the machine's clock: these times stand.
    minutes: usize,
    chance: &'c mut Chance,
}

impl<'c> Writer<'c> {
    fn new(chance: &'c mut Chance) -> Self {
        let folder = folder();
        let log = Log::at(folder.path()).unwrap();
        let mut writer = Self { folder, log, minutes: 0, chance };
        writer.later();
        writer
    }

    /// The end of the last segment that has a record.
    fn head(&self) -> Head {
        let tails = segments(self.folder.path()).unwrap().into_iter().rev();
        tails
            .filter_map(|path| tail::read(&std::fs::File::open(path).unwrap()).unwrap().head)
            .next()
            .unwrap_or(Head::start())
    }

    fn push(&self, bytes: &[u8]) {
        let path = segments(self.folder.path()).unwrap().pop().unwrap();
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    /// A line that follows the last one, not written yet.
    fn next_line(&mut self, time: Option<String>) -> (Vec<u8>, Head) {
        let mut head = self.head();
        head.time = time.unwrap_or(head.time);
        let mut line = Vec::new();
        let entry = Entry { secret: Some("A"), version: Some(3), ..Entry::new(Event::SECRET_ACCESS, Outcome::Granted) };
        write_line(&mut line, &entry, &mut head, &origin(), "i", Some(AuditKey::of(&KEY))).unwrap();
        (line, head)
    }

    /// A line of a later time, perhaps of a later month.
    fn later(&mut self) {
        self.minutes += 1 + self.chance.below(60 * 24 * 40);
        let start: jiff::Timestamp = "2900-01-01T00:00:00Z".parse().unwrap();
        let time = start + jiff::SignedDuration::from_mins(self.minutes as i64);
        let (line, head) = self.next_line(Some(format!("{time:.6}")));
        let path = self.folder.path().join(name_for(&head.time));
        std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(&line).unwrap();
    }

    /// What one launch writes. Without the key it is a denial.
    fn launch(&mut self, with_key: bool) {
        let reason = format!("reason {}", self.chance.below(1000));
        let kinds = [(Event::SECRET_ACCESS, Outcome::Denied), (Event::AGENT_END, Outcome::Done)];
        let more = [(Event::SECRET_ACCESS, Outcome::Granted), (Event::SECRET_SET, Outcome::Done)];
        let kinds = if with_key { [kinds, more].concat() } else { kinds.to_vec() };
        let entries: Vec<Entry<'_>> = (0..1 + self.chance.below(3))
            .map(|_| {
                let (event, outcome) = kinds[self.chance.below(kinds.len())];
                let generation = Some(self.chance.next() % 5);
                Entry { chain: Some("c"), reason: Some(&reason), generation, ..Entry::new(event, outcome) }
            })
            .collect();
        self.log.append_about(&origin(), &entries, with_key.then_some(LogKey::of(&KEY)).as_ref()).unwrap();
    }

    /// Dies in the middle of a line, perhaps the next writer too.
    fn tear(&mut self) {
        let (line, _) = self.next_line(None);
        let torn = match self.chance.below(4) {
            0 => self.chance.pick(&["x\ny", "\n", "\0\0\0", "{}", "{", "}\n\n"]).into(),
            _ => line[..1 + self.chance.below(line.len() - 2)].to_vec(),
        };
        self.push(&torn);
        if self.chance.one_in(3) {
            self.push(&[b"\n", &line[..line.len() / 2]].concat());
        }
    }

    /// A whole line that lacks its newline.
    fn stop_before_the_newline(&mut self) {
        let (line, _) = self.next_line(None);
        self.push(&line[..line.len() - 1]);
    }

    fn steps(&mut self) {
        for _ in 0..3 + self.chance.below(8) {
            match self.chance.below(10) {
                0 => self.tear(),
                1 => self.stop_before_the_newline(),
                2 | 3 => {
                    self.launch(true);
                    self.later();
                }
                _ => {
                    let with_key = !self.chance.one_in(3);
                    self.launch(with_key);
                }
            }
            if self.chance.one_in(2) {
                self.launch(true);
            }
        }
        let with_key = self.chance.one_in(2);
        self.launch(with_key);
    }
}

/// A log, and the same one cut after some lines and gone on in another way: its lines have MACs too.
pub(super) struct Case {
    pub(super) log: Lines,
    pub(super) report: Report,
    pub(super) other: Lines,
    /// From this line on the two differ.
    pub(super) fork: usize,
}

impl Case {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let mut writer = Writer::new(chance);
        writer.steps();
        let folder = writer.folder.path().to_owned();
        let log = read(&folder);
        let report = verify(&folder, AuditKey::of(&KEY), None, |_, _| {}).unwrap().unwrap();
        let fork = 1 + writer.chance.below(all(&log).len() - 1);
        write(&folder, &cut_after(&log, fork));
        writer.log = Log::at(&folder).unwrap();
        writer.steps();
        Self { other: read(&folder), log, report, fork }
    }
}

/// Its first lines alone.
pub(super) fn cut_after(log: &Lines, count: usize) -> Lines {
    let mut left = count;
    let mut cut: Lines = Vec::new();
    for (name, lines) in log {
        let taken = left.min(lines.len());
        if taken > 0 {
            cut.push((name.clone(), lines[..taken].to_vec()));
        }
        left -= taken;
    }
    cut
}
