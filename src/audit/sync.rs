//! Syncs that are shared: one fdatasync(2) serves all whose records were written before it began.
//!
//! The file `synced` beside the segments counts the syncs. Whoever gets its lock leads: it writes the
//! next number there as `started`, syncs, and then writes that number as `done`. Whoever does not get
//! the lock has read `started` after its own write. A sync with a higher number began after that, and
//! what fdatasync(2) does for a file it does whoever calls it: when such a one is done, the record is
//! on stable storage. Where none comes about, one gets the lock and leads. A leader that died has
//! said nothing, and the kernel lets go of its lock; one that was stopped is not waited for.
//!
//! The kernel tells of a write that failed only those who had the file open by then, each once, and
//! takes what was lost for written (fsync(2)). So a sync after one that failed proves nothing about a
//! record that was begun before. The leader that finds the last sync not done, for it failed or its
//! leader died, counts that in `failed`; and who finds another count there than before its own write
//! leads, to be told itself. Who is told of a failure without the lock empties the file: what comes
//! next has another count.
//!
//! The numbers mean something only to those who wait right now: no content of the file does harm, but
//! that of somebody who writes it meanwhile on purpose, and could as well write the log.

use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::instance::open_or_make_at;
use crate::vault::sha256;

/// How often to look at once, while others run, before sleeping: fewer than a fast disk's sync takes
/// leave the processors idle, and being woken takes as long as a sync.
const LOOKS: u32 = 50;
/// By how much longer to sleep each time then.
const NAP: Duration = Duration::from_micros(100);
/// After half a second of sleeping, whoever leads was stopped.
const NAPS: u32 = 100;

/// What was known before a record was written.
#[derive(Debug)]
pub(super) struct Before {
    /// `None` where it can't be had, or others could write it: each syncs for itself.
    file: Option<File>,
    failed: Option<u64>,
    segment: [u64; 2],
}

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Synced {
    /// Device and inode of what was synced as number `done`.
    segment: [u64; 2],
    started: u64,
    done: u64,
    failed: u64,
}

impl Before {
    /// To be called before a record is written to the segment.
    pub(super) fn look(folder: &OwnedFd, segment: &Metadata) -> Self {
        let file = open_or_make_at(folder, "synced").ok();
        let failed = file.as_ref().and_then(Synced::read).map(|synced| synced.failed);
        Self { file, failed, segment: [segment.dev(), segment.ino()] }
    }

    /// Returns once what was written is on stable storage.
    pub(super) fn sync(self, segment: &File) -> std::io::Result<()> {
        let Some(file) = &self.file else { return segment.sync_data() };
        // Either this read comes before a leader's write, or that leader's sync after this one's write.
        fence(Ordering::SeqCst);
        let started = Synced::read(file).map(|synced| synced.started);
        for look in 0..LOOKS + NAPS {
            // It goes with the file, which nobody else has open.
            let leads = file.try_lock().is_ok();
            let synced = Synced::read(file);
            if self.is_covered(started, synced) {
                return Ok(());
            }
            if leads {
                return match synced.map_or_else(Synced::anew, Ok) {
                    Ok(synced) => synced.lead(file, segment, self.segment),
                    Err(_) => segment.sync_data(),
                };
            }
            match look.checked_sub(LOOKS) {
                None => std::thread::yield_now(),
                Some(nap) => std::thread::sleep(NAP * nap),
            }
        }
        segment.sync_data().inspect_err(|_| drop(file.set_len(0)))
    }

    /// By a sync that began when this much was started.
    fn is_covered(&self, started: Option<u64>, synced: Option<Synced>) -> bool {
        let (Some(started), Some(synced), Some(failed)) = (started, synced, self.failed) else { return false };
        let is_later = synced.done.wrapping_sub(started).cast_signed() > 0;
        is_later && synced.segment == self.segment && synced.failed == failed
    }
}

impl Synced {
    /// Nobody's count of failures from before. An error where there is no randomness.
    fn anew() -> std::io::Result<Self> {
        let failed = getrandom::u64().map_err(std::io::Error::other)?;
        Ok(Self { segment: [0; 2], started: 0, done: 0, failed })
    }

    /// Syncs for all who have written by now.
    fn lead(mut self, file: &File, segment: &File, identity: [u64; 2]) -> std::io::Result<()> {
        if self.done != self.started {
            self.failed = self.failed.wrapping_add(1);
        }
        self.started = self.started.wrapping_add(1);
        // Where this fails, the sync serves nobody else, and nobody would learn that it failed.
        let _ = file.write_all_at(&self.bytes(), 0).or_else(|_| file.set_len(0));
        fence(Ordering::SeqCst);
        segment.sync_data()?;
        self.end(file, identity);
        Ok(())
    }

    /// Who has read something else meanwhile, as a copy that was put back, does not know when this sync began.
    fn end(self, file: &File, identity: [u64; 2]) {
        if Self::read(file) == Some(self) {
            let done = Self { segment: identity, done: self.started, ..self };
            let _ = file.write_all_at(&done.bytes(), 0);
        }
    }

