//! Appending: under a lock, in one write, synced before it is acknowledged.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::record::{Entry, Event, Head, Outcome, write_line};
use super::segments::{name_for, names_in};
use super::sync::Before;
use super::tail::{self, Torn};
use super::{Error, Origin};
use crate::instance::{self, AuditSync, Instance};
use crate::policy::SecretName;
use crate::vault::{AuditKey, LogKey, Secret, sha256};

/// The log of one instance. Its folder is held open, so that it can be written even when the path
/// to it leads elsewhere by then.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    folder: OwnedFd,
    instance: String,
    syncs: bool,
    held: RefCell<Option<Held>>,
}

/// The segment that was written last, for the case that privileges were given up since and the
/// folder can't be read any more.
#[derive(Debug)]
struct Held {
    name: String,
    file: File,
    /// Of the folder: it changes when another segment is begun.
    changed: SystemTime,
}

/// Proof that the grants of these secrets stand on stable storage. Only [`Log::grant`] makes one.
#[derive(Debug)]
pub struct Recorded {
    granted: Vec<(SecretName, u32)>,
}

impl Recorded {
    /// Whether the access to this version of the secret was recorded.
    pub fn covers(&self, secret: &Secret<'_>) -> bool {
        self.granted.iter().any(|(name, version)| name == secret.name() && *version == secret.version())
    }
}

impl Log {
    /// Opens the folder that the configuration names.
    pub fn open(instance: &Instance) -> Result<Self, Error> {
        let folder = instance::open_folder(&instance.audit)?;
        let id = instance.id.to_string();
        let (path, syncs) = (instance.audit.clone(), instance.policy.audit == AuditSync::Always);
        Ok(Self { path, folder, instance: id, syncs, held: RefCell::default() })
    }

