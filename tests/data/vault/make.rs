//! Makes the committed vaults anew: the good ones through the library, the bad ones from
//! `good-many.vault` and `good.vault`, one fault each.
//!
//! Faults behind a tag need the keys. They are derived here a second time, from
//! docs/vault-format.md, so that this is no mirror of the code under test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use mentiko_exec::instance::Uuid;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::{Scope, SecretName};
use mentiko_exec::vault::{Approval, Contents, Ledger, PassphraseCost, Record, State, Vault, WriteLock, create};
use serde_json::{Value, json};
use sha2::Sha256;

use super::kit::{OwnedKey, data, hex, instance};

const INSTANCE: &str = "0198c0de-0000-7000-8000-000000000001";
/// 2026-03-07 09:15:02 UTC.
const NOW: u64 = 1_772_874_902;
const HEADER: usize = 976;
/// The first slot.
const SLOT: usize = 80;

fn key() -> OwnedKey {
    OwnedKey::Bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

/// Writes all files.
pub(crate) fn all() {
    for path in std::fs::read_dir(data("")).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension != "rs") {
            std::fs::remove_file(path).unwrap();
        }
    }
    good("good", INSTANCE, &key(), 2, |filling| {
        let all_bytes: Vec<u8> = (1..=255).collect();
        filling.add("OPENAI_API_KEY", &[b"first-value-of-openai", b"second-value", b"third-value-of-openai"]);
        filling.add("slack/marketing", &[b"https://hooks.example/T0/B0"]);
        filling.add("ALL_BYTES", &[&all_bytes]);
        filling.add("ONE", &[b"1"]);
        filling.add("LOST", &[b"gone-1", b"gone-2"]);
        filling.describe("OPENAI_API_KEY", "content,newsletter", "30d", "billing: team A");
        filling.describe("slack/marketing", "newsletter", "quarterly", "Schlüssel für «Märkte», 鍵 🔑");
        filling.describe("ALL_BYTES", "all", "monthly", "");
        filling.describe("LOST", "all", "yearly", "leaked in March");
        filling.record("OPENAI_API_KEY").versions[0].state = State::Revoked;
        filling.record("LOST").versions.iter_mut().for_each(|version| version.state = State::Revoked);
        filling.approve("content", r#"{"secrets":["OPENAI_API_KEY"]}"#);
        filling.approve(
            "newsletter",
            r#"{"secrets":["slack/marketing"],"agents":{"post":{"env":{"HOOK":"slack/marketing"}}}}"#,
        );
        let key = filling.vault.audit_key();
        filling.ledger.retire(&key, 1042, [0x5f; 32], NOW);
    });
    let passphrase = OwnedKey::Passphrase("correct horse battery staple".into());
    let stretched = good("good-passphrase", INSTANCE, &passphrase, 1, |filling| {
        filling.add("A", &[b"value-under-a-passphrase"]);
    });
    let recovery = OwnedKey::Recovery(std::array::from_fn(|at| u8::try_from(0xf0 - at).unwrap()));
    good("good-recovery", INSTANCE, &recovery, 1, |filling| {
        filling.add("A", &[b"value-under-a-recovery-code"]);
    });
    good("good-no-secrets", INSTANCE, &key(), 0, |_| ());
    let many = |filling: &mut Filling<'_>| {
        for at in 0..40 {
            filling.add(&format!("SECRET_{at:02}"), &[format!("value-of-secret-{at:02}").as_bytes()]);
        }
    };
    let made = good("good-many", INSTANCE, &key(), 2, many);
    bad_headers(&made);
    bad_slots(&made, &stretched.vault);
    bad_places(&made);
    bad_records(&made.vault);
}

/// What is to be written, and what it says in the clear.
struct Filling<'a> {
    vault: &'a Vault<'a>,
    contents: Contents,
    ledger: Ledger,
    plain: BTreeMap<(String, u32), Vec<u8>>,
}