    /// `None` where nothing was written yet, somebody is just writing, or the file is damaged.
    fn read(file: &File) -> Option<Self> {
        let mut bytes = [[0; 8]; 9];
        file.read_exact_at(bytes.as_flattened_mut(), 0).ok()?;
        let [device, inode, started, done, failed, ..] = bytes.map(u64::from_le_bytes);
        let synced = Self { segment: [device, inode], started, done, failed };
        (synced.bytes() == bytes.as_flattened()).then_some(synced)
    }

    /// Numbers of 8 bytes, little-endian, and the SHA-256 of these.
    fn bytes(self) -> Vec<u8> {
        let [device, inode] = self.segment;
        let numbers = [device, inode, self.started, self.done, self.failed].map(u64::to_le_bytes);
        [numbers.as_flattened(), &sha256(numbers.as_flattened())].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    /// A folder with a segment.
    struct Folder {
        folder: tempfile::TempDir,
        segment: File,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("access-2026-03.jsonl");
            Self { segment: File::options().read(true).append(true).create(true).open(path).unwrap(), folder }
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("synced")
        }

        fn identity(&self) -> [u64; 2] {
            let metadata = self.segment.metadata().unwrap();
            [metadata.dev(), metadata.ino()]
        }

        fn look(&self) -> Before {
            let folder = File::open(self.folder.path()).unwrap().into();
            Before::look(&folder, &self.segment.metadata().unwrap())
        }

        fn sync(&self) -> std::io::Result<()> {
            self.look().sync(&self.segment)
        }

        /// The file as another process has it.
        fn open(&self) -> File {
            File::options().read(true).write(true).create(true).truncate(false).open(self.path()).unwrap()
        }

        /// What a leader would have written.
        fn put(&self, started: u64, done: u64, failed: u64) {
            let synced = Synced { segment: self.identity(), started, done, failed };
            self.open().write_all_at(&synced.bytes(), 0).unwrap();
        }

        fn numbers(&self) -> Option<(u64, u64, u64)> {
            Synced::read(&self.open()).map(|synced| (synced.started, synced.done, synced.failed))
        }
    }

    /// fdatasync(2) refuses a pipe.
    fn failing() -> File {
        File::from(OwnedFd::from(std::io::pipe().unwrap().1))
    }

