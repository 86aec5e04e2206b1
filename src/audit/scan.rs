//! Reads all lines of a log in blocks, on several cores, and hands over what comes of them in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use memchr::{memchr, memrchr};

use super::Error;
use super::segments::segments;
use crate::instance::read_up_to;
use crate::memory::Mapped;

/// How much is read at once: as measured, less is more to do for each, and more leaves a core's cache.
const BLOCK: u64 = 1 << 20;
/// How much is looked at in maps at once by all cores together: more is a little faster, and counts as resident.
const WINDOWS: u64 = 12 << 20;
/// How far beyond its window the last line may go on, of what is mapped.
const OVERHANG: u64 = 64 << 10;
/// The end of a segment is never mapped: a writer whose disk is full cuts off again what it wrote.
const CAN_BECOME_SHORTER: u64 = 1 << 20;

/// How lines come into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Read into a buffer: they stay what they are, however often they are looked at.
    Read,
    /// Looked at in the page cache, without a copy, where they can be; for a search that copies
    /// what it finds before it judges.
    Map,
}

/// The lines of one segment that begin within a range of bytes.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) range: Range<u64>,
}

impl Part {
    fn whole(path: PathBuf) -> Result<Self, Error> {
        let cant_read = |error| Error::file("read", &path, error);
        let file = File::open(&path).map_err(cant_read)?;
        let size = file.metadata().map_err(cant_read)?.len();
        Ok(Self { path, file, size, range: 0..size })
    }

    /// Fills the buffer from this place as far as the file goes; how far.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        read_up_to(&self.file, buffer, offset).map_err(|error| Error::file("read", &self.path, error))
    }

    /// What of the range is mapped, and how far: where no writer cuts off again, and a long line may go on.
    fn mapped(&self) -> Option<(Mapped, u64)> {
        let border = self.size.checked_sub(CAN_BECOME_SHORTER + OVERHANG)?.min(self.range.end);
        if border <= self.range.start {
            return None;
        }
        Some((Mapped::new(&self.file, border + OVERHANG).ok()?, border))
    }

    /// Calls `work` with the whole lines that begin within the range.
    fn with_lines<T>(
        &self,
        range: &Range<u64>,
        mapped: Option<&Mapped>,
        buffer: &mut Vec<u8>,
        work: impl Fn(&[u8]) -> T,
    ) -> Result<T, Error> {
        if let Some(mapped) = mapped {
            // One byte more in front, and a long line more at the end.
            let from = range.start.saturating_sub(1);
            let look = |bytes: &[u8]| begun_within(bytes, from, range).map(&work);
            if let Some(result) = mapped.with(&(from..range.end + OVERHANG), look) {
                return Ok(result);
            }
        }
        self.lines(range, buffer).map(|(_, lines)| work(lines))
    }

    /// The whole lines that begin within the range, and where the first does. The last may lack its
    /// newline, at the end of the file.
    pub(super) fn lines<'b>(&self, range: &Range<u64>, buffer: &'b mut Vec<u8>) -> Result<(u64, &'b [u8]), Error> {
        // One byte more in front: a line begins after a newline.
        let from = range.start.saturating_sub(1);
        let wanted = as_length(range.end.min(self.size).saturating_sub(from));
        buffer.resize(wanted, 0);
        let mut length = self.read(buffer, from)?;
        let start = match first_line(buffer.get(..length).unwrap_or_default(), range) {
            Some(start) if start < length => start,
            _ => return Ok((range.end, &[])),
        };
        // The last line that begins here goes on to its newline.
        while buffer.get(..length).unwrap_or_default().last() != Some(&b'\n') {
            let end = length;
            buffer.resize(end + 4096, 0);
            let more = self.read(buffer.get_mut(end..).unwrap_or_default(), from + end as u64)?;
            let more = buffer.get(end..end + more).unwrap_or_default();
            length = end + memchr(b'\n', more).map_or(more.len(), |newline| newline + 1);
            if length == end {
                break;
            }
        }
        Ok((from + start as u64, buffer.get(start..length).unwrap_or_default()))
    }
}

