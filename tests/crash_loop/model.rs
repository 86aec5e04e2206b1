//! What the instance may hold after all that was done to it, and what its log has to say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

/// A value that a command was given to store.
pub(super) struct Write {
    pub(super) secret: &'static str,
    pub(super) value: String,
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// As the command said; `None` where it was killed before.
    pub(super) version: Option<u64>,
}

pub(super) struct Launch {
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) secret: &'static str,
    /// The run that it was told to belong to.
    pub(super) run: Option<String>,
    /// It ended by itself, with success.
    pub(super) done: bool,
}

/// What an agent left that ran.
struct Marker {
    launch: u64,
    pid: u64,
    run: String,
    /// Empty where it was killed before it had written it.
    value: String,
}

#[derive(Default)]
pub(super) struct Model {
    writes: Vec<Write>,
    launches: BTreeMap<u64, Launch>,
    /// The runs that a command said it had begun, and when it was started.
    started: Vec<(String, Instant)>,
    /// Lines of the log that were looked at.
    seen: usize,
    /// Secrets and versions on record.
    recorded: BTreeSet<(String, u64)>,
    acknowledged: usize,
    counts: Counts,
}

/// How often something was seen.
pub(super) type Counts = BTreeMap<&'static str, usize>;

impl Model {
    pub(super) fn write(&mut self, write: Write) {
        self.acknowledged += usize::from(write.version.is_some());
        self.writes.push(write);
    }

    pub(super) fn launch(&mut self, number: u64, launch: Launch) {
        self.launches.insert(number, launch);
    }

    pub(super) fn run_started(&mut self, run: String, start: Instant) {
        self.started.push((run, start));
    }

    /// One of those runs.
    pub(super) fn started_run(&self, pick: usize) -> Option<String> {
        Some(self.started.get(pick % self.started.len().max(1))?.0.clone())
    }

    pub(super) fn take_started(&mut self) -> Vec<String> {
        self.started.drain(..).map(|(run, _)| run).collect()
    }

    /// Whether a secret may have had this value at some time between: it was stored by a command that
    /// had begun by then, and none that began after that one's end had acknowledged another.
    fn may_be(&self, secret: &str, value: &str, from: Instant, until: Instant) -> bool {
        let Some(write) = self.writes.iter().find(|write| write.secret == secret && write.value == value) else {
            return false;
        };
        let replaces = |other: &&Write| {
            other.secret == secret && other.version.is_some() && other.start > write.end && other.end < from
        };
        write.start < until && self.writes.iter().find(replaces).is_none()
    }

    /// Nothing goes on, and this is what an agent was given now. From here on it is certain.
    pub(super) fn settle(&mut self, secret: &str, value: &str) {
        let now = Instant::now();
        if !self.may_be(secret, value, now, now) {
            let write = |write: &&Write| write.secret == secret;
            let known: Vec<_> = self.writes.iter().filter(write).map(|w| (w.version, &w.value)).collect();
            panic!("{secret} is '{value}', which it can't be; newest last: {known:?}");
        }
        self.writes.retain(|write| write.secret != secret || write.value == value);
    }

    /// What agents left behind, and the log, against what was done since the last time.
    pub(super) fn compare(&mut self, markers: &Path, audit: &Path) {
        let records = self.new_records(audit);
        let markers = take_markers(markers);
        self.compare_writes(&records);
        self.compare_launches(&records, &markers);
        self.launches.clear();
    }

    fn count(&mut self, what: &'static str, by: usize) {
        *self.counts.entry(what).or_default() += by;
    }

    /// What was seen in all.
    pub(super) fn counts(&self) -> Counts {
        // Versions are numbered without a gap.
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (secret, version) in &self.recorded {
            last.entry(secret).and_modify(|last| *last = (*last).max(*version)).or_insert(*version);
        }
        let stored: u64 = last.values().sum();
        let mut counts = self.counts.clone();
        counts.insert("changes acknowledged", self.acknowledged);
        counts
            .insert("changes on record, killed before they were acknowledged", self.recorded.len() - self.acknowledged);
        counts.insert(
            "changes in the vault, killed before they were on record",
            usize::try_from(stored).unwrap() - self.recorded.len(),
        );
        counts
    }

