//! Sums up the log as it streams by: memory follows the number of names, not of records.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use serde::Serialize;

use super::frame::Frame;
use crate::admin::exposure::Held;
use crate::audit::{Origin, Record};
use crate::text::printable;

/// How many secrets are told apart: those of the vault, and those that only the log names. Two
/// numbers, so that forged names can't crowd out the vault's.
const MAX_KNOWN: usize = 2000;
const MAX_STRANGERS: usize = 500;
/// How many chains of one secret are told apart, and how many holders.
const MAX_CHAINS: usize = 200;
const MAX_HOLDERS: usize = 200;
/// How many refusals are kept: the latest.
const MAX_REFUSALS: usize = 2000;
/// How many different reasons are counted.
const MAX_REASONS: usize = 200;
/// How many runs are told apart; beyond that they are "at least".
const MAX_RUNS: usize = 1_000_000;
/// The longest name and the longest reason that are shown whole, in characters.
const NAME: usize = 128;
const REASON: usize = 400;

/// Grants and denials.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    pub(super) granted: u64,
    pub(super) denied: u64,
}

impl Count {
    pub(super) fn add(&mut self, other: Self) {
        self.granted += other.granted;
        self.denied += other.denied;
    }

    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// What the log says of one secret.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) total: Count,
    /// The last grant.
    pub(super) last: Option<String>,
    /// For each bar of the frame.
    pub(super) bars: Vec<Count>,
    pub(super) chains: BTreeMap<String, Count>,
    pub(super) holders: BTreeMap<HolderKey, Holder>,
}

/// Chain, agent, host, version.
type HolderKey = (String, String, String, u32);

/// One agent that was given one version on one host.
#[derive(Serialize, Default, Debug)]
pub(super) struct Holder {
    pub(super) chain: String,
    pub(super) agent: String,
    pub(super) version: u32,
    pub(super) host: String,
    pub(super) runs: u64,
    #[serde(flatten)]
    pub(super) held: Held,
}

/// A record of a launch that was refused, or that failed.
#[derive(Serialize, Clone, Debug)]
pub(super) struct Refusal {
    pub(super) seq: u64,
    pub(super) time: String,
    pub(super) outcome: String,
    pub(super) chain: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) run: Option<String>,
    pub(super) host: String,
    pub(super) has_mac: bool,
}

/// What was counted and is not told apart.
#[derive(Serialize, Default, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Lines that begin and end as records do, and are none.
    pub(super) unreadable: u64,
    /// Records after the line up to which the log was verified.
    pub(super) unverified: u64,
    /// Accesses to secrets beyond the number that is told apart.
    pub(super) accesses: u64,
    /// Accesses by chains or agents beyond the number that is told apart.
    pub(super) holders: u64,
    /// Refusals before the latest.
    pub(super) refusals: u64,
    /// Records whose time is outside the charts.
    pub(super) outside: u64,
    /// Whether there were more runs than can be counted.
    pub(super) runs: bool,
}

/// Everything that is summed up.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) frame: Frame,
    pub(super) records: u64,
    pub(super) total: Count,
    pub(super) failed: u64,
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
    pub(super) bars: Vec<Count>,
    pub(super) secrets: BTreeMap<String, Usage>,
    pub(super) refusals: VecDeque<Refusal>,
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) left_out: LeftOut,
    known: BTreeSet<String>,
    strangers: usize,
    runs: Runs,
    host: String,
    /// The last line that was verified.
    limit: Option<u64>,
}

impl Gathered {
    /// `known` are the names in the vault; lines after `limit` are left out.
    pub(super) fn new(frame: Frame, known: BTreeSet<String>, limit: Option<u64>) -> Self {
        let bars = vec![Count::default(); frame.bars];
        let (secrets, refusals, reasons) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self {
            frame,
            records: 0,
            total: Count::default(),
            failed: 0,
            first: None,
            last: None,
            bars,
            secrets,
            refusals,
            reasons,
            left_out: LeftOut::default(),
            known,
            strangers: 0,
            runs: Runs::default(),
            host: Origin::of_this_process().host,
            limit,
        }
    }

