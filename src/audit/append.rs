//! Appending: under a lock, in one write, synced before it is acknowledged.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;

use super::record::{Entry, Event, Head, Outcome, hex, write_line};
use super::segments::{name_for, segments};
use super::tail::{self, Torn};
use super::{Error, Origin};
use crate::instance::{self, Instance, sync_folder};
use crate::policy::SecretName;
use crate::vault::{AuditKey, Secret, sha256};

/// The log of one instance.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    instance: String,
    origin: Origin,
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
    /// The log that the configuration names; nothing is opened yet.
    pub fn of(instance: &Instance) -> Self {
        let id = instance.id.to_string();
        Self { folder: instance.audit.clone(), instance: id, origin: Origin::of_this_process() }
    }

    /// The folder of its segments.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Records that the launch gets these secrets, one line for each, synced. `launch` says what
    /// the lines have in common. A launch without any is recorded as `agent.start`.
    pub fn grant(&self, launch: &Entry<'_>, secrets: &[Secret<'_>], key: &AuditKey) -> Result<Recorded, Error> {
        let mut entries: Vec<Entry<'_>> = secrets
            .iter()
            .map(|secret| Entry {
                event: Event::SecretAccess,
                outcome: Outcome::Granted,
                secret: Some(secret.name().as_str()),
                version: Some(secret.version()),
                ..*launch
            })
            .collect();
        if entries.is_empty() {
            entries.push(Entry { event: Event::AgentStart, outcome: Outcome::Done, ..*launch });
        }
        self.append(&entries, Some(key))?;
        let granted = secrets.iter().map(|secret| (secret.name().clone(), secret.version())).collect();
        Ok(Recorded { granted })
    }

    /// Whether a record could be written now, as far as can be told without writing one.
    pub fn check_writable(&self) -> Result<(), Error> {
        let _lock = self.lock()?;
        let end = self.end()?;
        end.open(&self.folder).map(|_| ())
    }

    /// Appends the entries, each a line, and syncs them. With no key, the lines have no MAC.
    ///
    /// Either all of them stand in the log when this returns `Ok`, or none is acknowledged.
    pub fn append(&self, entries: &[Entry<'_>], key: Option<&AuditKey>) -> Result<(), Error> {
        let lock = self.lock()?;
        let mut end = self.end()?;
        let mut out = Vec::with_capacity(1024 * entries.len());
        let torn = end.torn.take();
        if end.open {
            out.push(b'\n');
        }
        if let Some(torn) = &torn {
            self.recover(torn, &mut out, &mut end, key)?;
        }
        for entry in entries {
            write_line(&mut out, entry, &mut end.head, &self.origin, &self.instance, key)?;
        }
        let (file, path, is_new) = end.open(&self.folder)?;
        write_whole(&file, &path, &out)?;
        // Others may append while this sync runs; it covers whatever stands in the file.
        drop(lock);
        file.sync_data().map_err(|error| Error::Unsynced { path, error })?;
        if is_new {
            sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// Tells of a torn line, in a line that is chained to it and to the record before it.
    fn recover(&self, torn: &Torn, out: &mut Vec<u8>, end: &mut End, key: Option<&AuditKey>) -> Result<(), Error> {
        end.head.hash = sha256(&[end.head.hash, torn.hash].concat());
        let reason = format!("a line of {} bytes was left unfinished", torn.bytes);
        let entry = Entry { reason: Some(&reason), ..Entry::new(Event::LogRecovered, Outcome::Done) };
        write_line(out, &entry, &mut end.head, &self.origin, &self.instance, key)
    }

    /// An exclusive flock(2) on the folder; the kernel lets go of a dead process's lock.
    fn lock(&self) -> Result<Flock<OwnedFd>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&self.folder, flags, Mode::empty()).map_err(|errno| Error::file("open", &self.folder, errno))?;
        Flock::lock(fd, FlockArg::LockExclusive).map_err(|(_, errno)| Error::file("lock", &self.folder, errno))
    }

    /// Where the log ends, and at which time it goes on: never before the last line's.
    fn end(&self) -> Result<End, Error> {
        let mut head = Head::start();
        let (mut torn, mut open) = (None, false);
        let mut latest = None;
        for segment in segments(&self.folder)?.into_iter().rev() {
            let file = instance::open_trusted(&segment, instance::Access::OthersRead)?;
            let tail = tail::read(&file).map_err(|error| Error::file("read", &segment, error))?;
            if latest.is_none() {
                (torn, open) = (tail.torn, tail.open);
                latest = segment.file_name().and_then(|name| name.to_str()).map(str::to_owned);
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
}

/// Where the next line goes.
struct End {
    head: Head,
    torn: Option<Torn>,
    open: bool,
    name: String,
}

impl End {
    /// Opens the segment for appending; whether it was made for that.
    fn open(&self, folder: &Path) -> Result<(File, PathBuf, bool), Error> {
        let path = folder.join(&self.name);
        let is_new = path.symlink_metadata().is_err();
        File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(|error| Error::file("open", &path, error))
            .map(|file| (file, path, is_new))
    }
}

/// One write; what a full disk took of it is cut off again, so that the log stays whole.
fn write_whole(mut file: &File, path: &Path, out: &[u8]) -> Result<(), Error> {
    let cant_write = |error| Error::file("write", path, error);
    let before = file.metadata().map_err(cant_write)?.len();
    file.write_all(out).map_err(|error| {
        // Where this fails too, the next writer closes the torn line.
        let _ = file.set_len(before);
        cant_write(error)
    })
}

/// The number and hash that a log ends with, as `mentiko audit verify --expect` takes them.
pub(super) fn head_text(head: &Head) -> String {
    format!("{}:{}", head.seq, hex(&head.hash))
}
