//! Finding records: the cost follows what is asked, not how large the log is.
//!
//! Lines are in the order of their times, so that bounds of time are found by halving; within
//! them, the texts that each wanted line holds are searched for in whole blocks, on several cores. No
//! line is taken apart.

use std::ops::Range;
use std::path::Path;

use super::filter::{Matcher, time_of_record};
use super::scan::{Access, Part, parts, scan, steps};
use super::{Error, Filter};

/// How much is read at once to look for a record: a few of them.
const PROBE: u64 = 4 << 10;

/// Calls `found` with each line that fits, newline included and untouched, oldest first. Lines that
/// are no records are passed over: `verify` is what tells of them.
pub fn search<E: From<Error> + Send>(
    folder: &Path,
    filter: &Filter,
    mut found: impl FnMut(&[u8]) -> Result<(), E> + Send,
) -> Result<(), E> {
    let matcher = Matcher::new(filter);
    let mut parts = parts(folder)?;
    // Not passed over by their names: a record may stand in the segment of another month, after a
    // clock was set back or a writer died.
    for part in &mut parts {
        part.range = part.within(&matcher)?;
    }
    scan(
        &parts,
        Access::Map,
        |lines| matcher.fitting(lines),
        |_, fitting| fitting.split_inclusive(|&byte| byte == b'\n').try_for_each(&mut found),
    )
}

impl Part {
    /// Where the lines are that the bounds of time allow.
    pub(super) fn within(&self, matcher: &Matcher) -> Result<Range<u64>, Error> {
        let start = matcher.since().map_or(Ok(0), |time| self.first_line_from(time))?;
        let end = match matcher.until() {
            Some(time) if start < self.size => self.first_line_from(time)?,
            _ => self.size,
        };
        Ok(start..end)
    }

    /// Where the first line begins whose time is not before this one (RFC 3339, UTC, six decimals:
    /// texts in the order of the times), or what before it is no record.
    fn first_line_from(&self, time: &str) -> Result<u64, Error> {
        let (mut low, mut high) = (0, self.size);
        // Invariant: records that begin before `low` are too early, those from `high` on are not.
        while low < high {
            let middle = if high - low > PROBE { low + (high - low) / 2 } else { low };
            match self.record_from(middle, high)? {
                Some((end, found)) if *found < *time => low = end,
                // Nothing that begins from the middle on is too early.
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The first record that begins at or after `from` and before `limit`: its end, its time.
    fn record_from(&self, from: u64, limit: u64) -> Result<Option<(u64, String)>, Error> {
        let mut buffer = Vec::new();
        for range in steps(from..limit, PROBE) {
            let (mut end, lines) = self.lines(&range, &mut buffer)?;
            for line in lines.split_inclusive(|&byte| byte == b'\n') {
                end += line.len() as u64;
                if let Some(time) = line.strip_suffix(b"\n").and_then(time_of_record) {
                    return Ok(Some((end, time.to_owned())));
                }
            }
        }
        Ok(None)
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
                ..Entry::new(Event::SECRET_ACCESS, Outcome::Denied)
            };
            let mut out = Vec::new();
            write_line(&mut out, &entry, &mut head, &origin, "i", None).unwrap();
            if junk && number % 7 == 0 {
                out.extend_from_slice(b"{\"v\":1,\"seq\":\n\n");
            }
            if junk && number % 50 == 0 {
                // Longer than what is looked at at once; and the log ends in the midst of a line.
                out.extend_from_slice(&[&[b'x'; 3 * PROBE as usize][..], b"\n"].concat());
            }
            if junk && number == count - 1 {
                out.extend_from_slice(b"{\"v\":1,\"seq\":3,\"time\":\"2026-0");
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

    /// And no more is looked at than what they allow, but for what is no record.
    #[test]
    fn bounds_of_time_are_found_to_the_line() {
        for (count, junk) in [(1, false), (3000, false), (3000, true)] {
            let folder = log(count, junk);
            for part in parts(folder.path()).unwrap() {
                let text = std::fs::read(&part.path).unwrap();
                let mut at = 0;
                let mut records = Vec::new();
                for line in text.split_inclusive(|&byte| byte == b'\n') {
                    if let Some(record) = Record::parse(line) {
                        records.push((at, at + line.len() as u64, record.time));
                    }
                    at += line.len() as u64;
                }
                let bounds = records.iter().step_by(97).flat_map(|(.., time)| [time.clone(), time.replace(".0", ".1")]);
                for time in bounds.chain(["2000".into(), "3000".into()]) {
                    let early = records.iter().take_while(|(.., of)| *of < time).count();
                    let after = early.checked_sub(1).map_or(0, |last| records[last].1);
                    let before = records.get(early).map_or(part.size, |first| first.0);
                    let found = part.first_line_from(&time).unwrap();
                    assert!(
                        (after..=before).contains(&found),
                        "{count} {junk} {time}: {found}, not {after} to {before}"
                    );
                    if let Ok(time) = time.parse() {
                        let filter = |since, until| Matcher::new(&Filter { since, until, ..Filter::default() });
                        assert_eq!(part.within(&filter(Some(time), None)).unwrap(), found..part.size);
                        assert_eq!(part.within(&filter(None, Some(time))).unwrap(), 0..found);
                    }
                }
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
