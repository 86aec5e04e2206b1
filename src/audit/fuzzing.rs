//! See [`crate::fuzzing`].

use std::path::Path;

use super::record::{Record, split_mac};
use super::{Error, Log, filter, tail};

/// A log in this folder.
pub fn log(folder: &Path) -> Result<Log, Error> {
    Log::at(folder)
}

/// Whether a reader of one line would take it for a record.
pub fn is_record(line: &[u8]) -> bool {
    let _ = filter::time_of_record(line);
    split_mac(line).is_some() && Record::parse(line).is_some()
}

/// What an appender finds at the end of a segment: the number of the last record, and how many
/// bytes after it are none.
pub fn end(segment: &Path) -> Result<(Option<u64>, u64), Error> {
    let tail = tail::read_path(segment)?;
    Ok((tail.head.map(|head| head.seq), tail.torn.map_or(0, |torn| torn.bytes)))
}
