//! A whole vault of a test: what was written is read, and nothing else is.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use super::header::{ENTRY, HEADER, Header, MAX_BUCKET, MIN_BUCKET};
use super::keys::value_context;
use super::slots::{SLOT, Slot};
use super::{
    Approval, Contents, Error, Ledger, LogKey, MAX_BUCKETS, PassphraseCost, Record, RootKey, Secret, State, Vault,
    WriteLock, create, crypto,
};
use crate::instance::{ApprovalPolicy, Instance, InstanceKey};
use crate::memory::Arena;
use crate::policy::{ChainName, Decision, Definition, Grant, SecretName, decide, review};

pub(crate) const KEY: InstanceKey<'static> = InstanceKey::Bytes(&[3; 32]);
/// So many that they have several buckets.
const SECRETS: u32 = 40;

/// An instance in a folder of its own.
pub(crate) struct Kit {
    pub(crate) instance: Instance,
    _folder: tempfile::TempDir,
}

impl Kit {
    /// With an empty vault.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        for name in ["audit", "chains", "runs"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let text = r#"{"version": 1, "instance": "0198c0de-0000-7000-8000-000000000001",
            "key": {"source": "file", "path": "instance.key"},
            "vault": "vault", "chains": "chains", "audit": "audit", "runs": "runs"}"#;
        let configuration = folder.path().join("instance.json");
        std::fs::write(&configuration, text).unwrap();
        std::fs::set_permissions(&configuration, Permissions::from_mode(0o600)).unwrap();
        let kit = Self { instance: Instance::open(folder.path()).unwrap(), _folder: folder };
        kit.create();
        kit
    }

    fn create(&self) {
        let arena = Arena::new().unwrap();
        create(&self.lock(), &self.instance, KEY, PassphraseCost::default(), &arena).unwrap();
    }

    pub(crate) fn lock(&self) -> WriteLock {
        WriteLock::take(&self.instance).unwrap()
    }

    pub(crate) fn open<'a>(&self, arena: &'a Arena) -> Vault<'a> {
        Vault::open(&self.instance, KEY, arena).unwrap()
    }

    /// Stores S0 and so on, each with two versions and the second one's value `value of S0`.
    pub(crate) fn fill(&self, count: u32) -> Contents {
        let arena = Arena::new().unwrap();
        let vault = self.open(&arena);
        let contents: Contents = (0..count)
            .map(|at| record(&vault, &format!("S{at}")))
            .map(|record| (record.name.clone(), record))
            .collect();
        vault.replace(&self.lock(), &contents).unwrap();
        contents
    }

    /// As a new vault has it.
    pub(crate) fn empty_ledger(&self) -> Ledger {
        Ledger::empty()
    }

    pub(crate) fn replace_ledger(&self, vault: &Vault<'_>, ledger: &Ledger) {
        vault.replace_with_ledger(&self.lock(), &vault.read_all().unwrap(), ledger).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.instance.vault).unwrap()
    }

    /// What a reader says who reads everything, once the file is changed so.
    fn complaint(&self, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let whole = self.bytes();
        let mut changed = whole.clone();
        change(&mut changed);
        std::fs::write(&self.instance.vault, changed).unwrap();
        let arena = Arena::new().unwrap();
        let read = Vault::open(&self.instance, KEY, &arena).and_then(|vault| vault.read_all().map(|_| ()));
        std::fs::write(&self.instance.vault, whole).unwrap();
        read.expect_err("the change went unnoticed").to_string()
    }

    /// The same, with the header's MAC made anew by somebody who has the key.
    fn complaint_with_mac(&self, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let arena = Arena::new().unwrap();
        let key = self.open(&arena).root.header();
        self.complaint(|bytes| {
            change(bytes);
            let mac = crypto::hmac(&key, &[&bytes[..HEADER - 32]]);
            bytes[HEADER - 32..HEADER].copy_from_slice(&mac);
        })
    }
}

