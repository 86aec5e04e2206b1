//! Retention: whole months go, and a signed stub takes their place, so that what is left verifies.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::record::{Head, hex, split_mac, unhex};
use super::segments::{name_for, segments};
use super::{Error, tail};
use crate::instance::{replace_file, sync_folder};
use crate::vault::AuditKey;

/// The stub's file.
pub(super) const STUB: &str = "pruned.json";

/// That of the key which the log gets when the keys are rotated.
const NEXT_STUB: &str = "pruned.json.new";

/// What stood before the first line that is left.
#[derive(Clone, Debug)]
pub(super) struct Stub {
    /// The last record that was removed.
    pub(super) head: Head,
    /// The first segment that was kept.
    pub(super) first: String,
    /// The highest generation of the vault that the removed records told of.
    pub(super) generation: u64,
}

/// What `prune` would remove, or has removed.
#[derive(Debug)]
pub struct Pruning {
    /// Its segments, oldest first.
    pub segments: Vec<PathBuf>,
    stub: Stub,
}

impl Pruning {
    /// The segments that end before this time, and are followed by one that stays; `None` where
    /// there are none. `generation` is the highest that the log tells of.
    pub fn before(folder: &Path, time: Timestamp, generation: u64) -> Result<Option<Self>, Error> {
        let limit = format!("{time:.6}");
        let all = segments(folder)?;
        let (mut removed, mut head) = (Vec::new(), None);
        for (path, next) in all.iter().zip(all.iter().skip(1)) {
            let tail = tail::read_path(path)?;
            // A record may be later than its segment's month, after a writer died. And the log goes
            // on from what is left, which therefore must hold one.
            let stays = path_is_from(path, &limit)
                || tail.head.as_ref().is_none_or(|head| head.time >= limit)
                || tail::read_path(next)?.head.is_none();
            if stays {
                break;
            }
            head = tail.head;
            removed.push((path.clone(), name_of(next)));
        }
        Ok(head.zip(removed.last().cloned()).map(|(head, (_, first))| Self {
            segments: removed.into_iter().map(|(path, _)| path).collect(),
            stub: Stub { head, first, generation },
        }))
    }

    /// The number of the last record that goes.
    pub fn last(&self) -> u64 {
        self.stub.head.seq
    }

    /// Removes them. The stub comes first: after a crash between, `verify` tells of what is left over.
    pub fn run(&self, folder: &Path, key: AuditKey<'_>) -> Result<(), Error> {
        replace_file(&folder.join(STUB), &self.stub.text(key), 0o600)?;
        remove(folder, &self.segments)
    }
}

/// A stub under a key that the log does not have yet, beside the one in use.
#[derive(Debug)]
pub struct NextStub(PathBuf);

impl NextStub {
    /// Writes it, where there is a stub at all. Until the vault has the new key, nobody reads it.
    pub fn write(folder: &Path, key: AuditKey<'_>, next: AuditKey<'_>) -> Result<Option<Self>, Error> {
        // One that is not what was written must not keep anybody from rotating the keys; `verify` tells.
        let Some(Ok(stub)) = read_stub(folder, key)? else { return Ok(None) };
        replace_file(&folder.join(NEXT_STUB), &stub.text(next), 0o600)?;
        Ok(Some(Self(folder.to_owned())))
    }

    /// Puts it in the place of the other.
    pub fn put_in_place(self) -> Result<(), Error> {
        let (next, stub) = (self.0.join(NEXT_STUB), self.0.join(STUB));
        std::fs::rename(next, &stub).map_err(|error| Error::file("replace", stub, error))?;
        Ok(sync_folder(&self.0)?)
    }
}

/// Removes what an interrupted pruning left over; whether there was any.
pub fn finish_pruning(folder: &Path, key: AuditKey<'_>) -> Result<bool, Error> {
    let Some(Ok(stub)) = read_stub(folder, key)? else { return Ok(false) };
    let left: Vec<PathBuf> = segments(folder)?.into_iter().filter(|path| name_of(path) < stub.first).collect();
    remove(folder, &left)?;
    Ok(!left.is_empty())
}

fn remove(folder: &Path, segments: &[PathBuf]) -> Result<(), Error> {
    for path in segments {
        std::fs::remove_file(path).map_err(|error| Error::file("remove", path, error))?;
    }
    Ok(sync_folder(folder)?)
}