impl Filling<'_> {
    fn record(&mut self, name: &str) -> &mut Record {
        let name: SecretName = name.parse().unwrap();
        self.contents.entry(name.clone()).or_insert_with(|| Vault::new_record(name, NOW))
    }

    fn add(&mut self, name: &str, values: &[&[u8]]) {
        for (value, at) in values.iter().zip(0..) {
            let vault = self.vault;
            let number = vault.add_version(self.record(name), &mut value.to_vec(), NOW + at * 3600).unwrap();
            self.plain.insert((name.to_owned(), number), value.to_vec());
        }
    }

    fn approve(&mut self, chain: &str, definition: &str) {
        self.ledger.approve(chain.parse().unwrap(), Approval { time: NOW, definition: definition.into() });
    }

    fn describe(&mut self, name: &str, scope: &str, rotation: &str, note: &str) {
        let record = self.record(name);
        record.scope = scope.parse().unwrap();
        record.rotation = Some(rotation.parse().unwrap());
        record.note = note.to_owned();
        record.changed += 60;
    }

    fn truth(&self) -> Value {
        let secrets = self.contents.values().map(|record| {
            let name = record.name.to_string();
            let versions = record.versions.iter().map(|version| {
                let state = format!("{:?}", version.state).to_lowercase();
                let value = hex(&self.plain[&(name.clone(), version.number)]);
                json!({"version": version.number, "state": state, "created": version.created, "value": value})
            });
            let scope = match &record.scope {
                Scope::All => Value::Null,
                Scope::Chains(chains) => chains.iter().map(|chain| chain.as_str()).collect(),
            };
            let described = json!({
                "scope": scope, "rotation": record.rotation.map(|rotation| rotation.to_string()),
                "note": record.note, "created": record.created, "changed": record.changed,
                "versions": versions.collect::<Vec<_>>(),
            });
            (name.clone(), described)
        });
        Value::Object(secrets.collect())
    }

    fn ledger_truth(&self) -> Value {
        let arena = Arena::new().unwrap();
        let eras = self
            .ledger
            .eras(&arena)
            .unwrap()
            .into_iter()
            .map(|era| json!({"key": hex(era.key), "last": era.last, "hash": hex(&era.hash), "time": era.time}));
        let approvals = self.ledger.approvals().iter().map(|(chain, approval)| {
            (chain.to_string(), json!({"time": approval.time, "definition": approval.definition}))
        });
        json!({"retired": eras.collect::<Vec<_>>(), "approvals": Value::Object(approvals.collect())})
    }
}

/// One vault in two generations: the same contents, written once more.
struct Made {
    vault: Vec<u8>,
    older: Vec<u8>,
}