    fn new_records(&mut self, audit: &Path) -> Vec<Value> {
        let text = crate::common::log_text(audit);
        let lines: Vec<_> = text.lines().skip(self.seen).map(serde_json::from_str).collect();
        self.seen += lines.len();
        self.count("lines of the log that were torn", lines.iter().filter(|line| line.is_err()).count());
        let records: Vec<Value> = lines.into_iter().filter_map(Result::ok).collect();
        self.count("records", records.len());
        records
    }

    /// Each change that was acknowledged is on record, and each once.
    fn compare_writes(&mut self, records: &[Value]) {
        for record in records.iter().filter(|record| ["secret.set", "secret.rotate"].contains(&text(record, "event"))) {
            let change = (text(record, "secret").to_owned(), record["version"].as_u64().unwrap());
            assert!(self.recorded.insert(change), "recorded twice: {record}");
        }
        for write in self.writes.iter().filter(|write| write.version.is_some()) {
            let change = (write.secret.to_owned(), write.version.unwrap());
            assert!(self.recorded.contains(&change), "{change:?} was acknowledged, and is not on record");
        }
    }

    /// Each agent that ran is on record, with a value that it may have been given; in each run all
    /// were given the same.
    fn compare_launches(&mut self, records: &[Value], markers: &[Marker]) {
        let by_process = |record: &Value| (text(record, "run").to_owned(), record["pid"].as_u64().unwrap());
        let of = |outcome: &str| -> BTreeMap<_, _> {
            let records = records.iter().filter(|record| record["outcome"] == outcome);
            records.map(|record| (by_process(record), record)).collect()
        };
        let (granted, failed) = (of("granted"), of("failed"));
        let mut given: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for marker in markers {
            let launch = &self.launches[&marker.launch];
            let process = (marker.run.clone(), marker.pid);
            let record = granted.get(&process);
            let record = record.unwrap_or_else(|| panic!("launch {} ran, and is not on record", marker.launch));
            assert!(!failed.contains_key(&process), "{record}");
            assert_eq!(text(record, "secret"), launch.secret);
            if marker.value.is_empty() && !launch.done {
                continue;
            }
            // A run keeps what it was given first.
            let of_run = self.launches.values().filter(|other| other.run.is_some() && other.run == launch.run);
            let begun =
                self.started.iter().filter(|(run, _)| Some(run) == launch.run.as_ref()).map(|(_, start)| *start);
            let from = of_run.map(|other| other.start).chain(begun).min().unwrap_or(launch.start);
            let may_be = self.may_be(launch.secret, &marker.value, from, launch.end);
            assert!(may_be, "launch {} was given '{}'", marker.launch, marker.value);
            let before = given.entry((&marker.run, launch.secret)).or_insert(&marker.value);
            assert_eq!(*before, marker.value, "two values in the run {}", marker.run);
            // And it is the version that the record says.
            let is_it = |write: &&Write| write.secret == launch.secret && write.value == marker.value;
            if let Some(version) = self.writes.iter().find(is_it).and_then(|write| write.version) {
                assert_eq!(record["version"], version, "{record}");
            }
        }
        let launched = granted.values().filter(|record| record["command"] == "sh").count();
        let killed = markers.iter().filter(|marker| !self.launches[&marker.launch].done).count();
        self.count("agents that ran to their end", markers.len() - killed);
        self.count("agents that were killed, or whose supervisor was", killed);
        self.count("grants on record, the launch killed before its agent did anything", launched - markers.len());
        for (number, launch) in self.launches.iter().filter(|(_, launch)| launch.done) {
            let ran = markers.iter().any(|marker| marker.launch == *number);
            assert!(ran, "launch {number} of {:?} ended well without an agent", launch.run);
        }
    }
}

/// The files named `LAUNCH PID RUN` that agents made, which are removed.
fn take_markers(folder: &Path) -> Vec<Marker> {
    let take = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let value = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let words: Vec<&str> = path.file_name().unwrap().to_str().unwrap().split(' ').collect();
        let (launch, pid, run) = (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].to_owned());
        Marker { launch, pid, run, value }
    };
    std::fs::read_dir(folder).unwrap().map(take).collect()
}

fn text<'r>(record: &'r Value, field: &str) -> &'r str {
    record[field].as_str().unwrap_or_default()
}
