//! Finding records: the cost follows what is asked, not how large the log is.
//!
//! Lines are in the order of their times, so that bounds of time are found by halving; within
//! them, a text that each wanted line holds is searched for in whole blocks, and only lines that
//! hold it are taken apart.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::segments::segments;
use super::{Error, Filter, Record};

/// How much is read at once.
const BLOCK: usize = 1 << 18;

/// Calls `found` with each line that fits, oldest first: the line as it stands, newline included,
/// and taken apart. Lines that are no records are passed over: `verify` is what tells of them.
pub fn search<E: From<Error>>(
    folder: &Path,
    filter: &Filter,
    mut found: impl FnMut(&[u8], &Record) -> Result<(), E>,
) -> Result<(), E> {
    let needle = filter.needle();
    let finder = needle.as_ref().map(|needle| Finder::new(needle.as_bytes()));
    for path in segments(folder)? {
        // Not passed over by their names: a record may stand in the segment of another month, after
        // a clock was set back or a writer died.
        let segment = Segment::open(&path)?;
        let bound = |time: Option<Timestamp>, otherwise: u64| match time {
            Some(time) => segment.first_line_from(&format!("{time:.6}")),
            None => Ok(otherwise),
        };
        let (start, end) = (bound(filter.since, 0)?, bound(filter.until, segment.size)?);
        segment.lines(start..end, finder.as_ref(), |line| match Record::parse(line) {
            Some(record) if filter.fits(&record) => found(line, &record),
            _ => Ok(()),
        })?;
    }
    Ok(())
}

struct Segment<'p> {
    path: &'p Path,
    file: File,
    size: u64,
}

impl<'p> Segment<'p> {
    fn open(path: &'p Path) -> Result<Self, Error> {
        let cant_read = |error| Error::file("read", path, error);
        let file = File::open(path).map_err(cant_read)?;
        let size = file.metadata().map_err(cant_read)?.len();
        Ok(Self { path, file, size })
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| Error::file("read", self.path, error)),
            }
        }
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
            let mut line = vec![0; usize::try_from(newline - at).unwrap_or(usize::MAX)];
            let length = self.read(&mut line, at)?;
            if let Some(record) = line.get(..length).and_then(Record::parse) {
                return Ok(Some((at, newline + 1, record.time)));
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

    /// Each line of the range that holds what the finder looks for.
    fn lines<E: From<Error>>(
        &self,
        range: std::ops::Range<u64>,
        finder: Option<&Finder<'_>>,
        mut found: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; BLOCK];
        let mut at = range.start;
        while at < range.end {
            let length = self.read(&mut buffer, at)?;
            let block = buffer.get(..length).unwrap_or_default();
            // Up to the last whole line; what follows is read again with what comes after it.
            let Some(last) = memrchr(b'\n', block) else {
                if length < buffer.len() {
                    // An unfinished line at the end.
                    return Ok(());
                }
                buffer.resize(buffer.len() * 2, 0);
                continue;
            };
            let whole = block.get(..=last).unwrap_or_default();
            let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            each_line(whole.get(..wanted.min(whole.len())).unwrap_or_default(), finder, &mut found)?;
            at += whole.len() as u64;
        }
        Ok(())
    }
}

/// Each line of the text that holds what the finder looks for; all of them without one.
fn each_line<E>(
    text: &[u8],
    finder: Option<&Finder<'_>>,
    found: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let hit = match finder {
            Some(finder) => finder.find(rest),
            None => Some(0),
        };
        let Some(hit) = hit else { return Ok(()) };
        let start = memrchr(b'\n', rest.get(..hit).unwrap_or_default()).map_or(0, |newline| newline + 1);
        let after = rest.get(hit..).unwrap_or_default();
        let end = memchr(b'\n', after).map_or(rest.len(), |newline| hit + newline + 1);
        found(rest.get(start..end).unwrap_or_default())?;
        at += end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::{Head, write_line};
    use super::super::segments::name_for;
    use super::super::{Entry, Event, Origin, Outcome};
    use super::*;

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
        search::<Error>(folder, filter, |_, record| {
            found.push(record.seq);
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