    /// Adds a line, as the search found it.
    pub(super) fn line(&mut self, line: &[u8]) {
        let Some(record) = Record::parse(line) else {
            self.left_out.unreadable += 1;
            return;
        };
        if self.limit.is_some_and(|limit| record.seq > limit) {
            self.left_out.unverified += 1;
            return;
        }
        self.records += 1;
        self.first.get_or_insert_with(|| short(&record.time, NAME));
        self.last = Some(short(&record.time, NAME));
        let count = match (record.event.as_str(), record.outcome.as_str()) {
            ("secret.access", "granted") => Count { granted: 1, denied: 0 },
            (_, "denied") => Count { granted: 0, denied: 1 },
            (_, "failed") => {
                self.failed += 1;
                return self.refusal(&record);
            }
            _ => return,
        };
        if count.denied > 0 {
            self.refusal(&record);
        }
        self.access(&record, count);
    }

    fn access(&mut self, record: &Record, count: Count) {
        self.total.add(count);
        let bar = self.frame.bar(&record.time);
        match bar.and_then(|bar| self.bars.get_mut(bar)) {
            Some(bar) => bar.add(count),
            None => self.left_out.outside += 1,
        }
        let Some(secret) = record.secret.as_deref().map(|name| short(name, NAME)) else { return };
        if !self.admit(&secret) {
            self.left_out.accesses += 1;
            return;
        }
        let usage = self.secrets.entry(secret.clone()).or_insert_with(|| Usage::new(self.frame.bars));
        usage.total.add(count);
        if let Some(bar) = bar.and_then(|bar| usage.bars.get_mut(bar)) {
            bar.add(count);
        }
        let chain = name(&record.chain);
        let is_full = usage.chains.len() >= MAX_CHAINS && !usage.chains.contains_key(&chain);
        match is_full {
            true => self.left_out.holders += 1,
            false => usage.chains.entry(chain.clone()).or_default().add(count),
        }
        if count.granted > 0 {
            usage.last = Some(short(&record.time, NAME));
            let key = (chain, name(&record.agent), short(&record.host, NAME), record.version.unwrap_or_default());
            if usage.holders.len() >= MAX_HOLDERS && !usage.holders.contains_key(&key) {
                self.left_out.holders += 1;
                return;
            }
            let is_new = self.runs.is_new(&(&secret, &key, &record.run), &mut self.left_out.runs);
            let holder = usage.holders.entry(key).or_insert_with_key(Holder::new);
            holder.held.add(record, &self.host);
            holder.runs += u64::from(is_new);
        }
    }

    /// Whether the secret is told apart; those of the vault come before others.
    fn admit(&mut self, secret: &str) -> bool {
        if self.secrets.contains_key(secret) {
            return true;
        }
        match self.known.contains(secret) {
            true => self.secrets.len() - self.strangers < MAX_KNOWN,
            false if self.strangers < MAX_STRANGERS => {
                self.strangers += 1;
                true
            }
            false => false,
        }
    }

    fn refusal(&mut self, record: &Record) {
        let reason = record.reason.as_deref().map(|reason| short(reason, REASON));
        let text = reason.clone().unwrap_or_default();
        if self.reasons.len() < MAX_REASONS || self.reasons.contains_key(&text) {
            *self.reasons.entry(text).or_default() += 1;
        }
        if self.refusals.len() == MAX_REFUSALS {
            self.refusals.pop_front();
            self.left_out.refusals += 1;
        }
        let option = |text: &Option<String>| text.as_deref().map(|text| short(text, NAME));
        self.refusals.push_back(Refusal {
            seq: record.seq,
            time: short(&record.time, NAME),
            outcome: short(&record.outcome, NAME),
            chain: option(&record.chain),
            agent: option(&record.agent),
            secret: option(&record.secret),
            reason,
            run: option(&record.run),
            host: short(&record.host, NAME),
            has_mac: record.mac.is_some(),
        });
    }
}

