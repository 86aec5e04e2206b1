//! The end of a segment: what the next line continues from, and what a dead writer left.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::record::{Head, Record};
use crate::vault::sha256;

/// What stands at the end of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last whole record; `None` in a segment without one.
    pub(super) head: Option<Head>,
    /// What follows it and is no record: what a dead writer left.
    pub(super) torn: Option<Torn>,
    /// Whether the last newline is missing.
    pub(super) open: bool,
}

/// The rest that a writer left which died in the middle of a line, without a final newline. More
/// than one line where the next writer died while it recovered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) hash: [u8; 32],
}

impl Torn {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, hash: sha256(bytes) }
    }
}

/// How much is read first; records have some 600 bytes.
const WINDOW: u64 = 4096;

/// The same of a file that is only read.
#[cfg(feature = "admin")]
pub(super) fn read_path(path: &std::path::Path) -> Result<Tail, super::Error> {
    let cant_read = |error| super::Error::file("read", path, error);
    read(&File::open(path).map_err(cant_read)?).map_err(cant_read)
}

/// Reads back from the end until a whole record is found, or the start.
pub(super) fn read(file: &File) -> std::io::Result<Tail> {
    let size = file.metadata()?.len();
    let mut window = WINDOW;
    loop {
        let start = size.saturating_sub(window);
        let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, start)?;
        if let Some(tail) = parse(&bytes, start == 0) {
            return Ok(tail);
        }
        window = window.saturating_mul(4);
    }
}

/// `None` where the bytes hold no whole record, and more can be read.
fn parse(bytes: &[u8], from_start: bool) -> Option<Tail> {
    let (closed, open) = match bytes.strip_suffix(b"\n") {
        Some(closed) => (closed, false),
        None => (bytes, true),
    };
    if bytes.is_empty() {
        return Some(Tail { head: None, torn: None, open: false });
    }
    let mut rest = closed;
    loop {
        let at = rest.iter().rposition(|&byte| byte == b'\n');
        let line = match at {
            Some(at) => rest.get(at + 1..)?,
            None if from_start => rest,
            None => return None,
        };
        // A record that lacks nothing but its newline counts: once it is closed, verify sees it.
        if let Some(Record { seq, time, .. }) = Record::parse(line) {
            let torn = closed.get(rest.len() + 1..).map(Torn::of);
            return Some(Tail { head: Some(Head { seq, time, hash: sha256(line) }), torn, open });
        }
        match at {
            Some(at) => rest = rest.get(..at)?,
            None => return Some(Tail { head: None, torn: Some(Torn::of(closed)), open }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::write_line;
    use super::super::{Entry, Event, Origin, Outcome};
    use super::*;

    fn lines(count: usize) -> (Vec<u8>, Head) {
        let mut out = Vec::new();
        let mut head = Head { time: "2026-03-07T09:15:02.482113Z".into(), ..Head::start() };
        for _ in 0..count {
            let entry = Entry::new(Event::SECRET_ACCESS, Outcome::Denied);
            write_line(&mut out, &entry, &mut head, &Origin::of_this_process(), "i", None).unwrap();
        }
        (out, head)
    }

    fn tail_of(bytes: &[u8]) -> Tail {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        read(&file).unwrap()
    }

    #[test]
    fn the_head_is_the_last_whole_record() {
        assert_eq!(tail_of(b""), Tail { head: None, torn: None, open: false });
        for count in [1, 2, 50] {
            let (out, head) = lines(count);
            assert_eq!(tail_of(&out), Tail { head: Some(head), torn: None, open: false });
        }
    }

    #[test]
    fn every_cut_of_the_last_line_is_torn() {
        let (out, head) = lines(2);
        let first = out.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for end in first + 1..out.len() - 1 {
            let tail = tail_of(&out[..end]);
            assert_eq!((tail.head.unwrap().seq, tail.open), (1, true));
            assert_eq!(tail.torn.unwrap(), Torn { bytes: (end - first) as u64, hash: sha256(&out[first..end]) });
        }
        // Only the newline is missing.
        let whole = tail_of(&out[..out.len() - 1]);
        assert_eq!(whole, Tail { head: Some(head.clone()), torn: None, open: true });
        assert_eq!(tail_of(&out).head, Some(head));
    }

    /// Found by fuzzing: the records after it went to `access-zzzz-zz.jsonl`, which nobody reads.
    #[test]
    fn a_forged_line_does_not_choose_where_the_log_goes_on() {
        let (whole, head) = lines(1);
        let forged = String::from_utf8(lines(2).0).unwrap().replace("2026-03-07T", "zzzz-zz/../");
        let tail = tail_of(&[&whole[..], forged.as_bytes()].concat());
        assert_eq!(tail.head, Some(head));
        assert_eq!(tail.torn.unwrap().bytes, forged.len() as u64 - 1);
    }

    #[test]
    fn a_long_torn_line_and_a_segment_of_nothing_else_are_read() {
        let (mut out, head) = lines(1);
        out.extend_from_slice(&[b'x'; 100_000]);
        let tail = tail_of(&out);
        assert_eq!(tail.head, Some(head));
        assert_eq!(tail.torn.unwrap().bytes, 100_000);
        assert_eq!(tail_of(b"{\"v\":1").head, None);
    }
}
