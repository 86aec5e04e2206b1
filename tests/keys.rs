//! The keys of an instance: added, removed, recovered.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "common/keys.rs"]
mod kit;

use std::path::Path;
use std::process::Command;

use common::{Site, chmod, text};
use kit::{assert_whole, done, recovery_code, refused, with_code, with_fd};
use serde_json::{Value, json};

fn slots(site: &Site) -> Value {
    serde_json::from_str(&done(&mut site.mentiko(&["key", "list", "--json"]))).unwrap()
}

fn kinds(site: &Site) -> Vec<String> {
    slots(site).as_array().unwrap().iter().map(|slot| slot["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_new_instance_has_one_slot_and_the_list_says_what_opens_it() {
    let site = Site::new();
    let only = json!([{"slot": 1, "kind": "instance key", "argon2": null, "opened": true}]);
    assert_eq!(slots(&site), only);
    let add = site.mentiko(&["key", "add", "--passphrase", "--new-passphrase-fd", "9"]);
    assert_eq!(done(&mut with_fd(&add, 9, b"correct horse\n")), "added slot 2: passphrase\n");
    let second = &slots(&site)[1];
    assert_eq!(second["argon2"], json!({"memory_kib": 65536, "passes": 3, "lanes": 4}));
    assert_eq!((&second["kind"], &second["opened"]), (&json!("passphrase"), &json!(false)));
    let table = done(&mut site.mentiko(&["key", "list"]));
    assert!(table.contains("Argon2id, 65536 KiB, 3 passes, 4 lanes"), "{table}");
    let twice = refused(&mut with_fd(&add, 9, b"correct horse"));
    assert!(twice.contains("opens slot 2 already"), "{twice}");
    let empty = refused(&mut with_fd(&add, 9, b"\n"));
    assert!(empty.contains("the passphrase is empty"), "{empty}");
    // An instance of this vault whose key source is the passphrase.
    let path = site.file("instance.json");
    let mut configuration: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    configuration["key"] = json!({"source": "passphrase"});
    std::fs::write(&path, configuration.to_string()).unwrap();
    let list = site.mentiko(&["key", "list", "--json", "--passphrase-fd", "9"]);
    let listed: Value = serde_json::from_str(&done(&mut with_fd(&list, 9, b"correct horse\n"))).unwrap();
    assert_eq!((&listed[0]["opened"], &listed[1]["opened"]), (&json!(false), &json!(true)));
    let wrong = refused(&mut with_fd(&list, 9, b"correct horsf\n"));
    assert!(wrong.contains("the passphrase is wrong"), "{wrong}");
    // Its last passphrase stays, whatever opened the vault.
    let list = site.mentiko(&["key", "remove", "2", "--passphrase-fd", "9"]);
    let stays = refused(&mut with_fd(&list, 9, b"correct horse"));
    assert!(stays.contains("slot 2 stays: it is the one that opened the vault now"), "{stays}");
}

#[test]
fn a_recovery_code_opens_the_vault_and_a_wrong_one_does_not() {
    let site = Site::with_two_agents();
    let code = recovery_code(&site);
    std::fs::remove_file(site.file("instance.key")).unwrap();
    assert!(refused(&mut site.mentiko(&["secret", "list"])).contains("instance.key"));
    for spelling in [code.clone(), code.to_lowercase().replace('-', " "), format!("{code}\n")] {
        let listed = done(&mut with_code(&site, &spelling, &["secret", "list"]));
        assert!(listed.contains('A') && listed.contains('B'), "{listed}");
    }
    let mut mistyped = code.clone();
    let slip = if code.as_bytes()[8] == b'7' { "8" } else { "7" };
    mistyped.replace_range(8..9, slip);
    let error = refused(&mut with_code(&site, &mistyped, &["secret", "list"]));
    assert!(error.contains("group 2 of the recovery code is mistyped") && !error.contains(&code[..5]), "{error}");
    // A whole one of another instance.
    let other = recovery_code(&Site::new());
    let error = refused(&mut with_code(&site, &other, &["secret", "list"]));
    assert!(error.contains("the recovery code opens no key slot"), "{error}");
    // The code is in no file.
    let everything = Command::new("grep").args(["-rlF", &code]).arg(site.path()).output().unwrap();
    assert_eq!(text(&everything.stdout), "");
}

#[test]
fn who_lost_the_key_file_makes_a_new_one_with_the_recovery_code() {
    let site = Site::with_two_agents();
    let code = recovery_code(&site);
    let key = site.file("instance.key");
    let lost = std::fs::read(&key).unwrap();
    let again = refused(&mut site.mentiko(&["key", "add", "--instance-key"]));
    assert!(again.contains("opens slot 1 already"), "{again}");
    std::fs::remove_file(&key).unwrap();
    assert_eq!(site.exec("c", "one").args(["--", "true"]).output().unwrap().status.code(), Some(78));
    let made = done(&mut with_code(&site, &code, &["key", "add", "--instance-key"]));
    assert!(made.contains("instance.key, which opens slot 3"), "{made}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.metadata().unwrap().permissions());
    assert_eq!((mode & 0o777, std::fs::read(&key).unwrap() == lost), (0o600, false));
    assert_eq!(kinds(&site), ["instance key", "recovery code", "instance key"]);
    assert_whole(&site);
    // The lost one may go now; the new one and what opened the vault may not.
    let stays = refused(&mut site.mentiko(&["key", "remove", "3"]));
    assert!(stays.contains("slot 3 stays: it is the one that opened"), "{stays}");
    let stays = refused(&mut with_code(&site, &code, &["key", "remove", "3"]));
    assert!(stays.contains("slot 3 stays: it is that of the configured key"), "{stays}");
    let stays = refused(&mut with_code(&site, &code, &["key", "remove", "2"]));
    assert!(stays.contains("slot 2 stays: it is the one that opened"), "{stays}");
    done(&mut with_code(&site, &code, &["key", "remove", "1"]));
    let stays = refused(&mut with_code(&site, &code, &["key", "remove", "3"]));
    assert!(stays.contains("slot 3 stays: the configured key source opens no other"), "{stays}");
    std::fs::write(&key, lost).unwrap();
    assert!(refused(&mut site.mentiko(&["secret", "list"])).contains("opens no key slot"));
}

#[test]
fn removing_takes_a_key_its_power_and_each_change_is_on_record() {
    let site = Site::with_two_agents();
    let code = recovery_code(&site);
    assert!(refused(&mut site.mentiko(&["key", "remove", "1"])).contains("slot 1 stays"));
    for unused in ["0", "3", "8", "9"] {
        assert!(refused(&mut site.mentiko(&["key", "remove", unused])).contains("is not in use"), "{unused}");
    }
    let removed = done(&mut site.mentiko(&["key", "remove", "2"]));
    assert!(removed.contains("emptied slot 2: recovery code") && removed.contains("older copy"), "{removed}");
    assert!(refused(&mut with_code(&site, &code, &["secret", "list"])).contains("opens no key slot"));
    let log = site.log();
    let found: Vec<_> = log.iter().filter(|line| line["event"].as_str().unwrap().starts_with("key.")).collect();
    let of = |at: usize| [&found[at]["event"], &found[at]["outcome"], &found[at]["reason"]].map(Value::clone);
    assert_eq!(of(0), ["key.add", "done", "slot 2: recovery code"].map(Value::from));
    assert_eq!(of(1), ["key.remove", "done", "slot 2: recovery code"].map(Value::from));
    assert_eq!(found[1]["generation"].as_u64(), Some(found[0]["generation"].as_u64().unwrap() + 1));
    assert_whole(&site);
}

#[test]
fn a_key_from_elsewhere_is_added_and_eight_slots_are_all() {
    let site = Site::with_two_agents();
    let key = "ab".repeat(32);
    let add = site.mentiko(&["key", "add", "--instance-key", "--new-key-fd", "9"]);
    assert_eq!(done(&mut with_fd(&add, 9, key.as_bytes())), "added slot 2: instance key\n");
    let short = refused(&mut with_fd(&add, 9, b"abc"));
    assert!(short.contains("the new key holds neither 32 bytes"), "{short}");
    for _ in 3..=8 {
        recovery_code(&site);
    }
    let full = refused(&mut site.mentiko(&["key", "add", "--recovery"]));
    assert!(full.contains("all 8 key slots are in use"), "{full}");
    let before = std::fs::read(site.file("instance.key")).unwrap();
    std::fs::write(site.file("instance.key"), &key).unwrap();
    assert_whole(&site);
    // No longer the configured key's.
    done(&mut site.mentiko(&["key", "remove", "1"]));
    std::fs::write(site.file("instance.key"), before).unwrap();
    assert!(refused(&mut site.mentiko(&["key", "list"])).contains("opens no key slot"));
}

#[test]
fn exactly_one_kind_of_key_is_added_at_a_time() {
    let site = Site::new();
    for arguments in [
        &["key", "add"][..],
        &["key", "add", "--passphrase", "--recovery"],
        &["key", "add", "--recovery", "--new-passphrase-fd", "9"],
        &["key", "add", "--passphrase", "--new-key-fd", "9"],
    ] {
        assert_eq!(site.mentiko(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(kinds(&site).len(), 1);
}

#[test]
fn what_a_killed_writer_left_beside_the_key_goes_with_the_next_write() {
    let site = Site::new();
    let left = site.file("instance.key.new");
    std::fs::write(&left, [7; 32]).unwrap();
    chmod(&left, 0o600);
    site.set("A", "value");
    assert!(!Path::exists(&left));
}