impl Usage {
    fn new(bars: usize) -> Self {
        let bars = vec![Count::default(); bars];
        Self { total: Count::default(), last: None, bars, chains: BTreeMap::new(), holders: BTreeMap::new() }
    }
}

impl Holder {
    fn new((chain, agent, host, version): &HolderKey) -> Self {
        let (chain, agent, host) = (chain.clone(), agent.clone(), host.clone());
        Self { chain, agent, host, version: *version, ..Self::default() }
    }
}

/// Which runs were seen: their hashes only.
#[derive(Default, Debug)]
struct Runs {
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Runs {
    fn is_new(&mut self, run: &impl std::hash::Hash, is_full: &mut bool) -> bool {
        let hash = self.hasher.hash_one(run);
        if self.seen.len() >= MAX_RUNS {
            *is_full = true;
            return false;
        }
        self.seen.insert(hash)
    }
}

fn name(name: &Option<String>) -> String {
    name.as_deref().map_or_else(|| "-".into(), |name| short(name, NAME))
}

/// Names that were tampered with may be of any length and hold any character.
fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => printable(text.get(..end).unwrap_or_default()) + "…",
        None => printable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, secret: &str, outcome: &str, run: u64) -> Vec<u8> {
        serde_json::json!({
            "v": 1, "seq": seq, "time": "2026-03-07T09:15:02.482113Z", "event": "secret.access", "outcome": outcome,
            "chain": "c", "agent": "a", "run": run.to_string(), "secret": secret, "version": 1,
            "reason": (outcome == "denied").then_some("chain out of scope"), "instance": "i", "host": "h", "uid": 0,
            "pid": 1, "prev": "", "mac": null
        })
        .to_string()
        .into_bytes()
    }

    fn gathered(known: &[&str]) -> Gathered {
        let day = "2026-03-07".parse().unwrap();
        Gathered::new(Frame::new(day, day), known.iter().map(|&name| name.into()).collect(), None)
    }

    #[test]
    fn records_are_counted_by_secret_day_chain_and_run() {
        let mut all = gathered(&["A"]);
        for (seq, secret, outcome, run) in
            [(1, "A", "granted", 1), (2, "A", "granted", 1), (3, "A", "granted", 2), (4, "B", "denied", 3)]
        {
            all.line(&line(seq, secret, outcome, run));
        }
        all.line(b"{}");
        assert_eq!(all.total, Count { granted: 3, denied: 1 });
        let usage = &all.secrets["A"];
        assert_eq!(usage.bars, [Count { granted: 3, denied: 0 }]);
        let holder = usage.holders.values().next().unwrap();
        assert_eq!((holder.runs, holder.held.accesses, usage.holders.len()), (2, 3, 1));
        assert_eq!(all.secrets["B"].chains["c"], Count { granted: 0, denied: 1 });
        assert_eq!((all.reasons["chain out of scope"], all.refusals.len(), all.left_out.unreadable), (1, 1, 1));
    }

    #[test]
    fn lines_after_the_verified_ones_are_left_out() {
        let mut all = gathered(&[]);
        all.limit = Some(1);
        all.line(&line(1, "A", "granted", 1));
        all.line(&line(2, "A", "granted", 1));
        assert_eq!((all.records, all.left_out.unverified), (1, 1));
    }

    #[test]
    fn names_without_end_need_no_memory_without_end_and_hide_no_known_one() {
        let mut all = gathered(&["KNOWN"]);
        for number in 0..5000 {
            all.line(&line(number, &format!("X{number}"), "denied", number));
        }
        all.line(&line(5001, "KNOWN", "granted", 1));
        all.line(&line(5002, &"n".repeat(100_000), "denied", 1));
        assert_eq!((all.secrets.len(), all.secrets["KNOWN"].total.granted), (MAX_STRANGERS + 1, 1));
        assert_eq!(all.left_out.accesses, 4501);
        assert_eq!((all.refusals.len(), all.left_out.refusals), (MAX_REFUSALS, 3001));
        assert_eq!(all.refusals.back().unwrap().secret.as_ref().unwrap().chars().count(), NAME + 1);
    }
}
