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
        let mut fitting = Vec::new();
        matcher.copy(buffer.get(..=last).unwrap_or_default(), &mut fitting);
        fitting.split_inclusive(|&byte| byte == b'\n').try_for_each(&mut *found)?;
        at += last as u64 + 1;
    }
    Ok(at)
}
