//! Syncs that are shared: one fdatasync(2) serves all whose records were written before it began.
//!
//! The file `synced` beside the segments counts the syncs. Whoever gets its lock leads: it writes the
//! next number as `started`, syncs, and only then writes the number as `done`. Whoever does not get
//! the lock has read `started` once its own record was written. A sync with a higher number began
//! after that, and what fdatasync(2) does for a file it does whoever calls it: when such a one is
//! done, the record is on stable storage. If there is none, sooner or later one leads oneself. The
//! numbers mean nothing but to those who wait right now, so that the file need not outlive anything.
//!
//! The kernel tells of a lost write only those who had the file open by then, and takes it for
//! written from then on (fsync(2)). Syncs after a failed one therefore count only for records that
//! were begun later: a leader that finds that the one before was never done, for it failed or died,
//! counts that in `failed`, and who sees another number there than before its write leads itself, and
//! is told by the kernel. (Who syncs without the lock, for the leader was stopped, tells nobody.)
//!
//! Whoever can write `synced` can write the log.

use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use nix::fcntl::openat;
use nix::sys::stat::Mode;

use crate::instance::{Access, CREATE_FLAGS, check_file};
use crate::vault::sha256;

/// How long to wait before looking again; each time a quarter longer.
const PAUSE: Duration = Duration::from_micros(50);
/// Half a second of waiting in all: whoever leads was stopped.
const LONGEST: Duration = Duration::from_millis(100);

/// What there was before a record was written.
#[derive(Debug)]
pub(super) struct Before {
    /// `None` where it can't be had, or is not to be trusted: each syncs for itself.
    file: Option<File>,
    failed: Option<u64>,
    segment: [u64; 2],
}

/// What the file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Synced {
    /// Device and inode of what was synced last.
    segment: [u64; 2],
    started: u64,
    done: u64,
    failed: u64,
}

impl Before {
    /// Looks, before a record is written to the segment.
    pub(super) fn look(folder: &OwnedFd, segment: &Metadata) -> Self {
        const NAME: &str = "synced";
        let opened = openat(folder, NAME, CREATE_FLAGS, Mode::from_bits_truncate(0o600)).ok().map(File::from);
        let file = opened.filter(|file| check_file(Path::new(NAME), file, Access::OwnerOnly).is_ok());
        let failed = file.as_ref().and_then(Synced::read).map(|synced| synced.failed);
        Self { file, failed, segment: [segment.dev(), segment.ino()] }
    }

    /// Returns once what was written is on stable storage.
    pub(super) fn sync(self, segment: &File) -> std::io::Result<()> {
        // The lock goes with the file.
        let Some(file) = &self.file else { return segment.sync_data() };
        fence(Ordering::SeqCst);
        let started = Synced::read(file).map(|synced| synced.started);
        let mut pause = PAUSE;
        while pause < LONGEST {
            let leads = file.try_lock().is_ok();
            let synced = Synced::read(file);
            if started.is_some_and(|started| synced.is_some_and(|synced| self.is_covered(started, synced))) {
                return Ok(());
            }
            if leads {
                return synced.unwrap_or_default().lead(file, segment, self.segment);
            }
            std::thread::sleep(pause);
            pause += pause / 4;
        }
        segment.sync_data()
    }

    fn is_covered(&self, started: u64, synced: Synced) -> bool {
        let began_later = synced.done.wrapping_sub(started).cast_signed() > 0;
        began_later && synced.segment == self.segment && Some(synced.failed) == self.failed
    }
}

impl Synced {
    /// Syncs for all who have written by now.
    fn lead(mut self, file: &File, segment: &File, identity: [u64; 2]) -> std::io::Result<()> {
        if self.done != self.started {
            self.failed = self.failed.wrapping_add(1);
        }
        self.started = self.started.wrapping_add(1);
        // Where this fails, it served nobody else.
        let _ = self.write(file);
        fence(Ordering::SeqCst);
        segment.sync_data()?;
        // Whoever put something else there does not know when this sync began.
        if Self::read(file) == Some(self) {
            let _ = Self { segment: identity, done: self.started, ..self }.write(file);
        }
        Ok(())
    }

    /// `None` where nothing was written yet, somebody is just writing, or the file is damaged.
    fn read(file: &File) -> Option<Self> {
        let mut bytes = [[0; 8]; 9];
        file.read_exact_at(bytes.as_flattened_mut(), 0).ok()?;
        let [device, inode, started, done, failed, ..] = bytes.map(u64::from_le_bytes);
        let synced = Self { segment: [device, inode], started, done, failed };
        (synced.bytes() == bytes.as_flattened()).then_some(synced)
    }

    fn write(self, file: &File) -> std::io::Result<()> {
        file.write_all_at(&self.bytes(), 0)
    }

    /// Numbers of 8 bytes, little-endian, and their SHA-256.
    fn bytes(self) -> Vec<u8> {
        let [device, inode] = self.segment;
        let numbers = [device, inode, self.started, self.done, self.failed].map(u64::to_le_bytes);
        [numbers.as_flattened(), &sha256(numbers.as_flattened())].concat()
    }
}