/// Makes a vault and writes it so many times more.
fn make(id: &str, key: &OwnedKey, writes: u64, fill: impl FnOnce(&mut Filling<'_>)) -> (Made, [Value; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let instance = instance(folder.path(), id);
    let arena = Arena::new().unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    create(&lock, &instance, key.key(), PassphraseCost::default(), &arena).unwrap();
    let vault = Vault::open(&instance, key.key(), &arena).unwrap();
    let mut filling =
        Filling { vault: &vault, contents: Contents::new(), ledger: vault.ledger().unwrap(), plain: BTreeMap::new() };
    fill(&mut filling);
    let mut made = Made { vault: std::fs::read(&instance.vault).unwrap(), older: Vec::new() };
    for _ in 0..writes {
        let vault = Vault::open(&instance, key.key(), &arena).unwrap();
        vault.replace_with_ledger(&lock, &filling.contents, &filling.ledger).unwrap();
        made = Made { older: made.vault, vault: std::fs::read(&instance.vault).unwrap() };
    }
    (made, [filling.truth(), filling.ledger_truth()])
}

/// The same, committed, with the truth beside it.
fn good(name: &str, id: &str, key: &OwnedKey, writes: u64, fill: impl FnOnce(&mut Filling<'_>)) -> Made {
    let (made, [secrets, ledger]) = make(id, key, writes, fill);
    let mut truth = json!({
        "instance": id, "vault_id": hex(&made.vault[16..32]), "generation": writes + 1,
        "buckets": u32_at(&made.vault, 72), "secrets": secrets,
        "ledger": ledger,
    });
    match key {
        OwnedKey::Bytes(key) => truth["key"] = hex(key).into(),
        OwnedKey::Passphrase(passphrase) => truth["passphrase"] = passphrase.as_str().into(),
        OwnedKey::Recovery(key) => truth["recovery"] = hex(key).into(),
    }
    std::fs::write(data(&format!("{name}.vault")), &made.vault).unwrap();
    std::fs::write(data(&format!("{name}.json")), serde_json::to_string_pretty(&truth).unwrap() + "\n").unwrap();
    made
}

fn bad(name: &str, fault: &str, step: &str, error: &str, bytes: &[u8]) {
    let text = format!("fault: {fault}\nstep: {step}\nerror: {error}\n");
    std::fs::write(data(&format!("bad-{name}.vault")), bytes).unwrap();
    std::fs::write(data(&format!("bad-{name}.expected")), text).unwrap();
}

/// As above, opened with a passphrase.
fn bad_with_passphrase(name: &str, fault: &str, passphrase: &str, bytes: &[u8]) {
    bad(name, fault, "open", WRONG_PASSPHRASE, bytes);
    let path = data(&format!("bad-{name}.expected"));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}passphrase: {passphrase}\n")).unwrap();
}

const NO_SLOT: &str = "the instance key opens no key slot";
const WRONG_PASSPHRASE: &str = "the passphrase is wrong";
const HEADER_MAC: &str = "the MAC of the header";
const BUCKET_COUNT: &str = "the bucket count of the header";

fn bad_headers(made: &Made) {
    let with = |at: usize, bytes: &[u8]| put(&made.vault, at, bytes);
    let not_format_1 = "it does not begin with MENTIKO1, format 1";
    let short = "it is too short for a header";
    bad("empty", "the file has no bytes", "open", short, &[]);
    bad("truncated-header", "one byte of the header is missing", "open", short, &made.vault[..HEADER - 1]);
    bad("truncated-table", "the file ends within the table", "open", BUCKET_COUNT, &made.vault[..HEADER + 13]);
    bad("magic", "the magic is MENTIKO2", "open", not_format_1, &with(7, b"2"));
    bad("format-2", "the format is 2", "open", not_format_1, &with(8, &[2]));
    bad("flags", "a flag is set", "open", not_format_1, &with(12, &[1]));
    bad("bucket-count-zero", "there are 0 buckets", "open", BUCKET_COUNT, &with(72, &[0]));
    let three = with(72, &[3]);
    bad("bucket-count-not-power-of-two", "there are 3 buckets", "open", BUCKET_COUNT, &three);
    let huge = with(72, &(1u32 << 21).to_le_bytes());
    bad("bucket-count-huge", "there are 2^21 buckets", "open", BUCKET_COUNT, &huge);
    let beyond = with(72, &(1u32 << 20).to_le_bytes());
    bad("bucket-count-beyond-file", "the table would be larger than the file", "open", BUCKET_COUNT, &beyond);
    let half = with(72, &[2]);
    bad("bucket-count-half", "there are 4 buckets, and the header says 2", "open", HEADER_MAC, &half);
    let generation = with(32, &[made.vault[32] + 1]);
    bad("generation", "the generation is one more than what was written", "open", HEADER_MAC, &generation);
    bad("write-salt", "a bit of the write salt is flipped", "open", HEADER_MAC, &flip(&made.vault, 40));
    bad("header-mac", "a bit of the header MAC is flipped", "open", HEADER_MAC, &flip(&made.vault, HEADER - 1));
    let unused = flip(&made.vault, SLOT + 108 + 50);
    bad("unused-slot", "a bit of an unused slot is flipped", "open", HEADER_MAC, &unused);
    let older = put(&made.vault, 0, &made.older[..HEADER]);
    bad("header-from-older-generation", "the header is that of the generation before", "lookup", "bucket 0", &older);
}

fn bad_slots(made: &Made, stretched: &[u8]) {
    let with = |at: usize, bytes: &[u8]| put(&made.vault, SLOT + at, bytes);
    let field = "a field of the header";
    bad("slot-kind", "a slot has the unknown kind 9", "open", field, &with(0, &[9]));
    bad("slot-kind-recovery", "the kind of the slot is 3, and the key is of kind 1", "open", NO_SLOT, &with(0, &[3]));
    bad("slot-reserved", "a reserved byte of a slot is not 0", "open", field, &with(3, &[1]));
    bad("slot-count", "there is 1 slot, and the header says 2", "open", field, &put(&made.vault, 76, &[2]));
    bad("slot-kind-other", "the kind of the slot is 2, and the key is of kind 1", "open", NO_SLOT, &with(0, &[2]));
    bad("slot-salt", "a bit of the slot's salt is flipped", "open", NO_SLOT, &flip(&made.vault, SLOT + 16));
    bad("slot-tag", "a bit of the slot's tag is flipped", "open", NO_SLOT, &flip(&made.vault, SLOT + 107));
    bad("vault-id", "a bit of the vault id is flipped", "open", NO_SLOT, &flip(&made.vault, 16));
    let (another, _) = make(INSTANCE, &key(), 1, |_| ());
    let slot = with(0, &another.vault[SLOT..SLOT + 108]);
    bad("slot-from-another-vault", "the slot is that of another vault of the instance", "open", NO_SLOT, &slot);
    let (instance, _) = make("0198c0de-0000-7000-8000-000000000002", &key(), 1, |_| ());
    bad("wrong-instance", "the vault belongs to another instance", "open", NO_SLOT, &instance.vault);
    let (wrong, _) = make(INSTANCE, &OwnedKey::Bytes([7; 32]), 1, |_| ());
    bad("wrong-key", "the vault was sealed under another instance key", "open", NO_SLOT, &wrong.vault);
    let other_root = Forge::new(&made.vault).slot_with_another_root(&made.vault);
    bad("slot-other-root", "the slot opens, and holds another root key", "open", HEADER_MAC, &other_root);
    let right = "correct horse battery staple";
    bad_with_passphrase("wrong-passphrase", "the passphrase is another", "correct horse battery stapler", stretched);
    let memory = put(stretched, SLOT + 4, &u32::MAX.to_le_bytes());
    bad_with_passphrase("argon2-memory-huge", "Argon2id would take 4 TiB", right, &memory);
    let passes = put(stretched, SLOT + 8, &[0; 4]);
    bad_with_passphrase("argon2-passes-zero", "Argon2id would make no pass", right, &passes);
    let lanes = put(stretched, SLOT + 12, &[0, 1, 0, 0]);
    bad_with_passphrase("argon2-lanes-256", "Argon2id would use 256 lanes", right, &lanes);
}

fn bad_places(made: &Made) {
    let vault = &made.vault;
    let (header, buckets) = parts(vault);
    let entry = |index: usize| HEADER + 12 * index;
    let offset = |index: usize, offset: u64| put(vault, entry(index), &offset.to_le_bytes());
    let length = |index: usize, length: u32| put(vault, entry(index) + 8, &length.to_le_bytes());
    let len = |index: usize| u32::try_from(buckets[index].len()).unwrap();
    let end = vault.len() as u64;
    bad("table-offset-past-end", "a bucket begins after the end", "lookup", "the place of bucket 0", &offset(0, end));
    let overflow = offset(0, u64::MAX - 15);
    bad("table-offset-overflow", "offset and length pass 2^64", "lookup", "the place of bucket 0", &overflow);
    bad("table-offset-in-header", "a bucket begins in the header", "lookup", "the place of bucket 1", &offset(1, 80));
    bad("table-length-short", "a bucket has 31 bytes", "lookup", "the place of bucket 2", &length(2, 31));
    let less = length(2, len(2) - 1);
    bad("table-length-one-less", "a bucket is one byte shorter in the table", "lookup", "bucket 2", &less);
    let past = length(3, len(3) + len(4) + 1);
    bad("table-length-past-end", "a bucket ends after the file", "lookup", "the place of bucket 3", &past);
    let into = length(1, len(1) + 40);
    bad("table-length-into-next", "a bucket runs into the next", "lookup", "bucket 1", &into);
    let overlap = offset(1, u64_at(vault, entry(0)));
    bad("table-overlap", "two buckets begin at one place", "lookup", "bucket 1", &overlap);
    let mut swapped = put(vault, entry(0), &vault[entry(1)..entry(2)]);
    swapped[entry(1)..entry(2)].copy_from_slice(&vault[entry(0)..entry(1)]);
    bad("table-swapped", "the entries of two buckets are swapped", "lookup", "bucket 0", &swapped);
    let mut order = buckets.clone();
    order.swap(0, 1);
    bad("buckets-swapped", "two buckets are swapped", "lookup", "bucket 0", &assemble(&header, &order));
    bad("bucket-nonce", "a bit of a nonce is flipped", "lookup", "bucket 0", &flip(vault, entry(5)));
    let middle = entry(5) + buckets[0].len() + buckets[1].len() / 2;
    bad("bucket-ciphertext", "a bit of a ciphertext is flipped", "lookup", "bucket 1", &flip(vault, middle));
    let last = vault.len() - buckets[4].len() - 1;
    bad("bucket-tag", "a bit of a tag is flipped", "lookup", "bucket 3", &flip(vault, last));
    bad("ledger-tag", "a bit of the ledger's tag is flipped", "all", "the ledger", &flip(vault, vault.len() - 1));
    let past = length(4, len(4) + 1);
    bad("ledger-length-past-end", "the ledger ends after the file", "all", "the place of the ledger", &past);
    let as_ledger = offset(4, u64_at(vault, entry(3)));
    bad("ledger-place-of-bucket", "the ledger's entry is a bucket's", "all", "the place of the ledger", &as_ledger);
    let mut older = buckets.clone();
    older[2] = parts(&made.older).1[2].clone();
    let older = assemble(&header, &older);
    assert_eq!(older.len(), vault.len());
    bad("bucket-from-older-generation", "a bucket is that of the generation before", "lookup", "bucket 2", &older);
    let cut = &vault[..vault.len() - 1];
    bad("truncated-ledger", "the last byte is missing", "all", "the place of the ledger", cut);
    let cut = &vault[..vault.len() - buckets[4].len() - 1];
    bad("truncated-bucket", "the last byte of the last bucket is missing", "lookup", "the place of bucket 3", cut);
    let mut older = buckets.clone();
    older[4] = parts(&made.older).1[4].clone();
    let older = assemble(&header, &older);
    bad("ledger-from-older-generation", "the ledger is that of the generation before", "all", "the ledger", &older);
    // What is right for whoever looks for a name, and is no vault that a writer makes.
    let trailing = [vault, &b"x"[..]].concat();
    bad("trailing-bytes", "a byte follows the ledger", "all", "there are bytes after the ledger", &trailing);
    let start = usize::try_from(u64_at(vault, entry(3))).unwrap();
    let mut gap = [&vault[..start], &[0], &vault[start..]].concat();
    for index in [3, 4] {
        let moved = u64_at(vault, entry(index)) + 1;
        gap[entry(index)..entry(index) + 8].copy_from_slice(&moved.to_le_bytes());
    }
    bad("table-gap", "a byte stands between two buckets", "all", "the place of bucket 3", &gap);
    let mut order = assemble(&header, &[1, 0, 2, 3, 4].map(|index: usize| buckets[index].clone()));
    let first = u64_at(&order, entry(0));
    order[entry(0)..entry(1)]
        .copy_from_slice(&[&(first + u64::from(len(1))).to_le_bytes()[..], &len(0).to_le_bytes()].concat());
    order[entry(1)..entry(2)].copy_from_slice(&[&first.to_le_bytes()[..], &len(1).to_le_bytes()].concat());
    bad("table-order", "bucket 1 stands before bucket 0", "all", "the place of bucket 0", &order);
}

/// Faults that only who has the key could have made: a writer's, not an attacker's.
fn bad_records(vault: &[u8]) {
    let forge = Forge::new(vault);
    let edited = |edit: &dyn Fn(&mut Vec<Vec<u8>>)| forge.reseal(vault, edit);
    // Every record of this vault has 130 bytes; the first one begins after the count.
    let first = |at: usize, bytes: &[u8]| edited(&|buckets| buckets[0] = put(&buckets[0], 4 + at, bytes));
    let with_count = |count: u8| edited(&|buckets| buckets[0][0] = count);
    let lookup = |name: &str, fault: &str, bytes: &[u8]| bad(name, fault, "lookup", "bucket 0", bytes);
    let secret = String::from_utf8(parts_plain(&forge, vault)[0][6..15].to_vec()).unwrap();
    let value = |name: &str, fault: &str, version: u32, bytes: &[u8]| {
        bad(name, fault, "value", &format!("version {version} of secret '{secret}'"), bytes);
    };
    let count = parts_plain(&forge, vault)[0][0];
    lookup("record-count-more", "a bucket says one record more than it has", &with_count(count + 1));
    lookup("record-count-less", "a bucket says one record less than it has", &with_count(count - 1));
    lookup("record-trailing", "a byte follows the last record", &edited(&|buckets| buckets[0].push(0)));
    lookup("record-name", "a name has a newline in it", &first(5, b"\n"));
    lookup("record-name-length", "the length of a name passes the end", &first(0, &[0xff, 0xff]));
    lookup("record-scope", "the scope is 0x2F", &first(11, &[0x2f]));
    lookup("record-rotation", "the rotation is 5", &first(12, &[5]));
    lookup("record-rotation-days", "the rotation is every 0 days", &first(12, &[1, 0, 0]));
    lookup("record-rotation-stray-days", "there are days, and no rotation", &first(12, &[0, 1, 0]));
    let note = edited(&|buckets| {
        buckets[0][19] = 2;
        buckets[0].splice(21..21, [0xc3, 0x28]);
    });
    lookup("record-note", "the note is not UTF-8", &note);
    lookup("record-state", "the state of a version is 0", &first(39, &[0]));
    lookup("value-length", "the length of a value passes the end", &first(92, &u32::MAX.to_le_bytes()));
    let wrong = edited(&|buckets| {
        let record = buckets[0][4..134].to_vec();
        buckets[1][0] += 1;
        buckets[1].extend_from_slice(&record);
    });
    let ledger = |name: &str, fault: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        bad(name, fault, "all", "the ledger", &edited(&|buckets| edit(&mut buckets[4])));
    };
    ledger("ledger-trailing", "a byte follows the last approval", &|plain| plain.push(0));
    ledger("ledger-retired-count", "a retired key is counted, and none is there", &|plain| plain[0] = 1);
    ledger("ledger-approval-count", "an approval is counted, and none is there", &|plain| plain[2] = 1);
    ledger("ledger-approval-chain", "an approval is of no name of a chain", &|plain| {
        plain[2] = 1;
        plain.extend_from_slice(&[1, 0, b'/', 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'{', b'}']);
    });
    ledger("ledger-approval-length", "the length of an approval passes the end", &|plain| {
        plain[2] = 1;
        plain.extend_from_slice(&[1, 0, b'c', 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'{', b'}']);
    });
    bad("record-in-wrong-bucket", "a record stands in another's bucket too", "all", "another's record", &wrong);
    value("value-tag", "a bit of a value's tag is flipped", 1, &edited(&|buckets| buckets[0][133] ^= 1));
    value("value-salt", "a bit of a value's salt is flipped", 1, &edited(&|buckets| buckets[0][52] ^= 1));
    value("value-version", "a value stands under another version's number", 2, &first(35, &[2]));
    let swapped = edited(&|buckets| {
        let (one, two) = (buckets[0][52..134].to_vec(), buckets[0][182..264].to_vec());
        buckets[0][52..134].copy_from_slice(&two);
        buckets[0][182..264].copy_from_slice(&one);
    });
    value("value-of-another-secret", "the sealed values of two secrets are swapped", 1, &swapped);
    let short = edited(&|buckets| {
        buckets[0][96] = 15;
        buckets[0].drain(115..134);
    });
    value("value-short", "a sealed value is shorter than a tag", 1, &short);
}