/// What of these bytes, the file's from `from` on, are the lines that begin within the range; `None`
/// where one of them goes on after the bytes.
fn begun_within<'b>(bytes: &'b [u8], from: u64, range: &Range<u64>) -> Option<&'b [u8]> {
    let start = first_line(bytes, range)?;
    let last = as_length(range.end - from).checked_sub(1)?;
    let end = last + memchr(b'\n', bytes.get(last..)?)? + 1;
    Some(bytes.get(start..end).unwrap_or_default())
}

/// Where the first line begins in bytes that have one more in front of the range.
fn first_line(bytes: &[u8], range: &Range<u64>) -> Option<usize> {
    match range.start {
        0 => Some(0),
        _ => Some(memchr(b'\n', bytes)? + 1),
    }
}

/// Every segment of a log, as large as it is now.
pub(super) fn parts(folder: &Path) -> Result<Vec<Part>, Error> {
    segments(folder)?.into_iter().map(Part::whole).collect()
}

/// Calls `work` with the lines of each block, on several cores, and `take` with what it gives, in the
/// order of the lines: one call at a time, by whichever thread finds one due.
/// Memory does not grow with the log.
pub(super) fn scan<'p, T: Send, E: From<Error> + Send>(
    parts: &'p [Part],
    access: Access,
    work: impl Fn(&[u8]) -> T + Sync,
    take: impl FnMut(&'p Part, T) -> Result<(), E> + Send,
) -> Result<(), E> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (cores, maps) = match access {
        Access::Read => (cores.min(16), Vec::new()),
        // The more windows, the smaller they are, and the more a thread drops of what its neighbors look at (`Mapped`).
        Access::Map => (cores.min(4), parts.iter().map(Part::mapped).collect()),
    };
    let mut blocks = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let Range { start, end } = part.range;
        let (mapped, border) = match maps.get(at) {
            Some(Some((mapped, border))) => (Some(mapped), *border),
            _ => (None, start),
        };
        blocks.extend(steps(start..border, WINDOWS / cores as u64).map(|range| (part, range, mapped)));
        blocks.extend(steps(border..end, BLOCK).map(|range| (part, range, None)));
    }
    let cores = cores.min(blocks.len()).max(1);
    let turns = Turns { begun: 0, taken: 0, early: BTreeMap::new(), take: Some(take), failed: None };
    let (turns, taken) = (Mutex::new(turns), Condvar::new());
    let run = || {
        let mut buffer = Vec::new();
        // The others end as well, and the scope passes the panic on.
        let _alarm = OnPanic(|| {
            if let Ok(mut turns) = turns.lock() {
                turns.taken = blocks.len();
            }
            taken.notify_all();
        });
        // A slow thread holds up the others only once they are far ahead: what they found waits in memory for its turn.
        let is_far_ahead =
            |turns: &mut Turns<_, _, _>| turns.begun >= turns.taken + 2 * cores && turns.failed.is_none();
        while let Some(mut guard) = turns.lock().ok().and_then(|turns| taken.wait_while(turns, is_far_ahead).ok()) {
            let at = guard.begun;
            let Some((part, range, mapped)) = blocks.get(at).filter(|_| guard.failed.is_none()) else { return };
            guard.begun += 1;
            drop(guard);
            let result = part.with_lines(range, *mapped, &mut buffer, &work);
            let Ok(mut guard) = turns.lock() else { return };
            guard.early.insert(at, result);
            // Else another thread is at it, and takes this too.
            let Some(mut take) = guard.take.take() else { continue };
            while let Some((part, result)) = guard.next(&blocks) {
                drop(guard);
                let failed = result.map_err(E::from).and_then(|result| take(part, result)).err();
                let Ok(again) = turns.lock() else { return };
                guard = again;
                guard.failed = failed;
                taken.notify_all();
            }
            guard.take = Some(take);
        }
    };
    let spawned = std::thread::scope(|scope| {
        let threads = if cores > 1 { cores } else { 0 };
        (0..threads).filter(|_| std::thread::Builder::new().spawn_scoped(scope, run).is_ok()).count()
    });
    if spawned == 0 {
        run();
    }
    turns.into_inner().ok().and_then(|turns| turns.failed).map_or(Ok(()), Err)
}

struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// Whose turn it is.
struct Turns<T, F, E> {
    /// So many blocks some thread has begun with.
    begun: usize,
    /// What came of so many was taken.
    taken: usize,
    /// What came of others before its turn.
    early: BTreeMap<usize, Result<T, Error>>,
    /// With the thread that takes, while one does.
    take: Option<F>,
    failed: Option<E>,
}

impl<T, F, E> Turns<T, F, E> {
    /// What is to be taken now, if it is there.
    fn next<'p, B>(&mut self, blocks: &[(&'p Part, Range<u64>, B)]) -> Option<(&'p Part, Result<T, Error>)> {
        let (part, ..) = blocks.get(self.taken).filter(|_| self.failed.is_none())?;
        let result = self.early.remove(&self.taken)?;
        self.taken += 1;
        Some((part, result))
    }
}

/// The range, a step at a time.
pub(super) fn steps(range: Range<u64>, step: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(as_length(step)).map(move |at| at..end.min(at + step))
}

/// Each line of the text that holds what the finder looks for; all of them without one.
pub(super) fn each_line(text: &[u8], finder: Option<&memchr::memmem::Finder<'_>>, mut found: impl FnMut(&[u8])) {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let hit = match finder {
            Some(finder) => finder.find(rest),
            None => Some(0),
        };
        let Some(hit) = hit else { return };
        let start = memrchr(b'\n', rest.get(..hit).unwrap_or_default()).map_or(0, |newline| newline + 1);
        let after = rest.get(hit..).unwrap_or_default();
        let end = memchr(b'\n', after).map_or(rest.len(), |newline| hit + newline + 1);
        found(rest.get(start..end).unwrap_or_default());
        at += end;
    }
}

