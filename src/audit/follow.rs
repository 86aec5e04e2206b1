//! Following a log as it grows, from one month to the next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memrchr;

use super::filter::Matcher;
use super::scan::{Part, as_length, parts};
use super::{Error, Filter};

/// How long until the log is looked at again.
const PAUSE: Duration = Duration::from_millis(200);
/// How much is read at once.
const STEP: u64 = 1 << 20;

/// Calls `found` with each line that fits, newline included, as it is written. Begins with what is
/// there where the filter has a bound in the past, else with the next line to come. Ends when
/// `found` fails, or the log can't be read.
pub fn follow<E: From<Error>>(
    folder: &Path,
    filter: &Filter,
    mut found: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut follower = Follower::new(folder, filter)?;
    loop {
        follower.read_on(&mut found)?;
        std::thread::sleep(PAUSE);
    }
}

/// A place in a log, from which it is read on as it grows.
pub struct Follower {
    folder: PathBuf,
    matcher: Matcher,
    /// A segment, and how much of it has been read.
    place: Option<(PathBuf, u64)>,
}

impl Follower {
    /// Stands before the first line that fits where the filter has a bound in the past, else at the
    /// end.
    pub fn new(folder: &Path, filter: &Filter) -> Result<Self, Error> {
        let matcher = Matcher::new(filter);
        let known = parts(folder)?;
        let mut place = None;
        for part in &known {
            let from = match matcher.since() {
                Some(_) => part.within(&matcher)?.start,
                None => part.size,
            };
            if from < part.size || matcher.since().is_none() {
                place = Some((part.path.clone(), from));
            }
            if from < part.size {
                break;
            }
        }
        if place.is_none() {
            place = known.last().map(|part| (part.path.clone(), part.size));
        }
        Ok(Self { folder: folder.to_owned(), matcher, place })
    }

