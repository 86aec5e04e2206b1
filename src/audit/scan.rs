//! Reads all lines of a log in blocks, on all cores, and hands over what comes of them in order.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use memchr::{memchr, memrchr};

use super::Error;
use super::segments::segments;
use crate::instance::read_up_to;

/// How much is read at once: as measured, less costs more wake-ups, and more leaves a core's cache.
const BLOCK: u64 = 1 << 20;

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

    /// The whole lines that begin within the range. The last may lack its newline, at the end of
    /// the file.
    fn lines<'b>(&self, range: &Range<u64>, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Error> {
        // One byte more in front: a line begins after a newline.
        let from = range.start.saturating_sub(1);
        let wanted = as_length(range.end.min(self.size).saturating_sub(from));
        buffer.resize(wanted, 0);
        let mut length = self.read(buffer, from)?;
        let start = match range.start {
            0 => 0,
            _ => match memchr(b'\n', buffer.get(..length).unwrap_or_default()) {
                Some(newline) => newline + 1,
                None => return Ok(&[]),
            },
        };
        if start >= length {
            return Ok(&[]);
        }
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
        Ok(buffer.get(start..length).unwrap_or_default())
    }
}

/// Every segment of a log, as large as it is now.
pub(super) fn parts(folder: &Path) -> Result<Vec<Part>, Error> {
    segments(folder)?.into_iter().map(Part::whole).collect()
}

/// Calls `work` with the lines of each block, on all cores, and `take` with what it gives, in the
/// order of the lines. Memory does not grow with the log.
pub(super) fn scan<'p, T: Send, E: From<Error>>(
    parts: &'p [Part],
    work: impl Fn(&[u8]) -> T + Sync,
    mut take: impl FnMut(&'p Part, T) -> Result<(), E>,
) -> Result<(), E> {
    let blocks: Vec<(&Part, Range<u64>)> = parts.iter().flat_map(blocks).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(blocks.len()).min(16);
    if cores <= 1 {
        let mut buffer = Vec::new();
        return blocks.into_iter().try_for_each(|(part, range)| take(part, work(part.lines(&range, &mut buffer)?)));
    }
    std::thread::scope(|scope| {
        let (work, blocks) = (&work, &blocks);
        // Worker n has every block of its turn, so that results are in order when taken in turn.
        let results: Vec<_> = (0..cores)
            .map(|turn| {
                let (sender, receiver) = sync_channel(4);
                scope.spawn(move || {
                    let mut buffer = Vec::new();
                    for (part, range) in blocks.iter().skip(turn).step_by(cores) {
                        let result = part.lines(range, &mut buffer).map(work);
                        // Nobody wants it once `take` has failed.
                        if sender.send(result).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for ((part, _), result) in blocks.iter().zip(results.iter().cycle()) {
            // A worker that is gone has panicked, and the scope passes that on.
            let Ok(result) = result.recv() else { return Ok(()) };
            take(part, result?)?;
        }
        Ok(())
    })
}

fn blocks(part: &Part) -> impl Iterator<Item = (&Part, Range<u64>)> {
    let Range { start, end } = part.range;
    let starts = (start..end).step_by(usize::try_from(BLOCK).unwrap_or(usize::MAX));
    starts.map(move |at| (part, at..end.min(at + BLOCK)))
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
            starts.push((text.len() as u64, number));
            text.extend(format!("{number} ").into_bytes());
            text.resize(text.len() + length, b'x');
            text.push(b'\n');
        }
        for open in [false, true] {
            let text = if open { &text[..text.len() - 1] } else { &text[..] };
            std::fs::write(&path, text).unwrap();
            let size = text.len() as u64;
            for range in [0..size, 1..size, 5..6, BLOCK..8 * BLOCK, BLOCK - 1..BLOCK + 1, size - 3..size] {
                let mut parts = parts(folder.path()).unwrap();
                parts[0].range = range.clone();
                let mut seen = Vec::new();
                let work = |lines: &[u8]| {
                    let mut found = Vec::new();
                    each_line(lines, None, |line| {
                        let number = line.split(|&byte| byte == b' ').next().unwrap();
                        found.push(std::str::from_utf8(number).unwrap().parse::<usize>().unwrap());
                    });
                    found
                };
                scan(&parts, work, |_, found| {
                    seen.extend(found);
                    Ok::<_, Error>(())
                })
                .unwrap();
                let expected: Vec<usize> =
                    starts.iter().filter(|(start, _)| range.contains(start)).map(|(_, number)| *number).collect();
                assert_eq!(seen, expected, "{range:?} {open}");
            }
        }
    }

    #[test]
    fn a_failure_to_take_ends_the_scan() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("access-2026-03.jsonl"), "x\n".repeat(2_000_000)).unwrap();
        let parts = parts(folder.path()).unwrap();
        let mut taken = 0;
        let result = scan(&parts, <[u8]>::len, |_, _| {
            taken += 1;
            match taken {
                3 => Err(Error::file("read", "enough", nix::errno::Errno::EPIPE)),
                _ => Ok(()),
            }
        });
        assert!(result.is_err() && taken == 3);
    }
}
