//! What only people do with the log as it grows: ask whether it can, and hold it still.

use super::append::Lock;
use super::{Entry, Error, Log, Origin};
use crate::vault::LogKey;

/// The log, locked by this process.
#[derive(Debug)]
pub struct Hold<'l> {
    log: &'l Log,
    _lock: Lock,
}

impl Log {
    /// Whether a record could be written now, as far as can be told without writing one.
    pub fn check_writable(&self) -> Result<(), Error> {
        let _lock = self.lock()?;
        let end = self.end()?;
        self.open_segment(&end.name).map(|_| ())
    }

    /// Keeps others from appending, until it is dropped.
    pub fn hold(&self) -> Result<Hold<'_>, Error> {
        Ok(Hold { log: self, _lock: self.lock()? })
    }
}

impl Hold<'_> {
    /// Number and hash of the last whole line; 0 and zeros where there is none.
    pub fn last(&self) -> Result<(u64, [u8; 32]), Error> {
        let end = self.log.end()?;
        Ok((end.head.seq, end.head.hash))
    }

    /// Appends one entry, synced, and lets go.
    pub fn append(self, entry: &Entry<'_>, key: &LogKey<'_>) -> Result<(), Error> {
        let written = self.log.append_locked(&Origin::of_this_process(), std::slice::from_ref(entry), Some(key))?;
        written.sync()
    }
}