    /// Hands over the lines that were written since the last time.
    pub fn read_on<E: From<Error>>(&mut self, mut found: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        // Listed before it is read: whoever begins a new segment has no more to write to the old.
        for part in parts(&self.folder)? {
            let from = match &self.place {
                Some((path, _)) if part.path < *path => continue,
                Some((path, from)) if part.path == *path => *from,
                _ => 0,
            };
            let to = pass_on(&part, from, &self.matcher, &mut found)?;
            self.place = Some((part.path, to));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Hands over the whole lines from this place on; where they end.
fn pass_on<E: From<Error>>(
    part: &Part,
    from: u64,
    matcher: &Matcher,
    found: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    // A writer that failed cuts its lines off again.
    let mut at = from.min(part.size);
    let mut step = STEP;
    while at < part.size {
        let mut buffer = vec![0; as_length(step.min(part.size - at))];
        let length = part.read(&mut buffer, at)?;
        let Some(last) = memrchr(b'\n', buffer.get(..length).unwrap_or_default()) else {
            if at + length as u64 >= part.size || length == 0 {
                break;
            }
            step *= 2;
            continue;
        };
        let fitting = matcher.fitting(buffer.get(..=last).unwrap_or_default());
        fitting.split_inclusive(|&byte| byte == b'\n').try_for_each(&mut *found)?;
        at += last as u64 + 1;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::super::record::{Head, write_line};
    use super::super::segments::name_for;
    use super::super::{Entry, Event, Origin, Outcome, Record};
    use super::*;

    /// A log that grows, a record a day from March 29 on.
    struct Log {
        folder: tempfile::TempDir,
        head: Head,
        day: i64,
    }

    impl Log {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), head: Head::start(), day: 0 }
        }

        /// The next line, and its segment.
        fn next(&mut self, reason: &str) -> (PathBuf, Vec<u8>) {
            let start: jiff::Timestamp = "2026-03-29T00:00:00Z".parse().unwrap();
            self.head.time = format!("{:.6}", start + jiff::SignedDuration::from_hours(24 * self.day));
            self.day += 1;
            let secret = if self.day % 2 == 0 { "B" } else { "A" };
            let entry = Entry {
                secret: Some(secret),
                reason: Some(reason),
                ..Entry::new(Event::SECRET_ACCESS, Outcome::Denied)
            };
            let mut line = Vec::new();
            write_line(&mut line, &entry, &mut self.head, &Origin::of_this_process(), "i", None).unwrap();
            (self.folder.path().join(name_for(&self.head.time)), line)
        }

        fn append(path: &Path, bytes: &[u8]) {
            OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
        }

        fn grow(&mut self, count: u64) {
            for _ in 0..count {
                let (path, line) = self.next("as usual");
                Self::append(&path, &line);
            }
        }

        /// One with so many records, which are not asked for.
        fn followed(count: u64) -> (Self, Follower) {
            let mut log = Self::new();
            log.grow(count);
            let follower = log.follower(&Filter::default());
            (log, follower)
        }

        fn follower(&self, filter: &Filter) -> Follower {
            Follower::new(self.folder.path(), filter).unwrap()
        }
    }

    fn new_in(follower: &mut Follower) -> Vec<u64> {
        let mut found = Vec::new();
        let each = |line: &[u8]| -> Result<(), Error> {
            found.push(Record::parse(line).unwrap().seq);
            Ok(())
        };
        follower.read_on(each).unwrap();
        found
    }

    #[test]
    fn what_is_written_later_is_handed_over_once_whatever_month_it_is() {
        let (mut log, mut follower) = Log::followed(2);
        assert_eq!(new_in(&mut follower), [0; 0], "what is there already is not asked for");
        log.grow(1);
        assert_eq!(new_in(&mut follower), [3]);
        // March 29 to 31, April, May.
        log.grow(50);
        assert_eq!(new_in(&mut follower), (4..=53).collect::<Vec<u64>>());
        assert_eq!(new_in(&mut follower), [0; 0]);
        log.grow(1);
        assert_eq!(new_in(&mut follower), [54]);
    }

    #[test]
    fn a_log_that_begins_later_is_followed_from_its_first_line() {
        let (mut log, mut follower) = Log::followed(0);
        assert_eq!(new_in(&mut follower), [0; 0]);
        log.grow(5);
        assert_eq!(new_in(&mut follower), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn from_a_bound_on_what_is_there_comes_first() {
        let mut log = Log::new();
        log.grow(40);
        for (since, first) in [("2026-01-01", 1), ("2026-03-30", 2), ("2026-04-15", 18), ("2026-05-07", 40)] {
            let since = Some(format!("{since}T00:00:00Z").parse().unwrap());
            let mut follower = log.follower(&Filter { since, ..Filter::default() });
            assert_eq!(new_in(&mut follower), (first..=40).collect::<Vec<u64>>());
            assert_eq!(new_in(&mut follower), [0; 0]);
        }
        // From one that is still to come on, and of one secret alone.
        let since = Some("2026-05-10T00:00:00Z".parse().unwrap());
        let mut follower = log.follower(&Filter { since, secret: Some("A".into()), ..Filter::default() });
        assert_eq!(new_in(&mut follower), [0; 0]);
        log.grow(6);
        assert_eq!(new_in(&mut follower), [43, 45]);
    }

    #[test]
    fn a_line_is_handed_over_once_it_is_whole() {
        let (mut log, mut follower) = Log::followed(1);
        let (path, line) = log.next("written in two pieces");
        let (one, two) = line.split_at(line.len() / 2);
        Log::append(&path, one);
        assert_eq!(new_in(&mut follower), [0; 0]);
        Log::append(&path, two);
        assert_eq!(new_in(&mut follower), [2]);
        // What a dead writer left is passed over.
        Log::append(&path, b"{\"v\":1,\"seq\":\n\n");
        log.grow(1);
        assert_eq!(new_in(&mut follower), [3]);
    }

    #[test]
    fn a_writer_that_takes_its_line_back_is_followed_on() {
        let (mut log, mut follower) = Log::followed(2);
        let (path, line) = log.next("taken back");
        let size = std::fs::metadata(&path).unwrap().len();
        log.head.seq -= 1;
        Log::append(&path, &line);
        assert_eq!(new_in(&mut follower), [3]);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
        assert_eq!(new_in(&mut follower), [0; 0]);
        log.day -= 1;
        log.grow(1);
        assert_eq!(new_in(&mut follower), [3]);
    }

    /// Longer than what is read at once, whole and in the middle of others.
    #[test]
    fn a_long_line_is_handed_over_too() {
        let (mut log, mut follower) = Log::followed(1);
        let long = "x".repeat(5 * as_length(STEP) / 2);
        log.grow(1);
        let (path, line) = log.next(&long);
        Log::append(&path, &line[..line.len() - 1]);
        assert_eq!(new_in(&mut follower), [2]);
        Log::append(&path, b"\n");
        log.grow(1);
        assert_eq!(new_in(&mut follower), [3, 4]);
    }
}