    /// In a folder of a test.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn at(folder: &Path) -> Result<Self, Error> {
        let opened = instance::open_folder(folder)?;
        let (path, instance) = (folder.to_owned(), "i".into());
        Ok(Self { path, folder: opened, instance, syncs: true, held: RefCell::default() })
    }

    /// Records that the launch gets these secrets, one line for each, synced. `launch` says what
    /// the lines have in common. A launch without any is recorded as `agent.start`.
    pub fn grant(&self, launch: &Entry<'_>, secrets: &[Secret<'_>], key: &LogKey<'_>) -> Result<Recorded, Error> {
        let mut entries: Vec<Entry<'_>> = secrets
            .iter()
            .map(|secret| Entry {
                event: Event::SECRET_ACCESS,
                outcome: Outcome::Granted,
                secret: Some(secret.name().as_str()),
                version: Some(secret.version()),
                ..*launch
            })
            .collect();
        if entries.is_empty() {
            entries.push(Entry { event: Event::AGENT_START, outcome: Outcome::Done, ..*launch });
        }
        self.append(&entries, Some(key))?;
        let granted = secrets.iter().map(|secret| (secret.name().clone(), secret.version())).collect();
        Ok(Recorded { granted })
    }

    /// Appends the entries, each a line, and syncs them. With no key, the lines have no MAC.
    ///
    /// Either all of them stand in the log when this returns `Ok`, or none is acknowledged.
    pub fn append(&self, entries: &[Entry<'_>], key: Option<&LogKey<'_>>) -> Result<(), Error> {
        self.append_about(&Origin::of_this_process(), entries, key)
    }

    /// The same, about another process.
    pub fn append_about(&self, origin: &Origin, entries: &[Entry<'_>], key: Option<&LogKey<'_>>) -> Result<(), Error> {
        let lock = self.lock()?;
        let written = self.append_locked(origin, entries, key)?;
        // Others may append while this sync runs; it covers whatever stands in the file.
        drop(lock);
        written.sync()
    }

    /// Appends while the lock is held; what it gives back is to be synced.
    pub(super) fn append_locked(
        &self,
        origin: &Origin,
        entries: &[Entry<'_>],
        key: Option<&LogKey<'_>>,
    ) -> Result<Written, Error> {
        // Whoever rotates the keys holds the lock from the last line under the old key to the new
        // vault's rename: with the lock, what is current stays so.
        if key.is_some_and(|key| !key.is_current()) {
            return Err(Error::Rotated);
        }
        let key = key.map(LogKey::key);
        let mut end = self.end()?;
        let mut out = Vec::with_capacity(1024 * entries.len());
        let torn = end.torn.take();
        if end.open {
            out.push(b'\n');
        }
        if let Some(torn) = &torn {
            self.recover(torn, &mut out, &mut end, origin, key)?;
        }
        for entry in entries {
            write_line(&mut out, entry, &mut end.head, origin, &self.instance, key)?;
        }
        let (file, path) = self.open_segment(&end.name)?;
        let metadata = file.metadata().map_err(|error| Error::file("stat", &path, error))?;
        let length = metadata.len();
        if length == 0 && self.syncs {
            // Whoever made it may have died or failed since. So the entry in the folder of a segment
            // that holds anything is durable.
            nix::unistd::fsync(&self.folder).map_err(|errno| Error::file("sync", &self.path, errno))?;
        }
        let before = self.syncs.then(|| Before::look(&self.folder, &metadata));
        write_whole(&file, length, &path, &out)?;
        // From here on the lines may be read, whatever fails.
        let unsynced = |error: std::io::Error| Error::Unsynced { path: path.clone(), error };
        let changed = self.folder_changed().map_err(unsynced)?;
        let copy = file.try_clone().map_err(unsynced)?;
        self.held.replace(Some(Held { name: end.name, file: copy, changed }));
        Ok(Written { file, path, before })
    }

    /// Tells of a torn line, in a line that is chained to it and to the record before it.
    fn recover(
        &self,
        torn: &Torn,
        out: &mut Vec<u8>,
        end: &mut End,
        origin: &Origin,
        key: Option<AuditKey<'_>>,
    ) -> Result<(), Error> {
        end.head.hash = sha256(&[end.head.hash, torn.hash].concat());
        let reason = format!("a line of {} bytes was left unfinished", torn.bytes);
        let entry = Entry { reason: Some(&reason), ..Entry::new(Event::LOG_RECOVERED, Outcome::Done) };
        write_line(out, &entry, &mut end.head, origin, &self.instance, key)
    }

    /// An exclusive flock(2) on the folder; the kernel lets go of a dead process's lock.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let failed = |error| Error::file("lock", &self.path, error);
        let folder = File::from(self.folder.try_clone().map_err(failed)?);
        loop {
            match folder.lock() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => return result.map(|()| Lock(folder)).map_err(failed),
            }
        }
    }

    /// Where the log ends, and at which time it goes on: never before the last line's.
    pub(super) fn end(&self) -> Result<End, Error> {
        let mut head = Head::start();
        let (mut torn, mut open) = (None, false);
        let mut latest = None;
        for name in self.names()?.into_iter().rev() {
            let path = self.path.join(&name);
            let file = match self.held(&name) {
                Some(held) => held.map_err(|error| Error::file("hold", &path, error))?,
                None => instance::open_at(&self.folder, &name, &path, instance::Access::OthersRead)?,
            };
            let tail = tail::read(&file).map_err(|error| Error::file("read", &path, error))?;
            if latest.is_none() {
                (torn, open) = (tail.torn, tail.open);
                latest = Some(name);
            }
            if let Some(found) = tail.head {
                head = found;
                break;
            }
        }
        let now = format!("{:.6}", jiff::Timestamp::now());
        if now > head.time {
            head.time = now;
        }
        // A torn line is closed in its own segment; a clock set back does not open an older one.
        let name = match latest {
            Some(latest) if torn.is_some() || open => latest,
            Some(latest) => latest.max(name_for(&head.time)),
            None => name_for(&head.time),
        };
        Ok(End { head, torn, open, name })
    }

    /// The segments, oldest first.
    fn names(&self) -> Result<Vec<String>, Error> {
        match names_in(&self.folder, &self.path) {
            Err(Error::File { error, .. }) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let held = self.held.borrow();
                match held.as_ref() {
                    Some(held) if self.folder_changed().is_ok_and(|changed| changed == held.changed) => {
                        Ok(vec![held.name.clone()])
                    }
                    _ => Err(Error::file("list", &self.path, error)),
                }
            }
            names => names,
        }
    }

    fn held(&self, name: &str) -> Option<std::io::Result<File>> {
        self.held.borrow().as_ref().filter(|held| held.name == name).map(|held| held.file.try_clone())
    }

    fn folder_changed(&self) -> std::io::Result<SystemTime> {
        File::from(self.folder.try_clone()?).metadata()?.modified()
    }

    /// Opens a segment for appending; makes it where it is new.
    pub(super) fn open_segment(&self, name: &str) -> Result<(File, PathBuf), Error> {
        let path = self.path.join(name);
        if let Some(held) = self.held(name) {
            return held.map(|file| (file, path.clone())).map_err(|error| Error::file("hold", &path, error));
        }
        // For reading too: see Held.
        let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let failed = |errno| Error::file("open", &path, errno);
        match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(fd) => Ok((fd.into(), path)),
            Err(Errno::ENOENT) => openat(&self.folder, name, flags | OFlag::O_CREAT, Mode::from_bits_truncate(0o600))
                .map(|fd| (fd.into(), path.clone()))
                .map_err(failed),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// The lock of a writer.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Where this fails, it goes with the process; what is on record stands all the same.
        let _ = self.0.unlock();
    }
}