/// Whether the segment is that of the time's month, or a later one.
fn path_is_from(path: &Path, time: &str) -> bool {
    name_of(path) >= name_for(time)
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The stub's fields: all but the MAC, in their order.
#[derive(serde::Serialize, serde::Deserialize)]
struct Text {
    /// The version of this format. No line of the log begins so: one MAC never stands for both.
    pruned: u8,
    seq: u64,
    time: String,
    first: String,
    generation: u64,
    hash: String,
}

impl Stub {
    fn text(&self, key: AuditKey<'_>) -> Vec<u8> {
        let Head { seq, time, hash } = &self.head;
        let text = Text {
            pruned: 1,
            seq: *seq,
            time: time.clone(),
            first: self.first.clone(),
            generation: self.generation,
            hash: hex(hash),
        };
        let mut out = serde_json::to_vec(&text).unwrap_or_default();
        out.pop();
        let mac = hex(&key.mac(&out));
        out.extend_from_slice(format!(",\"mac\":\"{mac}\"}}\n").as_bytes());
        out
    }

    fn parse(line: &[u8], key: AuditKey<'_>) -> Option<Self> {
        let (covered, mac) = split_mac(line.strip_suffix(b"\n")?)?;
        if !key.checker().is_mac(covered, &mac?) {
            return None;
        }
        let text: Text = serde_json::from_slice(&[covered, b"}"].concat()).ok()?;
        let head = Head { seq: text.seq, time: text.time, hash: unhex(text.hash.as_bytes())? };
        (text.pruned == 1).then_some(Self { head, first: text.first, generation: text.generation })
    }
}

/// The stub of a log, where it was pruned; the inner error is that it is not what was written.
pub(super) fn read_stub(folder: &Path, key: AuditKey<'_>) -> Result<Option<Result<Stub, ()>>, Error> {
    let stub = read_stub_at(folder.join(STUB), key)?;
    if let Some(Err(())) = stub
        && let Some(Ok(next)) = read_stub_at(folder.join(NEXT_STUB), key)?
    {
        // Whoever rotated the keys died before it was put in place.
        return Ok(Some(Ok(next)));
    }
    Ok(stub)
}

fn read_stub_at(path: PathBuf, key: AuditKey<'_>) -> Result<Option<Result<Stub, ()>>, Error> {
    match std::fs::read(&path) {
        Ok(line) => Ok(Some(Stub::parse(&line, key).ok_or(()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::write_line;
    use super::super::verify::{Expected, Report, verify};
    use super::super::{Entry, Event, Origin, Outcome};
    use super::*;

    /// Three records a month from January to April 2026, each with its MAC.
    fn log(key: AuditKey<'_>) -> (tempfile::TempDir, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut head = Head::start();
        let mut heads = Vec::new();
        for month in 1..=4 {
            let mut out = Vec::new();
            for day in 1..=3 {
                head.time = format!("2026-{month:02}-{day:02}T00:00:00.000000Z");
                let entry = Entry { generation: Some(month), ..Entry::new(Event::SECRET_SET, Outcome::Done) };
                write_line(&mut out, &entry, &mut head, &Origin::of_this_process(), "i", Some(key)).unwrap();
                heads.push(format!("{}:{}", head.seq, hex(&head.hash)));
            }
            std::fs::write(folder.path().join(name_for(&head.time)), out).unwrap();
        }
        (folder, heads)
    }

    fn before(folder: &Path, date: &str) -> Option<Pruning> {
        let time = format!("{date}T00:00:00Z").parse().unwrap();
        Pruning::before(folder, time, 4).unwrap()
    }

    fn verified(folder: &Path, key: AuditKey<'_>, expect: Option<&str>) -> Result<Report, String> {
        let expected = expect.map(|text| text.parse::<Expected>().unwrap());
        verify(folder, key, expected, |_, _| {}).unwrap().map_err(|fault| fault.to_string())
    }

    #[test]
    fn whole_months_go_and_the_rest_verifies() {
        let key = AuditKey::of(&[1; 32]);
        let (folder, heads) = log(key);
        let folder = folder.path();
        assert!(before(folder, "2026-01-31").is_none(), "January is not over");
        let pruning = before(folder, "2026-03-15").unwrap();
        assert_eq!((pruning.segments.len(), pruning.last()), (2, 6));
        pruning.run(folder, key).unwrap();
        let report = verified(folder, key, None).unwrap();
        assert_eq!((report.records, report.pruned, report.generation), (6, 6, 4));
        // What was known of the log before still counts.
        assert!(verified(folder, key, Some(&heads[5])).is_ok());
        assert!(verified(folder, key, Some(&heads[7])).is_ok());
        assert!(verified(folder, key, Some(&heads[4])).unwrap_err().contains("record 5 was pruned"));
        let other = format!("6:{}", "0".repeat(64));
        assert!(verified(folder, key, Some(&other)).unwrap_err().contains("another than was expected"));
        // Again, from the stub on; the last segment stays whatever is asked.
        before(folder, "2030-01-01").unwrap().run(folder, key).unwrap();
        assert_eq!(verified(folder, key, None).unwrap().pruned, 9);
        assert!(before(folder, "2030-01-01").is_none());
    }

    #[test]
    fn a_stub_can_not_be_made_up_moved_or_taken_away() {
        let key = AuditKey::of(&[1; 32]);
        let (folder, _) = log(key);
        let folder = folder.path();
        let segment = |month: u32| folder.join(format!("access-2026-{month:02}.jsonl"));
        let january = std::fs::read(segment(1)).unwrap();
        // Months that are removed by hand are missed.
        std::fs::remove_file(segment(1)).unwrap();
        assert!(verified(folder, key, None).unwrap_err().contains("records 1 to 3 are missing"));
        std::fs::write(segment(1), &january).unwrap();
        before(folder, "2026-02-01").unwrap().run(folder, key).unwrap();
        let first_stub = std::fs::read(folder.join(STUB)).unwrap();
        before(folder, "2026-03-01").unwrap().run(folder, key).unwrap();
        let stub = std::fs::read(folder.join(STUB)).unwrap();
        verified(folder, key, None).unwrap();
        // One of another key, each changed byte, an older one, none.
        assert!(verified(folder, AuditKey::of(&[2; 32]), None).unwrap_err().contains("pruned.json"));
        for at in 0..stub.len() {
            let mut changed = stub.clone();
            changed[at] ^= 1;
            std::fs::write(folder.join(STUB), changed).unwrap();
            assert!(verified(folder, key, None).unwrap_err().contains("pruned.json"), "{at}");
        }
        std::fs::write(folder.join(STUB), first_stub).unwrap();
        assert!(verified(folder, key, None).unwrap_err().contains("records 4 to 6 are missing"));
        std::fs::remove_file(folder.join(STUB)).unwrap();
        assert!(verified(folder, key, None).unwrap_err().contains("records 1 to 6 are missing"));
        // A segment from before it.
        std::fs::write(folder.join(STUB), stub).unwrap();
        std::fs::write(segment(1), &january).unwrap();
        assert!(verified(folder, key, None).unwrap_err().contains("older than what was pruned"));
        assert!(finish_pruning(folder, key).unwrap());
        assert!(!segment(1).exists());
        verified(folder, key, None).unwrap();
    }

    #[test]
    fn a_rotation_of_the_keys_brings_a_stub_of_the_new_one() {
        let (old, new) = (AuditKey::of(&[1; 32]), AuditKey::of(&[2; 32]));
        let (folder, _) = log(old);
        let folder = folder.path();
        assert!(NextStub::write(folder, old, new).unwrap().is_none(), "nothing was pruned");
        before(folder, "2026-03-01").unwrap().run(folder, old).unwrap();
        let last_of = |key| match read_stub(folder, key).unwrap() {
            Some(Ok(stub)) => Some(stub.head.seq),
            Some(Err(())) => None,
            None => panic!("there is no stub"),
        };
        let next = NextStub::write(folder, old, new).unwrap().unwrap();
        // A rotation may stop here, before the vault has the new key or after.
        assert_eq!((last_of(old), last_of(new)), (Some(6), Some(6)));
        next.put_in_place().unwrap();
        assert!(!folder.join(NEXT_STUB).exists());
        assert_eq!((last_of(old), last_of(new)), (None, Some(6)));
        assert!(NextStub::write(folder, old, new).unwrap().is_none(), "one that is not what was written");
    }

    #[test]
    fn a_stub_that_can_not_be_read_is_not_none() {
        let (folder, key) = (tempfile::tempdir().unwrap(), AuditKey::of(&[1; 32]));
        assert!(read_stub(folder.path(), key).unwrap().is_none());
        std::fs::create_dir(folder.path().join(STUB)).unwrap();
        let said = read_stub(folder.path(), key).unwrap_err().to_string();
        assert!(said.contains("pruned.json"), "{said}");
    }
}
