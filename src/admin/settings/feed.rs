//! The access log as it grows.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use memchr::memchr;
use memchr::memmem::Finder;

use crate::admin::Error;
use crate::audit::{self, Filter, Follower, Record, parse_time};

/// How many records are kept for the page; older ones are in the log.
const KEPT: usize = 5000;

/// The records that fit a filter, and when each secret was given out last.
#[derive(Default)]
pub(super) struct Feed {
    /// As they stand in the log, newest first: only those in sight are taken apart.
    lines: VecDeque<Box<[u8]>>,
    /// By secret.
    pub(super) last_access: BTreeMap<String, String>,
    /// How many fit, kept or not.
    pub(super) count: u64,
    /// What the filter says, as it was typed.
    pub(super) filter: String,
}

impl Feed {
    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// One of them, counted from the newest.
    pub(super) fn record(&self, at: usize) -> Option<Record> {
        Record::parse(self.lines.get(at)?)
    }

    /// Takes one in, which is newer than all others.
    pub(super) fn push(&mut self, line: &[u8]) {
        self.lines.truncate(KEPT - 1);
        self.lines.push_front(line.into());
        self.count += 1;
    }

    fn note_access(&mut self, line: &[u8], fields: &Fields) {
        // A quotation mark inside another field would be escaped.
        let found = fields.granted.find(line).and_then(|_| Some((fields.secret.text(line)?, fields.time.text(line)?)));
        let Some((secret, time)) = found else { return };
        match self.last_access.get_mut(secret) {
            Some(last) => last.replace_range(.., time),
            None => drop(self.last_access.insert(secret.to_owned(), time.to_owned())),
        }
    }
}

/// Where to find in a line what page 1 needs: whole lines would take too long, of a large log.
struct Fields {
    granted: Finder<'static>,
    secret: Field,
    time: Field,
}

/// A field, by what stands before its text.
struct Field(Finder<'static>, usize);

impl Field {
    fn new(name: &'static str) -> Self {
        Self(Finder::new(name), name.len())
    }

    /// Its text, as it is: names and times have nothing to escape.
    fn text<'l>(&self, line: &'l [u8]) -> Option<&'l str> {
        let rest = line.get(self.0.find(line)? + self.1..)?;
        std::str::from_utf8(rest.get(..memchr(b'"', rest)?)?).ok()
    }
}

/// Where the log is read on.
pub(super) struct Source {
    folder: PathBuf,
    fields: Fields,
    all: Follower,
    /// The same with a filter.
    picked: Option<Follower>,
}

impl Source {
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        let all = from_the_start(folder, Filter::default())?;
        let fields = Fields {
            granted: Finder::new("\"outcome\":\"granted\""),
            secret: Field::new("\"secret\":\""),
            time: Field::new("\"time\":\""),
        };
        Ok(Self { folder: folder.to_owned(), fields, all, picked: None })
    }

    /// Reads what is new; how many records that are shown came.
    pub(super) fn read_on(&mut self, feed: &mut Feed) -> Result<usize, Error> {
        let before = feed.count;
        let picks = self.picked.is_some();
        self.all.read_on::<audit::Error>(|line| {
            feed.note_access(line, &self.fields);
            if !picks {
                feed.push(line);
            }
            Ok(())
        })?;
        if let Some(picked) = &mut self.picked {
            picked.read_on::<audit::Error>(|line| {
                feed.push(line);
                Ok(())
            })?;
        }
        Ok(usize::try_from(feed.count - before).unwrap_or(usize::MAX))
    }

    /// Shows what fits from now on, from the log's beginning.
    pub(super) fn pick(&mut self, feed: &mut Feed, text: String, filter: Filter) -> Result<(), Error> {
        self.picked = Some(from_the_start(&self.folder, filter)?);
        (feed.lines, feed.count, feed.filter) = (VecDeque::new(), 0, text);
        self.read_on(feed).map(|_| ())
    }
}

fn from_the_start(folder: &Path, filter: Filter) -> Result<Follower, Error> {
    let since = filter.since.or(Some(Timestamp::UNIX_EPOCH));
    Ok(Follower::new(folder, &Filter { since, ..filter })?)
}

/// `denied secret=A since=2h`: an outcome, a secret, or a field with what it is to be.
pub(super) fn filter_of(text: &str, now: Timestamp) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for word in text.split_ascii_whitespace() {
        let (field, value) = word.split_once('=').unwrap_or(match word {
            "granted" | "denied" | "done" | "failed" => ("outcome", word),
            _ => ("secret", word),
        });
        let place = match field {
            "secret" => &mut filter.secret,
            "chain" => &mut filter.chain,
            "agent" => &mut filter.agent,
            "run" => &mut filter.run,
            "outcome" => &mut filter.outcome,
            "event" => &mut filter.event,
            "since" | "until" => {
                let time = parse_time(value, now, field == "until")?;
                *(if field == "since" { &mut filter.since } else { &mut filter.until }) = Some(time);
                continue;
            }
            _ => return Err(format!("'{field}' is none of secret, chain, agent, run, outcome, event, since, until")),
        };
        *place = Some(value.to_owned());
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_words() {
        let now: Timestamp = "2026-03-07T12:00:00Z".parse().unwrap();
        let filter = filter_of(" denied slack/hook agent=one since=2h until=2026-03-07", now).unwrap();
        assert_eq!(filter.outcome.as_deref(), Some("denied"));
        assert_eq!(filter.secret.as_deref(), Some("slack/hook"));
        assert_eq!(filter.agent.as_deref(), Some("one"));
        assert_eq!(filter.since.unwrap().to_string(), "2026-03-07T10:00:00Z");
        assert_eq!(filter.until.unwrap().to_string(), "2026-03-08T00:00:00Z");
        assert!(filter_of("", now).unwrap().secret.is_none());
        for (text, part) in [("who=x", "'who' is none of"), ("since=soon", "'soon' is not a date")] {
            assert!(filter_of(text, now).unwrap_err().contains(part), "{text}");
        }
    }
}