    /// What becomes of one that waits while another leads, who then writes this and lets go.
    fn waits(folder: &Folder, then: impl FnOnce()) {
        let leader = folder.open();
        leader.lock().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| folder.sync().unwrap());
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished(), "the leader holds the lock");
            then();
            leader.unlock().unwrap();
        });
    }

    #[test]
    fn one_alone_leads_each_time() {
        let folder = Folder::new();
        for number in 1..4 {
            folder.sync().unwrap();
            let (started, done, _) = folder.numbers().unwrap();
            assert_eq!((started, done), (number, number));
        }
        assert_eq!(Synced::read(&folder.open()).unwrap().segment, folder.identity());
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_sync_counts_that_began_after_the_write_and_is_done() {
        let folder = Folder::new();
        let before = Before { failed: Some(3), ..folder.look() };
        let synced = Synced { segment: folder.identity(), started: 8, done: 8, failed: 3 };
        assert!(before.is_covered(Some(7), Some(synced)));
        assert!(before.is_covered(Some(7), Some(Synced { started: 9, ..synced })), "the next one runs");
        assert!(before.is_covered(Some(u64::MAX), Some(Synced { started: 0, done: 0, ..synced })), "numbers go round");
        let [device, inode] = folder.identity();
        for (what, started, synced) in [
            ("it ran when the record was written", Some(8), Some(synced)),
            ("it was done before", Some(9), Some(synced)),
            ("it is not done", Some(7), Some(Synced { done: 7, ..synced })),
            ("one failed meanwhile", Some(7), Some(Synced { failed: 4, ..synced })),
            ("of another segment", Some(7), Some(Synced { segment: [device, inode + 1], ..synced })),
            ("of another disk", Some(7), Some(Synced { segment: [device + 1, inode], ..synced })),
            ("numbers went round since", Some(0), Some(Synced { started: 0, done: u64::MAX, ..synced })),
            ("the file is damaged", Some(7), None),
            ("the file was damaged", None, Some(synced)),
        ] {
            assert!(!before.is_covered(started, synced), "{what}");
        }
        assert!(!Before { failed: None, ..before }.is_covered(Some(7), Some(synced)), "it was damaged before");
    }

    #[test]
    fn who_waits_goes_on_when_another_has_done_it() {
        let folder = Folder::new();
        folder.put(5, 4, 0);
        waits(&folder, || folder.put(6, 6, 0));
        assert_eq!(folder.numbers(), Some((6, 6, 0)), "nobody else has synced");
    }

    #[test]
    fn who_waits_leads_when_another_has_not() {
        for (what, then, expected) in [
            ("it began before the write", Some((5, 5, 0)), (6, 6, 0)),
            ("one has failed", Some((7, 7, 1)), (8, 8, 1)),
            ("it died", None, (6, 6, 1)),
        ] {
            let folder = Folder::new();
            folder.put(5, 4, 0);
            waits(&folder, || {
                if let Some((started, done, failed)) = then {
                    folder.put(started, done, failed);
                }
            });
            assert_eq!(folder.numbers(), Some(expected), "{what}");
        }
    }

    #[test]
    fn a_sync_that_failed_is_told_and_makes_the_next_ones_count_for_later_records_only() {
        let folder = Folder::new();
        folder.put(1, 1, 0);
        let waiting = folder.look();
        assert!(folder.look().sync(&failing()).is_err());
        assert_eq!(folder.numbers(), Some((2, 1, 0)), "it is not done");
        folder.sync().unwrap();
        folder.sync().unwrap();
        assert_eq!(folder.numbers(), Some((4, 4, 1)));
        let synced = Synced::read(&folder.open());
        assert!(!waiting.is_covered(Some(1), synced) && folder.look().is_covered(Some(1), synced));
    }

    #[test]
    fn a_leader_that_was_stopped_holds_nobody_up() {
        let folder = Folder::new();
        folder.put(5, 4, 0);
        let leader = folder.open();
        leader.lock().unwrap();
        let start = Instant::now();
        folder.sync().unwrap();
        assert_eq!(folder.numbers(), Some((5, 4, 0)), "written by leaders alone");
        assert!(folder.look().sync(&failing()).is_err(), "each syncs for itself");
        assert!(start.elapsed() < Duration::from_secs(5));
        // The leader, once it goes on, does not know of this failure, nor does whoever leads next.
        Synced { segment: folder.identity(), started: 5, done: 4, failed: 0 }.end(&folder.open(), folder.identity());
        assert_eq!(folder.numbers(), None);
        drop(leader);
        folder.sync().unwrap();
        assert!(folder.numbers().is_some_and(|(started, done, failed)| (started, done) == (1, 1) && failed > 1));
    }

    #[test]
    fn half_a_change_is_none() {
        let folder = Folder::new();
        let file = folder.open();
        let old = Synced { started: 5, ..Synced::anew().unwrap() };
        let new = Synced { started: 6, done: 5, ..old };
        file.write_all_at(&new.bytes(), 0).unwrap();
        assert_eq!(Synced::read(&file), Some(new));
        for at in [24, 30, 40, 71] {
            file.write_all_at(&old.bytes()[..at], 0).unwrap();
            assert_eq!(Synced::read(&file), None, "{at}");
            file.write_all_at(&new.bytes(), 0).unwrap();
        }
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        for damage in [vec![], vec![0; 72], vec![0xff; 72], vec![b'x'; 10], vec![0; 100_000]] {
            let folder = Folder::new();
            std::fs::write(folder.path(), &damage).unwrap();
            assert!(folder.look().sync(&failing()).is_err(), "nothing is believed");
            let (started, done, failed) = folder.numbers().unwrap();
            assert!((started, done) == (1, 0) && failed != 0, "{damage:?}");
            folder.sync().unwrap();
            assert_eq!(folder.numbers(), Some((2, 2, failed.wrapping_add(1))), "{damage:?}");
        }
    }

    #[test]
    fn without_a_file_each_syncs_for_itself() {
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        elsewhere.as_file().write_all(b"untouched").unwrap();
        type Make<'m> = &'m dyn Fn(&Path);
        let make: [(&str, Make<'_>); 4] = [
            ("a link", &|path| symlink(elsewhere.path(), path).unwrap()),
            ("a folder", &|path| std::fs::create_dir(path).unwrap()),
            ("a pipe", &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
            ("others can write it", &|path| {
                std::fs::write(path, "").unwrap();
                std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
            }),
        ];
        for (what, make) in make {
            let folder = Folder::new();
            make(&folder.path());
            let before = folder.look();
            assert!(before.file.is_none(), "{what}");
            before.sync(&folder.segment).unwrap();
            assert!(folder.look().sync(&failing()).is_err(), "{what}");
        }
        assert_eq!(std::fs::read(elsewhere.path()).unwrap(), b"untouched");
    }

    #[test]
    fn who_can_not_say_when_it_began_serves_nobody() {
        let folder = Folder::new();
        folder.put(5, 5, 0);
        let synced = Synced::read(&folder.open()).unwrap();
        synced.lead(&File::open(folder.path()).unwrap(), &folder.segment, folder.identity()).unwrap();
        let begun = Synced { started: 6, ..synced };
        begun.end(&folder.open(), folder.identity());
        assert_eq!(folder.numbers(), Some((5, 5, 0)), "the start could not be written");
        folder.put(3, 3, 0);
        begun.end(&folder.open(), folder.identity());
        assert_eq!(folder.numbers(), Some((3, 3, 0)), "a copy was put back");
        folder.put(6, 5, 0);
        begun.end(&folder.open(), folder.identity());
        assert_eq!(folder.numbers(), Some((6, 6, 0)));
    }
}