fn record(vault: &Vault<'_>, name: &str) -> Record {
    let mut record = Vault::new_record(name.parse().unwrap(), 1_700_000_000);
    vault.add_version(&mut record, &mut b"old".to_vec(), 1_700_000_000).unwrap();
    vault.add_version(&mut record, &mut format!("value of {name}").into_bytes(), 1_700_000_001).unwrap();
    record
}

fn names(names: &[&str]) -> BTreeSet<SecretName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// What comes of it where the folder or file can't be looked into any more, as after privileges were given up.
pub(crate) fn without_right_to<T: Send>(path: &Path, act: impl FnOnce() -> T + Send) -> T {
    let set_mode = |mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set_mode(0o000);
    let unprivileged = || {
        // For root, of this thread alone; others have no right as it is.
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        act()
    };
    let result = std::thread::scope(|scope| scope.spawn(unprivileged).join().unwrap());
    set_mode(0o700);
    result
}

/// What a launch is granted that asks for them all.
pub(crate) fn grants(contents: &Contents) -> Vec<Grant> {
    let secrets: Vec<&str> = contents.keys().map(SecretName::as_str).collect();
    let text = format!(r#"{{"secrets": {secrets:?}, "agents": {{"one": {secrets:?}}}}}"#);
    let definition = Definition::parse("c.json".as_ref(), &"c".parse().unwrap(), text.as_bytes()).unwrap();
    let Ok(reviewed) = review(&definition, ApprovalPolicy::NotRequired, || Ok::<_, std::convert::Infallible>(None));
    let facts = |name: &SecretName| contents.get(name).map(Record::facts);
    let decision = decide(reviewed.unwrap(), &"one".parse().unwrap(), &[], facts);
    let Decision::Granted(grants) = decision else { panic!("{decision:?}") };
    grants
}

/// Opened for such a launch.
pub(crate) fn opened<'a>(vault: &Vault<'_>, contents: &Contents, arena: &'a Arena) -> Vec<Secret<'a>> {
    let open = |grant: Grant| {
        let record = &contents[grant.secret()];
        vault.open_secret(grant, record, arena).unwrap()
    };
    grants(contents).into_iter().map(open).collect()
}

#[test]
fn what_was_written_is_read() {
    let kit = Kit::new();
    let contents = kit.fill(SECRETS);
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    assert_eq!((vault.generation(), vault.slot(), vault.header.bucket_count), (2, 1, 4));
    let read = vault.read_all().unwrap();
    assert!(read.keys().eq(contents.keys()));
    for secret in opened(&vault, &read, &arena) {
        assert_eq!(secret.value(), format!("value of {}", secret.name()).as_bytes());
        assert_eq!(secret.version(), 2);
    }
    let found = vault.lookup(&names(&["S3", "S4", "S5", "S6", "absent"])).unwrap();
    assert!(found.into_keys().eq(names(&["S3", "S4", "S5", "S6"])));
    // As the format says it: little-endian, at these places.
    let bytes = kit.bytes();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((&bytes[..8], u32_at(8), u32_at(12)), (&b"MENTIKO1"[..], 1, 0));
    assert_eq!((&bytes[16..32], u64_at(32), u32_at(72), u32_at(76)), (&vault.id()[..], 2, 4, 1));
    assert_eq!((HEADER, SLOT, ENTRY, MIN_BUCKET, MAX_BUCKET, MAX_BUCKETS), (976, 108, 12, 32, 1 << 26, 1 << 20));
    let places: Vec<(u64, u32)> = (0..5).map(|at| (u64_at(976 + at * 12), u32_at(976 + at * 12 + 8))).collect();
    let mut end = 976 + 5 * 12;
    for (offset, length) in places {
        assert_eq!(offset, end);
        end += u64::from(length);
    }
    assert_eq!(end, bytes.len() as u64);
}

#[test]
fn names_are_spread_over_all_buckets() {
    let kit = Kit::new();
    kit.fill(SECRETS);
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    let index = vault.root.index();
    let mut header = vault.header.clone();
    let buckets = |header: &Header| -> BTreeSet<u32> {
        (0..SECRETS).map(|at| header.bucket_of(&index, &format!("S{at}"))).collect()
    };
    assert_eq!(buckets(&header), (0..4).collect());
    // The first bits, as the format says.
    let [first, ..] = crypto::hmac(&index, &[b"S7"]);
    assert_eq!(header.bucket_of(&index, "S7"), u32::from(first >> 6));
    header.bucket_count = 1;
    assert_eq!(buckets(&header), [0].into());
}

#[test]
fn each_byte_counts() {
    let kit = Kit::new();
    kit.fill(2);
    let length = kit.bytes().len();
    for at in 0..length {
        let said = kit.complaint(|bytes| bytes[at] ^= 0x10);
        assert!(said.contains("damaged") || said.contains("opens no key slot"), "{at}: {said}");
    }
    for cut in (0..length).step_by(7) {
        assert!(kit.complaint(|bytes| bytes.truncate(cut)).contains("damaged"), "{cut}");
    }
    assert!(kit.complaint(|bytes| bytes.push(0)).contains("there are bytes after the ledger"));
    assert!(kit.complaint(|bytes| bytes.truncate(HEADER - 1)).contains("too short for a header"));
}

#[test]
fn a_header_that_has_its_mac_is_checked_all_the_same() {
    let kit = Kit::new();
    kit.fill(SECRETS);
    for at in [0, 7, 8, 11, 12, 15] {
        let said = kit.complaint_with_mac(|bytes| bytes[at] ^= 0x40);
        assert!(said.contains("it does not begin with MENTIKO1, format 1"), "{at}: {said}");
    }
    for count in [0u32, 3, 1 << 20, 1 << 21, 1 << 31] {
        let said = kit.complaint_with_mac(|bytes| bytes[72..76].copy_from_slice(&count.to_le_bytes()));
        assert!(said.contains("the bucket count of the header"), "{count}: {said}");
    }
    for count in [0u8, 2] {
        assert!(kit.complaint_with_mac(|bytes| bytes[76] = count).contains("a field of the header"));
    }
    // The kind of the second slot.
    assert!(kit.complaint_with_mac(|bytes| bytes[80 + 108] = 4).contains("a field of the header"));
    // A MAC by another key.
    assert!(kit.complaint(|bytes| bytes[HEADER - 1] ^= 1).contains("the MAC of the header"));
    // The header of the generation before: its MAC fits, what it stands on does not.
    let before = kit.bytes();
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    vault.replace(&kit.lock(), &vault.read_all().unwrap()).unwrap();
    assert!(kit.complaint(|bytes| bytes[..HEADER].copy_from_slice(&before[..HEADER])).contains("damaged: the ledger"));
}

#[test]
fn a_place_in_the_table_is_within_the_file_and_leaves_no_gap() {
    let kit = Kit::new();
    kit.fill(SECRETS);
    let at = |entry: usize| HEADER + entry * ENTRY;
    let offset = |bytes: &[u8], entry| u64::from_le_bytes(bytes[at(entry)..at(entry) + 8].try_into().unwrap());
    let move_by = |entry: usize, by: i64| {
        move |bytes: &mut Vec<u8>| {
            let moved = offset(bytes, entry).checked_add_signed(by).unwrap();
            bytes[at(entry)..at(entry) + 8].copy_from_slice(&moved.to_le_bytes());
        }
    };
    assert!(kit.complaint(move_by(0, -1)).contains("the place of bucket 0"));
    assert!(kit.complaint(move_by(0, 1)).contains("the place of bucket 0"));
    assert!(kit.complaint(move_by(4, 1)).contains("the place of the ledger"));
    assert!(kit.complaint(move_by(4, i64::MAX)).contains("the place of the ledger"));
    let set_length = |entry: usize, length: u32| {
        move |bytes: &mut Vec<u8>| bytes[at(entry) + 8..at(entry) + 12].copy_from_slice(&length.to_le_bytes())
    };
    for length in [0, MIN_BUCKET - 1, MAX_BUCKET + 1, u32::MAX] {
        assert!(kit.complaint(set_length(1, length)).contains("the place of bucket 1"), "{length}");
    }
    assert!(kit.complaint(set_length(4, 1 << 20)).contains("the place of the ledger"));
    let swap = |bytes: &mut Vec<u8>| {
        let first: Vec<u8> = bytes[at(0)..at(1)].to_vec();
        bytes.copy_within(at(1)..at(2), at(0));
        bytes[at(1)..at(2)].copy_from_slice(&first);
    };
    assert!(kit.complaint(swap).contains("the place of bucket 0"));
    // A launch that asks for one bucket alone is told as well.
    let whole = kit.bytes();
    let arena = Arena::new().unwrap();
    for entry in 0..4 {
        let mut changed = whole.clone();
        set_length(entry, MIN_BUCKET - 1)(&mut changed);
        std::fs::write(&kit.instance.vault, changed).unwrap();
        let vault = kit.open(&arena);
        let asked = (0..SECRETS).map(|at| vault.lookup(&names(&[&format!("S{at}")])));
        assert!(asked.filter(Result::is_err).count() > 0, "bucket {entry}");
    }
}

#[test]
fn a_table_that_is_longer_than_the_first_read_is_read() {
    let kit = Kit::new();
    // 512 buckets: the entries of most of them are beyond.
    let contents = kit.fill(16 * 256 + 1);
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    assert_eq!(vault.header.bucket_count, 512);
    assert!(vault.read_all().unwrap().keys().eq(contents.keys()));
    assert_eq!(vault.lookup(&names(&["S1", "S77", "S4000"])).unwrap().len(), 3);
    // It ends within the table, seen by who opened it before.
    let file = std::fs::File::options().write(true).open(&kit.instance.vault).unwrap();
    file.set_len(5000).unwrap();
    assert!(vault.lookup(&names(&["S1", "S77", "S4000"])).unwrap_err().to_string().contains("it ends within"));
    file.write_all_at(&[0], 0).unwrap();
}

#[test]
fn a_bucket_holds_its_own_records_once() {
    let kit = Kit::new();
    let contents = kit.fill(SECRETS);
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    let index = vault.root.index();
    // As a writer with the key could: a record in the bucket of another, and one twice.
    let put = |plains: &[Vec<u8>; 4]| {
        let header = &vault.header;
        let mut out = header.encode(&vault.root);
        let seal = |number: u32, key: &crypto::Key, plain: &[u8]| {
            let mut plain = plain.to_vec();
            let tag = crypto::seal(key, &[number as u8; 12], &header.bucket_aad(number), &mut plain).unwrap();
            [&[number as u8; 12][..], &plain, &tag].concat()
        };
        let salt = &header.write_salt;
        let mut sealed: Vec<Vec<u8>> = (0..4u32)
            .map(|at| seal(at, &vault.root.bucket(salt, header.generation, at), &plains[at as usize]))
            .collect();
        let ledger = Ledger::empty().encode().unwrap();
        sealed.push(seal(4, &vault.root.ledger(salt, header.generation), &ledger));
        let mut offset = header.table_end();
        for part in &sealed {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            offset += part.len() as u64;
        }
        out.extend(sealed.concat());
        std::fs::write(&kit.instance.vault, out).unwrap();
        let arena = Arena::new().unwrap();
        Vault::open(&kit.instance, KEY, &arena).and_then(|vault| vault.read_all().map(|all| all.len()))
    };
    let records = |chosen: &dyn Fn(u32, &Record) -> usize| -> [Vec<u8>; 4] {
        [0, 1, 2, 3].map(|bucket| {
            let (mut plain, mut count) = (Vec::new(), 0u32);
            for record in contents.values() {
                for _ in 0..chosen(bucket, record) {
                    record.write(&mut plain).unwrap();
                    count += 1;
                }
            }
            [&count.to_le_bytes()[..], &plain].concat()
        })
    };
    let home = |record: &Record| vault.header.bucket_of(&index, record.name.as_str());
    assert_eq!(put(&records(&|bucket, record| usize::from(home(record) == bucket))).unwrap(), 40);
    let moved = put(&records(&|bucket, record| usize::from((home(record) + 1) % 4 == bucket)));
    assert!(moved.unwrap_err().to_string().contains("bucket 0 holds another's record"));
    let twice = put(&records(&|bucket, record| match home(record) == bucket {
        true if record.name.as_str() == "S7" => 2,
        is_home => usize::from(is_home),
    }));
    assert!(twice.unwrap_err().to_string().contains("two records of secret 'S7'"));
    let mut plains = records(&|bucket, record| usize::from(home(record) == bucket));
    plains[1].push(0);
    assert!(put(&plains).unwrap_err().to_string().contains("damaged: bucket 1"));
}

#[test]
fn who_opened_a_vault_knows_whether_it_was_replaced_and_by_which() {
    let kit = Kit::new();
    let contents = kit.fill(1);
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    assert!(vault.is_latest() && vault.log_key().is_current());
    // By one under the same keys.
    vault.replace(&kit.lock(), &contents).unwrap();
    assert!(!vault.is_latest() && vault.log_key().is_current());
    assert_eq!(vault.read_all().unwrap().len(), 1, "it stays the one that was opened");
    std::fs::remove_file(&kit.instance.vault).unwrap();
    assert!(!vault.is_latest() && !vault.log_key().is_current());
    kit.create();
    assert!(!vault.is_latest() && !vault.log_key().is_current());
}

#[test]
fn what_is_put_in_the_place_of_a_vault_is_not_followed_and_not_waited_for() {
    let kit = Kit::new();
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    let (path, away) = (&kit.instance.vault, kit.instance.vault.with_extension("away"));
    std::fs::rename(path, &away).unwrap();
    std::os::unix::fs::symlink(&away, path).unwrap();
    assert!(!vault.log_key().is_current(), "a link to the vault that was opened");
    std::fs::remove_file(path).unwrap();
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(!vault.log_key().is_current(), "a pipe that nobody writes to");
}

#[test]
fn who_gave_up_the_right_to_look_knows_whether_the_file_was_replaced() {
    let kit = Kit::new();
    let contents = kit.fill(1);
    let arena = Arena::new().unwrap();
    let is_current = |key: LogKey<'_>| {
        without_right_to(kit.instance.vault.parent().unwrap(), || {
            assert!(std::fs::metadata(&kit.instance.vault).is_err());
            key.is_current()
        })
    };
    let vault = kit.open(&arena);
    assert!(is_current(vault.log_key()));
    // The folder can be looked at, the file can't.
    std::fs::set_permissions(kit.instance.vault.parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
    let key = vault.log_key();
    without_right_to(&kit.instance.vault, || {
        assert!(std::fs::read(&kit.instance.vault).is_err());
        assert!(key.is_current());
    });
    // By one under the same keys, which can't be told.
    vault.replace(&kit.lock(), &contents).unwrap();
    assert!(vault.log_key().is_current() && !is_current(vault.log_key()));
}

#[test]
fn the_slot_that_opens_is_named_and_a_wrong_key_too() {
    let kit = Kit::new();
    let arena = Arena::new().unwrap();
    let other = InstanceKey::Recovery(&[5; 20]);
    let refused = |key: InstanceKey<'_>| Vault::open(&kit.instance, key, &arena).unwrap_err().to_string();
    assert!(refused(other).contains("the recovery code opens no key slot"));
    assert!(refused(InstanceKey::Bytes(&[4; 32])).contains("the instance key opens no key slot"));
    assert!(refused(InstanceKey::Passphrase(b"p")).contains("the passphrase is wrong"));
    let (number, generation) = kit.open(&arena).add_key(&kit.lock(), other, &kit.instance, None).unwrap();
    assert_eq!((number, generation), (2, 2));
    let opened = Vault::open(&kit.instance, other, &arena).unwrap();
    assert_eq!((opened.slot(), kit.open(&arena).slot(), opened.generation()), (2, 1, 2));
    assert_eq!(opened.audit_key().mac(b"line"), kit.open(&arena).audit_key().mac(b"line"));
}

#[test]
fn values_are_found_by_what_they_are() {
    let kit = Kit::new();
    let mut contents = kit.fill(3);
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    let texts = ["value of S1", "value of S9", "S1", "value of S12"];
    assert_eq!(vault.names_of_values(&texts, &arena).unwrap(), names(&["S1"]));
    assert_eq!(vault.names_of_values(&["old"], &arena).unwrap(), names(&["S0", "S1", "S2"]));
    assert!(vault.names_of_values(&["", "other text"], &arena).unwrap().is_empty());
    let record = contents.values_mut().next().unwrap();
    for (value, is_there) in [("value of S0", true), ("old", true), ("value of S1", false), ("new", false)] {
        assert_eq!(vault.has_value(record, value.as_bytes(), &arena).unwrap(), is_there, "{value}");
    }
    assert!(record.versions[0].revoke());
    assert!(!vault.has_value(record, b"old", &arena).unwrap());
    // A value that was moved to another version does not open.
    record.versions[1].number = 3;
    let said = vault.has_value(record, b"value of S0", &arena).unwrap_err().to_string();
    assert!(said.contains("version 3 of secret 'S0'"), "{said}");
    vault.replace(&kit.lock(), &contents).unwrap();
    let vault = kit.open(&arena);
    assert!(vault.names_of_values(&["value of S0"], &arena).unwrap_err().to_string().contains("version 3 of secret"));
    // What was wiped is passed over.
    assert_eq!(vault.names_of_values(&["old"], &arena).unwrap(), names(&["S1", "S2"]));
}

#[test]
fn the_ledger_keeps_approvals_and_retired_keys() {
    let kit = Kit::new();
    let contents = kit.fill(1);
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    let approval = |text: &str| Approval { time: 1_700_000_000, definition: text.into() };
    let mut ledger = vault.ledger().unwrap();
    assert!(ledger.approvals().is_empty() && ledger.eras(&arena).unwrap().is_empty());
    let chains: [ChainName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
    for chain in &chains {
        ledger.approve(chain.clone(), approval(chain.as_str()));
    }
    ledger.approve(chains[1].clone(), approval("again"));
    ledger.retire(&vault.audit_key(), 7, [1; 32], 1_700_000_001);
    ledger.retire(&vault.audit_key(), 9, [2; 32], 1_700_000_002);
    vault.replace_with_ledger(&kit.lock(), &contents, &ledger).unwrap();
    let vault = kit.open(&arena);
    let told = chains.clone().map(|chain| vault.approval(&chain).unwrap().unwrap().definition);
    assert_eq!(told, ["a", "again", "c"]);
    assert_eq!(vault.approval(&"d".parse().unwrap()).unwrap(), None);
    let read = vault.ledger().unwrap();
    assert!(read.approvals().keys().eq(&chains) && read.approvals()[&chains[0]] == approval("a"));
    let eras = read.eras(&arena).unwrap();
    let eras: Vec<_> = eras.iter().map(|era| (era.key, era.last, era.hash, era.time)).collect();
    let key = vault.audit_key();
    assert_eq!(eras, [(key.bytes(), 7, [1; 32], 1_700_000_001), (key.bytes(), 9, [2; 32], 1_700_000_002)]);
    assert_eq!(key.mac(b"line"), crypto::hmac(key.bytes(), &[b"line"]));
    // A change of the contents alone leaves it as it is.
    vault.replace(&kit.lock(), &contents).unwrap();
    assert_eq!(*kit.open(&arena).ledger_plain().unwrap(), **ledger.encode().unwrap());
    assert_eq!(ledger.encode().unwrap().len(), 2 + 2 * 80 + 4 + 3 * (2 + 1 + 8 + 4) + 1 + 5 + 1);
    // It did not grow on the way: that would leave copies of the keys behind.
    let mut ledger = Ledger::empty();
    ledger.approve("c".repeat(128).parse().unwrap(), approval(""));
    assert_eq!(ledger.encode().unwrap().capacity(), 128 + 16 + 8);
}

/// docs/vault-format.md, to the byte: else a change that writer and reader share goes unnoticed.
#[test]
fn what_is_sealed_is_bound_to_its_place() {
    let slots = [const { Slot::none() }; 8];
    let header = Header { vault_id: [9; 16], generation: 0x0102, write_salt: [0; 32], bucket_count: 4, slots };
    let aad = [&[9; 16][..], &[2, 1, 0, 0, 0, 0, 0, 0], &[4, 0, 0, 0], &[3, 0, 0, 0]].concat();
    assert_eq!(header.bucket_aad(3)[..], aad);
    let name: SecretName = "ab".parse().unwrap();
    let bound = [&b"mentiko/1 value"[..], &[9; 16], &[2, 0], b"ab", &[5, 0, 0, 0], &[7; 32]].concat();
    assert_eq!(value_context(&[9; 16], &name, 5, &[7; 32]), bound);
    let root = RootKey(&[6; 32]);
    assert_eq!(root.value(&bound), crypto::hkdf(&[6; 32], &[], &[&bound]));
    assert_eq!(root.header(), crypto::hkdf(&[6; 32], &[], &[b"mentiko/1 header"]));
    assert_eq!(root.index(), crypto::hkdf(&[6; 32], &[], &[b"mentiko/1 index"]));
    let of_generation = [&[7; 32][..], &[2, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(root.ledger(&[7; 32], 0x0102), crypto::hkdf(&[6; 32], &[], &[b"mentiko/1 ledger", &of_generation]));
    assert_eq!(
        root.bucket(&[7; 32], 0x0102, 3),
        crypto::hkdf(&[6; 32], &[], &[b"mentiko/1 bucket", &of_generation, &[3, 0, 0, 0]])
    );
    let arena = Arena::new().unwrap();
    let audit = root.audit(&arena).unwrap();
    assert_eq!(audit.mac(b"line"), crypto::hmac(&crypto::hkdf(&[6; 32], &[], &[b"mentiko/1 audit"]), &[b"line"]));
    assert!(
        audit.checker().is_mac(b"line", &audit.mac(b"line")) && !audit.checker().is_mac(b"lime", &audit.mac(b"line"))
    );
}

#[test]
fn more_versions_follow_and_the_newest_is_current() {
    let kit = Kit::new();
    let arena = Arena::new().unwrap();
    let vault = kit.open(&arena);
    let mut record = record(&vault, "S");
    assert_eq!(vault.add_version(&mut record, &mut b"third".to_vec(), 1_700_000_002).unwrap(), 3);
    let states: Vec<_> = record.versions.iter().map(|version| (version.number, version.state)).collect();
    assert_eq!(states, [(1, State::Previous), (2, State::Previous), (3, State::Current)]);
    record.versions[2].number = u32::MAX;
    assert!(matches!(vault.add_version(&mut record, &mut b"more".to_vec(), 0), Err(Error::TooLarge)));
}