pub(super) fn as_length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of all lengths, some longer than a block, are each seen once and in order, wherever
    /// the range begins and ends.
    #[test]
    fn each_line_is_seen_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access-2026-03.jsonl");
        let block = as_length(BLOCK);
        let lengths = [0, 1, 70, 5000, 300_000, block - 1, block, block + 1, 2 * block, 0, 0, 12];
        let mut text = Vec::new();
        let mut starts = Vec::new();
        for (number, length) in lengths.iter().cycle().take(40).enumerate() {
            let start = text.len();
            text.extend(format!("{number} ").into_bytes());
            text.resize(text.len() + length, b'x');
            text.push(b'\n');
            starts.push((start, number, text.len()));
        }
        for open in [false, true] {
            let text = if open { &text[..text.len() - 1] } else { &text[..] };
            std::fs::write(&path, text).unwrap();
            let size = text.len() as u64;
            for range in [0..size, 1..size, 5..6, BLOCK..8 * BLOCK, BLOCK - 1..BLOCK + 1, size - 3..size] {
                let mut parts = parts(folder.path()).unwrap();
                parts[0].range = range.clone();
                let work = |lines: &[u8]| {
                    let mut found = Vec::new();
                    each_line(lines, None, |line| {
                        let number = line.split(|&byte| byte == b' ').next().unwrap();
                        found.push((std::str::from_utf8(number).unwrap().parse::<usize>().unwrap(), line.len()));
                    });
                    found
                };
                let begun = starts.iter().filter(|(start, ..)| range.contains(&(*start as u64)));
                let expected: Vec<_> =
                    begun.map(|&(start, number, end)| (number, end.min(text.len()) - start)).collect();
                for access in [Access::Read, Access::Map] {
                    let mut seen = Vec::new();
                    scan(&parts, access, work, |_, found| {
                        seen.extend(found);
                        Ok::<_, Error>(())
                    })
                    .unwrap();
                    assert_eq!(seen, expected, "{range:?} {open} {access:?}");
                }
            }
        }
    }

    /// Lines as a log has them, so that windows of maps end in the midst of lines that they hold.
    #[test]
    fn each_line_is_seen_once_and_in_order_in_maps() {
        let line = |number: usize| format!("{number} {}\n", "x".repeat(number * 7919 % 1000));
        let text: String = (0..60_000).map(line).collect();
        let (_folder, mut parts) = log_of(&text);
        assert!(text.len() as u64 > 2 * WINDOWS);
        for start in [0, 1, 3_000_000, 20_000_001] {
            let at = text[..as_length(start)].rfind('\n').map_or(0, |newline| newline + 1);
            let at = if start == at as u64 { at } else { at + text[at..].find('\n').unwrap() + 1 };
            let mut number = text[at..].split(' ').next().unwrap().parse().unwrap();
            parts[0].range = start..parts[0].size;
            scan(&parts, Access::Map, <[u8]>::to_vec, |_, lines| {
                for found in lines.split_inclusive(|&byte| byte == b'\n') {
                    assert!(found == line(number).as_bytes(), "{start}: line {number}");
                    number += 1;
                }
                Ok::<_, Error>(())
            })
            .unwrap();
            assert_eq!(number, 60_000);
        }
    }

    fn log_of(text: &str) -> (tempfile::TempDir, Vec<Part>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("access-2026-03.jsonl"), text).unwrap();
        let parts = parts(folder.path()).unwrap();
        (folder, parts)
    }

    #[test]
    fn a_scan_of_nothing_ends() {
        let nothing = |_: &Part, _| -> Result<(), Error> { panic!("there are no lines") };
        scan(&[], Access::Map, <[u8]>::len, nothing).unwrap();
        scan(&log_of("").1, Access::Read, <[u8]>::len, nothing).unwrap();
    }

    #[test]
    fn a_segment_that_can_not_be_read_ends_the_scan_in_its_turn() {
        let (_folder, mut parts) = log_of(&"x\n".repeat(2_000_000));
        let broken = Part { file: File::open("/").unwrap(), ..Part::whole(parts[0].path.clone()).unwrap() };
        parts.push(broken);
        let mut seen = 0;
        let result = scan(&parts, Access::Read, <[u8]>::len, |_, length| {
            seen += length;
            Ok::<_, Error>(())
        });
        assert!(result.unwrap_err().to_string().contains("access-2026-03.jsonl"));
        assert_eq!(seen, 4_000_000, "all of the segment before");
    }

    /// Others go on meanwhile, but not far.
    #[test]
    fn what_is_taken_slowly_is_taken_in_order() {
        let (_folder, parts) = log_of(&"x\n".repeat(20_000_000));
        let (begun, mut seen) = (std::sync::atomic::AtomicUsize::new(0), 0);
        let count = |_: &[u8]| begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        scan(&parts, Access::Read, count, |_, _| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            seen += 1;
            let ahead = begun.load(std::sync::atomic::Ordering::Relaxed) - seen;
            assert!(ahead <= 2 * 16 + 16, "{ahead}");
            Ok::<_, Error>(())
        })
        .unwrap();
        assert_eq!(seen, 39);
    }

    #[test]
    fn a_panic_of_one_thread_ends_them_all() {
        let (_folder, parts) = log_of(&"x\n".repeat(60_000_000));
        let panics = |_: &Part, _| -> Result<(), Error> { panic!("as a test wants it") };
        let scan = || scan(&parts, Access::Read, <[u8]>::len, panics);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(scan)).is_err());
    }

    #[test]
    fn a_failure_to_take_ends_the_scan() {
        let (_folder, parts) = log_of(&"x\n".repeat(2_000_000));
        let mut taken = 0;
        let result = scan(&parts, Access::Read, <[u8]>::len, |_, _| {
            taken += 1;
            match taken {
                3 => Err(Error::file("read", "enough", nix::errno::Errno::EPIPE)),
                _ => Ok(()),
            }
        });
        assert!(result.is_err() && taken == 3);
    }
}
