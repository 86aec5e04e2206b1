//! Finding records: the cost follows what is asked, not how large the log is.
//!
//! Lines are in the order of their times, so that bounds of time are found by halving; within
//! them, the texts that each wanted line holds are searched for in whole blocks, on all cores. No
//! line is taken apart.

use std::ops::Range;
use std::path::Path;

use memchr::memchr;

use super::filter::{Matcher, time_of_record};
use super::scan::{Access, Part, as_length, parts, scan};
use super::{Error, Filter};

/// Calls `found` with each line that fits, newline included and untouched, oldest first. Lines that
/// are no records are passed over: `verify` is what tells of them.
pub fn search<E: From<Error>>(
    folder: &Path,
    filter: &Filter,
    mut found: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let matcher = Matcher::new(filter);
    let mut parts = parts(folder)?;
    // Not passed over by their names: a record may stand in the segment of another month, after a
    // clock was set back or a writer died.
    for part in &mut parts {
        part.range = part.within(&matcher)?;
    }
    let work = |lines: &[u8]| {
        let mut fitting = Vec::new();
        matcher.copy(lines, &mut fitting);
        fitting
    };
    scan(&parts, Access::Map, work, |_, fitting| {
        fitting.split_inclusive(|&byte| byte == b'\n').try_for_each(&mut found)
    })
}

impl Part {
    /// Where the lines are that the bounds of time allow.
    pub(super) fn within(&self, matcher: &Matcher) -> Result<Range<u64>, Error> {
        let start = matcher.since().map_or(Ok(0), |time| self.first_line_from(time))?;
        let end = matcher.until().map_or(Ok(self.size), |time| self.first_line_from(time))?;
        Ok(start..end)
    }

    /// Where the first line begins whose time is not before this one (RFC 3339, UTC, six decimals:
    /// texts in the order of the times).
    fn first_line_from(&self, time: &str) -> Result<u64, Error> {
        let (mut low, mut high) = (0, self.size);
        // Invariant: lines that begin before `low` are too early, those from `high` on are not.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record_from(middle, high)? {
                Some((start, end, found)) if *found < *time => low = end.max(start + 1),
                // Nothing begins between the middle and it, so that it may be the first.
                Some((start, ..)) if start > middle => {
                    if middle == low {
                        return self.first_from(low, start, time);
                    }
                    high = middle;
                }
                Some(_) | None if middle == low => return self.first_from(low, high, time),
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    /// The same among the lines that begin in this range, one by one.
    fn first_from(&self, low: u64, high: u64, time: &str) -> Result<u64, Error> {
        let mut at = low;
        while at < high {
            match self.record_from(at, high)? {
                Some((_, end, found)) if *found < *time => at = end,
                Some((start, ..)) => return Ok(start),
                None => break,
            }
        }
        Ok(high)
    }

    /// The first record that begins at or after `from` and before `limit`: start, end, time.
    fn record_from(&self, from: u64, limit: u64) -> Result<Option<(u64, u64, String)>, Error> {
        // A line begins after a newline: at `from` only if one stands right before it.
        let mut at = match from {
            0 => 0,
            _ => match self.newline_from(from - 1)? {
                Some(newline) => newline + 1,
                None => return Ok(None),
            },
        };
        while at < limit {
            let Some(newline) = self.newline_from(at)? else { return Ok(None) };
            let mut line = vec![0; as_length(newline - at)];
            let length = self.read(&mut line, at)?;
            if let Some(time) = line.get(..length).and_then(time_of_record) {
                return Ok(Some((at, newline + 1, time.to_owned())));
            }
            at = newline + 1;
        }
        Ok(None)
    }

    fn newline_from(&self, mut at: u64) -> Result<Option<u64>, Error> {
        let mut buffer = [0; 2048];
        loop {
            let length = self.read(&mut buffer, at)?;
            if length == 0 {
                return Ok(None);
            }
            if let Some(found) = memchr(b'\n', buffer.get(..length).unwrap_or_default()) {
                return Ok(Some(at + found as u64));
            }
            at += length as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Head, write_line};
    use super::super::segments::name_for;
    use super::super::{Entry, Event, Origin, Outcome, Record};
    use super::*;
    use jiff::Timestamp;

    /// A log of so many records, ten seconds apart, over two months; some torn text between.
    fn log(count: u64, junk: bool) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let start: Timestamp = "2026-03-31T20:00:00Z".parse().unwrap();
        let origin = Origin::of_this_process();
        let mut head = Head::start();
        for number in 0..count {
            let seconds = i64::try_from(number).unwrap() * 10;
            let time = start + jiff::SignedDuration::from_secs(seconds);
            head.time = format!("{time:.6}");
            let names = ["A", "B", "AB"];
            let entry = Entry {
                secret: Some(names[number as usize % 3]),
                reason: Some("\"secret\":\"A\""),
                ..Entry::new(Event::SecretAccess, Outcome::Denied)
            };
            let mut out = Vec::new();
            write_line(&mut out, &entry, &mut head, &origin, "i", None).unwrap();
            if junk && number % 7 == 0 {
                out.extend_from_slice(b"{\"v\":1,\"seq\":\n\n");
            }
            use std::io::Write;
            let path = folder.path().join(name_for(&head.time));
            std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(&out).unwrap();
        }
        folder
    }

    fn sequence(folder: &Path, filter: &Filter) -> Vec<u64> {
        let mut found = Vec::new();
        search::<Error>(folder, filter, |line| {
            found.push(Record::parse(line).unwrap().seq);
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn bounds_of_time_give_what_reading_everything_gives() {
        for (count, junk) in [(0, false), (1, false), (2, true), (3000, false), (3000, true)] {
            let folder = log(count, junk);
            let all = sequence(folder.path(), &Filter::default());
            assert_eq!(all, (1..=count).collect::<Vec<_>>());
            let start: Timestamp = "2026-03-31T20:00:00Z".parse().unwrap();
            for (since, until) in [
                (-5, 5),
                (0, 0),
                (0, 10),
                (5, 15),
                (10, 20),
                (14_390, 14_410),
                (20_000, 99_999),
                (29_990, 29_991),
                (40_000, 50_000),
            ] {
                let at = |seconds| Some(start + jiff::SignedDuration::from_secs(seconds));
                let filter = Filter { since: at(since), until: at(until), ..Filter::default() };
                let expected: Vec<u64> = (0..count)
                    .filter(|number| (since..until).contains(&(*number as i64 * 10)))
                    .map(|number| number + 1)
                    .collect();
                assert_eq!(sequence(folder.path(), &filter), expected, "{count} {junk} {since}..{until}");
            }
        }
    }

    #[test]
    fn a_name_is_found_in_its_field_alone() {
        let folder = log(300, true);
        for (name, first) in [("A", 1), ("B", 2), ("AB", 3)] {
            let filter = Filter { secret: Some(name.into()), ..Filter::default() };
            assert_eq!(sequence(folder.path(), &filter), (first..=300).step_by(3).collect::<Vec<u64>>());
        }
        let filter = Filter { secret: Some("C\"".into()), ..Filter::default() };
        assert_eq!(sequence(folder.path(), &filter), [0; 0]);
    }
}
