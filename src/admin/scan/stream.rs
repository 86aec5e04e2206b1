//! Searches one file or object as it is read, in bounded memory.

use std::io::Read;

use memchr::memchr_iter;

use super::sieve::Sieve;

/// How much is read at once: it stays in a core's own cache.
const CHUNK: usize = 1 << 18;
/// How much is looked at to tell text from other data, as git and grep do.
const HEAD: usize = 8000;

/// Where a form stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: u64,
    /// Counted from 1; `None` in what is no text.
    pub(super) line: Option<u64>,
    /// The form's number.
    pub(super) form: usize,
}

/// Reads and searches; reusable, for its buffer.
pub(super) struct Reader<'s> {
    sieve: &'s Sieve<'s>,
    buffer: Vec<u8>,
    overlap: usize,
}

impl<'s> Reader<'s> {
    pub(super) fn new(sieve: &'s Sieve<'s>) -> Self {
        let overlap = sieve.longest().saturating_sub(1);
        Self { sieve, buffer: vec![0; CHUNK + overlap], overlap }
    }

    /// Reads to the end. What was found comes in the order of its places.
    pub(super) fn search(&mut self, mut source: impl Read) -> std::io::Result<Vec<Found>> {
        let mut all = Vec::new();
        let (mut kept, mut offset, mut lines, mut is_text) = (0, 0u64, 1u64, true);
        loop {
            let length = fill(&mut source, &mut self.buffer, kept)?;
            if length == kept {
                return Ok(all);
            }
            let text = self.buffer.get(..length).unwrap_or_default();
            if offset == 0 && kept == 0 {
                is_text = memchr::memchr(0, text.get(..HEAD).unwrap_or(text)).is_none();
            }
            let mut found: Vec<(usize, usize)> = Vec::new();
            self.sieve.search(text, |start, form| found.push((start, form)));
            found.sort_unstable();
            let (mut counted, mut line) = (0, lines);
            for (start, form) in found {
                line += newlines(text, counted, start);
                counted = start;
                all.push(Found { offset: offset + start as u64, line: is_text.then_some(line), form });
            }
            // A form may begin in the last bytes and go on in the next chunk. What lies within them
            // whole is found again there, and counted once in the end.
            kept = self.overlap.min(length);
            let done = length - kept;
            lines += newlines(text, 0, done);
            offset += done as u64;
            self.buffer.copy_within(done..length, 0);
        }
    }
}

fn newlines(text: &[u8], from: usize, to: usize) -> u64 {
    memchr_iter(b'\n', text.get(from..to).unwrap_or_default()).count() as u64
}

/// Reads behind what is kept until the buffer is full or the source ends; up to where it is filled.
fn fill(source: &mut impl Read, buffer: &mut [u8], kept: usize) -> std::io::Result<usize> {
    let mut length = kept;
    while length < buffer.len() {
        match source.read(buffer.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Arena;

    #[test]
    fn forms_are_found_across_chunks_and_lines_are_counted() {
        let arena = Arena::new().unwrap();
        let form = b"a-value-of-20-bytes!";
        let sieve = Sieve::new(vec![form], &arena).unwrap();
        let mut reader = Reader::new(&sieve);
        for shift in 0..50 {
            let mut text = b"line\n".repeat((CHUNK - 25 + shift) / 5);
            text.resize(CHUNK - 25 + shift, b'.');
            let first = text.len();
            text.extend_from_slice(form);
            text.extend(b"\n".repeat(CHUNK));
            let second = text.len();
            text.extend_from_slice(form);
            let line = 1 + text[..first].iter().filter(|&&byte| byte == b'\n').count() as u64;
            let mut found = reader.search(&text[..]).unwrap();
            found.dedup();
            let expected = [(first, line), (second, line + CHUNK as u64)];
            let expected = expected.map(|(at, line)| Found { offset: at as u64, line: Some(line), form: 0 });
            assert_eq!(found, expected, "{shift}");
        }
        let found = reader.search(&b"\0 a-value-of-20-bytes!"[..]).unwrap();
        assert_eq!(found, [Found { offset: 2, line: None, form: 0 }]);
        assert_eq!(reader.search(&b"short"[..]).unwrap(), []);
    }
}