/// Records that stand in a segment, and are still to be synced.
pub(super) struct Written {
    file: File,
    path: PathBuf,
    /// `None` where the policy wants no sync.
    before: Option<Before>,
}

impl Written {
    pub(super) fn sync(self) -> Result<(), Error> {
        let synced = self.before.map_or(Ok(()), |before| before.sync(&self.file));
        synced.map_err(|error| Error::Unsynced { path: self.path, error })
    }
}

/// Where the next line goes.
pub(super) struct End {
    pub(super) head: Head,
    torn: Option<Torn>,
    open: bool,
    pub(super) name: String,
}

/// One write; what a full disk took of it is cut off again, so that the log stays whole.
fn write_whole(mut file: &File, length: u64, path: &Path, out: &[u8]) -> Result<(), Error> {
    file.write_all(out).map_err(|error| {
        // Where this fails too, the next writer closes the torn line.
        let _ = file.set_len(length);
        Error::file("write", path, error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::super::{Record, segments, verify};
    use super::*;
    use crate::memory::Arena;
    use crate::vault::whole_tests::{Kit, opened, without_right_to};

    const KEY: [u8; 32] = [7; 32];

    /// Says what none of the records says that are made of it.
    fn launch() -> Entry<'static> {
        Entry { chain: Some("c"), ..Entry::new(Event::LAUNCH_FAILED, Outcome::Failed) }
    }

    fn records(folder: &Path) -> Vec<Record> {
        let text: Vec<u8> = segments(folder).unwrap().iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
        text.split(|&byte| byte == b'\n').filter_map(Record::parse).collect()
    }

    fn append(log: &Log) {
        log.append(&[Entry::new(Event::SECRET_SET, Outcome::Done)], Some(&LogKey::of(&KEY))).unwrap();
    }

    fn assert_verifies(folder: &Path) {
        verify(folder, AuditKey::of(&KEY), None, |_, _| {}).unwrap().unwrap();
    }

    /// A segment with one record of that time.
    fn segment(folder: &Path, name: &str, time: &str) -> PathBuf {
        let mut head = Head { time: time.into(), ..Head::start() };
        let mut out = Vec::new();
        let (entry, origin) = (Entry::new(Event::SECRET_SET, Outcome::Done), Origin::of_this_process());
        write_line(&mut out, &entry, &mut head, &origin, "i", Some(AuditKey::of(&KEY))).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, out).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_grant_has_a_record_for_each_secret_and_covers_no_other() {
        let kit = Kit::new();
        let contents = kit.fill(3);
        let arena = Arena::new().unwrap();
        let vault = kit.open(&arena);
        let mut secrets = opened(&vault, &contents, &arena);
        let other = secrets.pop().unwrap();
        let log = Log::open(&kit.instance).unwrap();
        let recorded = log.grant(&launch(), &secrets, &vault.log_key()).unwrap();
        assert!(secrets.iter().all(|secret| recorded.covers(secret)) && !recorded.covers(&other));
        let mut newer = contents.clone();
        let record = newer.values_mut().next().unwrap();
        vault.add_version(record, &mut b"newer".to_vec(), 0).unwrap();
        assert!(!recorded.covers(&opened(&vault, &newer, &arena)[0]), "another version of it");
        let nothing = log.grant(&launch(), &[], &vault.log_key()).unwrap();
        assert!(!nothing.covers(&other));
        let said: Vec<_> = records(&kit.instance.audit)
            .into_iter()
            .map(|record| (record.event, record.outcome, record.secret, record.version, record.chain))
            .collect();
        let granted = |secret: &str| {
            ("secret.access".into(), "granted".into(), Some(secret.to_owned()), Some(2), Some("c".to_owned()))
        };
        let started = ("agent.start".into(), "done".into(), None, None, Some("c".to_owned()));
        assert_eq!(said, [granted("S0"), granted("S1"), started]);
    }

    #[test]
    fn nothing_is_appended_under_a_key_that_is_not_the_vaults_any_more() {
        let kit = Kit::new();
        let arena = Arena::new().unwrap();
        let vault = kit.open(&arena);
        let log = Log::open(&kit.instance).unwrap();
        log.append(&[launch()], Some(&vault.log_key())).unwrap();
        std::fs::remove_file(&kit.instance.vault).unwrap();
        assert!(matches!(log.append(&[launch()], Some(&vault.log_key())), Err(Error::Rotated)));
        log.append(&[launch()], None).unwrap();
        assert_eq!(records(&kit.instance.audit).len(), 2);
    }

    #[test]
    fn what_can_not_be_synced_is_not_acknowledged() {
        let kit = Kit::new();
        let mut instance = kit.instance.clone();
        // fdatasync(2) fails for a pipe.
        let written = |log: &Log| {
            let file = File::from(nix::unistd::pipe().unwrap().1);
            let before = log.syncs.then(|| Before::look(&log.folder, &file.metadata().unwrap()));
            Written { file, path: PathBuf::from("segment"), before }
        };
        let log = Log::open(&instance).unwrap();
        assert!(matches!(written(&log).sync(), Err(Error::Unsynced { .. })));
        instance.policy.audit = AuditSync::None;
        written(&Log::open(&instance).unwrap()).sync().unwrap();
    }

    #[test]
    fn a_log_that_can_not_be_written_is_noticed_before() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::at(folder.path()).unwrap();
        log.check_writable().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let elsewhere = segment(elsewhere.path(), "access-9999-12.jsonl", "2026-03-07T09:15:02.482113Z");
        symlink(&elsewhere, folder.path().join("access-9999-12.jsonl")).unwrap();
        assert!(log.check_writable().is_err());
        assert!(log.append(&[launch()], None).is_err());
    }

    #[test]
    fn a_segment_is_for_its_owner_and_for_appending() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::at(folder.path()).unwrap();
        append(&log);
        let name = log.names().unwrap().remove(0);
        let mode = folder.path().join(&name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Made by this one, found by the other.
        for log in [log, Log::at(folder.path()).unwrap()] {
            let (file, _) = log.open_segment(&name).unwrap();
            let flags = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL).unwrap());
            assert_eq!(flags & (OFlag::O_ACCMODE | OFlag::O_APPEND), OFlag::O_RDWR | OFlag::O_APPEND);
            assert_eq!(fcntl(&file, FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
        }
    }

    #[test]
    fn the_log_goes_on_in_the_month_of_its_time_and_never_in_an_older_one() {
        let now = name_for(&format!("{:.6}", jiff::Timestamp::now()));
        for (name, time, goes_on) in [
            ("access-2020-01.jsonl", "2020-01-07T09:15:02.482113Z", now.as_str()),
            // A clock was ahead.
            ("access-9998-01.jsonl", "9998-01-07T09:15:02.482113Z", "access-9998-01.jsonl"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            segment(folder.path(), name, time);
            let log = Log::at(folder.path()).unwrap();
            append(&log);
            append(&log);
            assert_eq!(log.names().unwrap().last().unwrap(), goes_on);
            let records = records(folder.path());
            assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3]);
            assert!(records.is_sorted_by_key(|record| record.time.clone()));
            assert_eq!(records[2].time.as_str() > time, name.contains("2020"));
            assert_verifies(folder.path());
        }
        // What is not ended is ended in its own segment.
        for (rest, count) in [(&b"{\"v\":1"[..], 3), (b"", 2)] {
            let folder = tempfile::tempdir().unwrap();
            let path = segment(folder.path(), "access-2020-01.jsonl", "2020-01-07T09:15:02.482113Z");
            let mut text = std::fs::read(&path).unwrap();
            match rest {
                b"" => assert_eq!(text.pop(), Some(b'\n')),
                rest => text.extend_from_slice(rest),
            }
            std::fs::write(&path, text).unwrap();
            let log = Log::at(folder.path()).unwrap();
            append(&log);
            assert_eq!(log.names().unwrap(), ["access-2020-01.jsonl"]);
            let records = records(folder.path());
            assert_eq!(records.len(), count);
            let recovered = records.iter().find(|record| record.event == "log.recovered");
            let reason = recovered.and_then(|record| record.reason.clone());
            assert_eq!(reason.is_some(), count == 3);
            assert!(reason.is_none_or(|reason| reason == "a line of 6 bytes was left unfinished"));
            assert_verifies(folder.path());
        }
        // A line that was ended and is no record, too.
        let folder = tempfile::tempdir().unwrap();
        let path = segment(folder.path(), "access-2020-01.jsonl", "2020-01-07T09:15:02.482113Z");
        let text = [&std::fs::read(&path).unwrap()[..], b"torn\n"].concat();
        std::fs::write(&path, text).unwrap();
        append(&Log::at(folder.path()).unwrap());
        assert_eq!(Log::at(folder.path()).unwrap().names().unwrap(), ["access-2020-01.jsonl"]);
        assert_verifies(folder.path());
    }

    #[test]
    fn who_gave_up_the_right_to_the_folder_goes_on_in_the_segment_that_they_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let without_right = |log: Log| {
            without_right_to(folder.path(), move || {
                let entry = Entry::new(Event::AGENT_END, Outcome::Done);
                (log.append(&[entry], Some(&LogKey::of(&KEY))).map_err(|error| error.to_string()), log)
            })
        };
        let log = Log::at(folder.path()).unwrap();
        append(&log);
        let (said, log) = without_right(log);
        assert_eq!(said, Ok(()));
        // Another segment may have been begun meanwhile, which this one can't see.
        File::open(folder.path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        for log in [log, Log::at(folder.path()).unwrap()] {
            let (said, _) = without_right(log);
            assert!(said.unwrap_err().contains("can't list"));
        }
        let events: Vec<_> = records(folder.path()).into_iter().map(|record| (record.seq, record.event)).collect();
        assert_eq!(events, [(1, "secret.set".to_owned()), (2, "agent.end".to_owned())]);
        assert_verifies(folder.path());
    }

    #[test]
    fn who_holds_the_log_appends_alone_and_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::at(folder.path()).unwrap();
        let is_free = || File::open(folder.path()).unwrap().try_lock().is_ok();
        append(&log);
        assert!(is_free());
        log.check_writable().unwrap();
        assert!(is_free());
        let hold = log.hold().unwrap();
        assert!(!is_free());
        let (seq, hash) = hold.last().unwrap();
        let text = std::fs::read(folder.path().join(&log.names().unwrap()[0])).unwrap();
        assert_eq!((seq, hash), (1, sha256(text.strip_suffix(b"\n").unwrap())));
        hold.append(&Entry::new(Event::KEY_ROTATE, Outcome::Done), &LogKey::of(&KEY)).unwrap();
        assert!(is_free());
        assert_eq!(records(folder.path()).last().map(|record| record.event.clone()).as_deref(), Some("key.rotate"));
        assert_verifies(folder.path());
    }
}