fn parts_plain(forge: &Forge, vault: &[u8]) -> Vec<Vec<u8>> {
    parts(vault).1.into_iter().zip(0..).map(|(bucket, index)| forge.open_bucket(vault, index, &bucket)).collect()
}

fn put(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn flip(bytes: &[u8], at: usize) -> Vec<u8> {
    put(bytes, at, &[bytes[at] ^ 0x10])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The header, and the bytes of each bucket and of the ledger.
fn parts(vault: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let bucket = |index: u32| {
        let entry = HEADER + 12 * index as usize;
        let start = usize::try_from(u64_at(vault, entry)).unwrap();
        vault[start..start + u32_at(vault, entry + 8) as usize].to_vec()
    };
    (vault[..HEADER].to_vec(), (0..=u32_at(vault, 72)).map(bucket).collect())
}

/// The other direction, with the table that fits.
fn assemble(header: &[u8], buckets: &[Vec<u8>]) -> Vec<u8> {
    let mut offset = HEADER + 12 * buckets.len();
    let mut out = header.to_vec();
    for bucket in buckets {
        out.extend_from_slice(&(offset as u64).to_le_bytes());
        out.extend_from_slice(&u32::try_from(bucket.len()).unwrap().to_le_bytes());
        offset += bucket.len();
    }
    out.extend(buckets.iter().flatten());
    out
}

/// The format's keys, derived a second time.
struct Forge {
    root: [u8; 32],
}

impl Forge {
    fn new(vault: &[u8]) -> Self {
        let slot = &vault[SLOT..SLOT + 108];
        let (kek, aad) = Self::kek(vault);
        let root = open(&kek, &slot[48..60], &aad, &slot[60..]);
        Self { root: root.try_into().unwrap() }
    }

    fn kek(vault: &[u8]) -> ([u8; 32], Vec<u8>) {
        let OwnedKey::Bytes(key) = key() else { unreachable!() };
        let id = Uuid::parse_str(INSTANCE).unwrap();
        let info = [&b"mentiko/1 slot"[..], id.as_bytes(), &vault[16..32]].concat();
        let aad = [&b"MENTIKO1"[..], &[1, 0, 0, 0], &vault[16..32], &[1]].concat();
        (derive(&key, &vault[SLOT + 16..SLOT + 48], &info), aad)
    }

    fn slot_with_another_root(&self, vault: &[u8]) -> Vec<u8> {
        let (kek, aad) = Self::kek(vault);
        let root = self.root.map(|byte| !byte);
        let sealed = seal(&kek, &vault[SLOT + 48..SLOT + 60], &aad, &root);
        put(vault, SLOT + 60, &sealed)
    }

    /// The key and the associated data of a bucket, or of the ledger after the last one.
    fn bucket(&self, vault: &[u8], index: u32) -> ([u8; 32], Vec<u8>) {
        let is_ledger = index == u32_at(vault, 72);
        let index = index.to_le_bytes();
        let info = match is_ledger {
            false => [&b"mentiko/1 bucket"[..], &vault[40..72], &vault[32..40], &index].concat(),
            true => [&b"mentiko/1 ledger"[..], &vault[40..72], &vault[32..40]].concat(),
        };
        let aad = [&vault[16..40], &vault[72..76], &index].concat();
        (derive(&self.root, &[], &info), aad)
    }

    fn open_bucket(&self, vault: &[u8], index: u32, bucket: &[u8]) -> Vec<u8> {
        let (key, aad) = self.bucket(vault, index);
        open(&key, &bucket[..12], &aad, &bucket[12..])
    }

    /// Opens all buckets, lets `edit` change what is in them, seals them again.
    fn reseal(&self, vault: &[u8], edit: &dyn Fn(&mut Vec<Vec<u8>>)) -> Vec<u8> {
        let mut plain = parts_plain(self, vault);
        edit(&mut plain);
        let nonce = [0x42; 12];
        let sealed = |(plain, index): (Vec<u8>, u32)| {
            let (key, aad) = self.bucket(vault, index);
            [&nonce[..], &seal(&key, &nonce, &aad, &plain)].concat()
        };
        assemble(&vault[..HEADER], &plain.into_iter().zip(0..).map(sealed).collect::<Vec<_>>())
    }
}

fn derive(ikm: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, &mut key).unwrap();
    key
}

fn seal(key: &[u8; 32], nonce: &[u8], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; 12] = nonce.try_into().unwrap();
    let mut out = plain.to_vec();
    let cipher = Aes256Gcm::new(key.into());
    let tag = cipher.encrypt_inout_detached(&Nonce::from(nonce), aad, out.as_mut_slice().into()).unwrap();
    out.extend_from_slice(&tag);
    out
}

fn open(key: &[u8; 32], nonce: &[u8], aad: &[u8], sealed: &[u8]) -> Vec<u8> {
    let nonce: [u8; 12] = nonce.try_into().unwrap();
    let (sealed, tag) = sealed.split_last_chunk::<16>().unwrap();
    let mut out = sealed.to_vec();
    let cipher = Aes256Gcm::new(key.into());
    let tag = Tag::from(*tag);
    cipher.decrypt_inout_detached(&Nonce::from(nonce), aad, out.as_mut_slice().into(), &tag).unwrap();
    out
}
