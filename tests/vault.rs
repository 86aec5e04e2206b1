//! The vault against damage: every flipped bit, every cut, every swap; and against writers that
//! come at once or die.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "data/vault/bench.rs"]
mod bench;
mod common;
#[path = "data/vault/kit.rs"]
mod kit;
#[path = "data/vault/make.rs"]
mod make;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::{Bench, ENTRY, HEADER, Part, only, part_of, place_of};
use common::{Site, chmod, text};
use kit::{Bad, Good, OwnedKey, Step};
use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Ledger, Vault, WriteLock};
use serde_json::json;

/// `cargo test --test vault -- --ignored make_data` writes `tests/data/vault` anew.
#[test]
#[ignore = "replaces committed files"]
fn make_data() {
    make::all();
}

#[test]
fn good_vaults_open_to_exactly_what_was_put_in() {
    for good in Good::all() {
        let bench = Bench::of(&good, good.bytes());
        let arena = Arena::new().unwrap();
        let vault = bench.open(&arena).unwrap();
        assert_eq!(Some(vault.generation()), good.truth["generation"].as_u64(), "{}", good.name);
        let contents = vault.read_all().unwrap();
        assert!(contents.keys().map(SecretName::as_str).eq(good.secrets().keys()), "{}", good.name);
        for (name, record) in &contents {
            let truth = &good.secrets()[name.as_str()];
            let scope = match truth["scope"].as_array() {
                None => "all".to_owned(),
                Some(chains) => chains.iter().map(|chain| chain.as_str().unwrap()).collect::<Vec<_>>().join(","),
            };
            assert_eq!(record.scope.to_string(), scope, "{name}");
            assert_eq!(record.rotation.map(|rotation| rotation.to_string()).as_deref(), truth["rotation"].as_str());
            assert_eq!(record.note, truth["note"].as_str().unwrap());
            assert_eq!(Some(record.created), truth["created"].as_u64());
            assert_eq!(Some(record.changed), truth["changed"].as_u64());
            assert_eq!(record.versions.len(), truth["versions"].as_array().unwrap().len());
            for (version, truth) in record.versions.iter().zip(truth["versions"].as_array().unwrap()) {
                assert_eq!(Some(u64::from(version.number)), truth["version"].as_u64());
                assert_eq!(format!("{:?}", version.state).to_lowercase(), truth["state"].as_str().unwrap());
                assert_eq!(Some(version.created), truth["created"].as_u64());
            }
        }
        assert_eq!(bench.launch(&bench.names), Ok(good.granted()), "{}", good.name);
        let (ledger, truth) = (vault.ledger().unwrap(), &good.truth["ledger"]);
        assert_eq!(ledger.approvals().len(), truth["approvals"].as_object().unwrap().len());
        for (chain, approval) in ledger.approvals() {
            let known = &truth["approvals"][chain.as_str()];
            assert_eq!(Some(approval.definition.as_str()), known["definition"].as_str());
            assert_eq!(Some(approval.time), known["time"].as_u64());
            assert_eq!(vault.approval(chain).unwrap().as_ref(), Some(approval));
        }
        assert_eq!(vault.approval(&"unknown".parse().unwrap()).unwrap(), None);
        let eras = ledger.eras(&arena).unwrap();
        assert_eq!(eras.len(), truth["retired"].as_array().unwrap().len());
        for (era, known) in eras.iter().zip(truth["retired"].as_array().unwrap()) {
            let found =
                json!({"key": kit::hex(era.key), "last": era.last, "hash": kit::hex(&era.hash), "time": era.time});
            assert_eq!(found, *known);
        }
    }
}

#[test]
fn a_write_of_secrets_keeps_the_ledger() {
    let good = Good::named("good");
    let bench = Bench::of(&good, good.bytes());
    let arena = Arena::new().unwrap();
    let vault = bench.open(&arena).unwrap();
    let lock = WriteLock::take(&bench.instance).unwrap();
    vault.replace(&lock, &vault.read_all().unwrap()).unwrap();
    let written = bench.open(&arena).unwrap();
    assert_eq!(written.generation(), vault.generation() + 1);
    let (before, after) = (vault.ledger().unwrap(), written.ledger().unwrap());
    assert_eq!(before.approvals(), after.approvals());
    let eras = |ledger: &Ledger| {
        let eras = ledger.eras(&arena).unwrap();
        eras.iter().map(|era| (*era.key, era.last, era.hash, era.time)).collect::<Vec<_>>()
    };
    assert_eq!(eras(&before), eras(&after));
    assert!(!before.approvals().is_empty() && !before.eras(&arena).unwrap().is_empty());
}

#[test]
fn bad_vaults_are_refused_at_the_step_and_with_the_words_beside_them() {
    let many = Good::named("good-many");
    for bad in Bad::all() {
        let mut bench = Bench::of(&many, bad.bytes());
        if let Some(passphrase) = &bad.passphrase {
            bench.key = OwnedKey::Passphrase(passphrase.clone());
        }
        let launched = bench.launch(&bench.names);
        let reached = match &launched {
            Err((step, _)) => *step,
            Ok(values) => {
                assert_eq!(*values, many.granted(), "{}", bad.name);
                Step::All
            }
        };
        let error = match launched {
            Err((_, error)) => error,
            Ok(_) => bench.read_all().expect_err(&bad.name),
        };
        assert_eq!(reached, bad.step, "{}: {error}", bad.name);
        assert!(error.contains(&bad.error), "{}: {error}", bad.name);
        if bad.step != Step::Value {
            bench.read_all().expect_err(&bad.name);
        }
    }
}

#[test]
fn bad_vaults_stop_both_programs_with_one_line() {
    let many = Good::named("good-many");
    let site = Site::new();
    adopt(&site, &many);
    for bad in Bad::all().iter().filter(|bad| bad.passphrase.is_none()) {
        std::fs::write(site.file("vault"), bad.bytes()).unwrap();
        if bad.step == Step::All {
            // A launch looks up names, and what it finds is right.
            assert!(site.exec(kit::CHAIN, "any").args(["--", "true"]).status().unwrap().success(), "{}", bad.name);
        } else {
            refused_without_running_anything(&site, &bad.name);
        }
        let listed = site.mentiko(&["secret", "list"]).output().unwrap();
        // Values that nobody opens do not matter to a list.
        assert_eq!(listed.status.success(), bad.step == Step::Value, "{}", bad.name);
        assert!(text(&listed.stderr).lines().count() <= 1, "{}", text(&listed.stderr));
        let stored = site.set_with("SECRET_00", &[], b"new");
        assert_eq!(stored.status.success(), bad.step == Step::Value, "{}: nothing is built on damage", bad.name);
    }
}

#[test]
fn every_flipped_bit_is_noticed_by_whoever_reads_it() {
    let good = Good::named("good-many");
    let bytes = good.bytes();
    let bench = Bench::of(&good, bytes.clone());
    let buckets = bench.buckets();
    let mut flips = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let part = part_of(&bytes, at);
        for bit in 0..8 {
            bench.file.write_all_at(&[byte ^ 1 << bit], at as u64).unwrap();
            match part {
                Part::Header => assert!(bench.opening_fails(), "byte {at}, bit {bit}"),
                Part::Bucket(index) => {
                    let found = bench.launch(&buckets[index].iter().take(1).cloned().collect());
                    assert!(matches!(found, Err((Step::Lookup, _))), "byte {at}, bit {bit}: {found:?}");
                }
                Part::Ledger => assert!(bench.ledger_fails(), "byte {at}, bit {bit}"),
            }
            flips += 1;
            if flips % 61 == 0 {
                bench.read_all().expect_err("a reader of all notices too");
                bench.others_are_untouched(&good, &buckets, part);
            }
        }
        bench.file.write_all_at(&[*byte], at as u64).unwrap();
    }
    assert_eq!(flips, bytes.len() * 8);
    assert_eq!(bench.launch(&bench.names), Ok(good.granted()), "and it is whole again");
}

#[test]
fn flipped_bits_of_a_passphrase_slot_are_noticed() {
    let good = Good::named("good-passphrase");
    let bytes = good.bytes();
    let bench = Bench::of(&good, bytes.clone());
    // Each try costs an Argon2id, so there is one bit of each field; 4 to 15 are its parameters.
    for at in [0, 4, 8, 12, 20, 50, 61, 100].map(|at| 80 + at) {
        bench.file.write_all_at(&[bytes[at] ^ 2], at as u64).unwrap();
        assert!(bench.opening_fails(), "byte {at}");
        bench.file.write_all_at(&[bytes[at]], at as u64).unwrap();
    }
    assert_eq!(bench.launch(&bench.names), Ok(good.granted()));
}

#[test]
fn every_cut_is_noticed() {
    let good = Good::named("good-many");
    let bytes = good.bytes();
    let bench = Bench::of(&good, bytes.clone());
    let buckets = bench.buckets();
    let table_end = HEADER + ENTRY * (buckets.len() + 1);
    // From the end: what was cut off need not be put back.
    for length in (0..bytes.len()).rev() {
        bench.file.set_len(length as u64).unwrap();
        bench.read_all().expect_err("cut");
        assert!(bench.ledger_fails(), "cut to {length}");
        if length < table_end {
            assert!(bench.opening_fails(), "cut to {length}");
            continue;
        }
        for (index, names) in buckets.iter().enumerate() {
            let place = place_of(&bytes, index);
            // One name of each bucket; at the buckets' ends, all of them.
            let count = if length.abs_diff(place.end) < 2 { names.len() } else { 1 };
            let names: BTreeSet<SecretName> = names.iter().take(count).cloned().collect();
            match bench.launch(&names) {
                Ok(values) => assert!(place.end <= length && values == only(&good, &names), "cut to {length}"),
                Err((step, error)) => assert!(step == Step::Lookup && place.end > length, "cut to {length}: {error}"),
            }
        }
    }
}

#[test]
fn swapped_and_overlapping_buckets_are_noticed() {
    let good = Good::named("good-many");
    let bytes = good.bytes();
    let bench = Bench::of(&good, bytes.clone());
    let buckets = bench.buckets();
    let entry = |index: usize| HEADER + ENTRY * index..HEADER + ENTRY * (index + 1);
    let try_with = |bytes: &[u8], broken: &[usize]| {
        bench.file.set_len(0).unwrap();
        bench.file.write_all_at(bytes, 0).unwrap();
        bench.read_all().expect_err("a reader of all notices");
        for (index, names) in buckets.iter().enumerate() {
            match bench.launch(names) {
                Ok(values) => assert!(!broken.contains(&index) && values == only(&good, names), "{broken:?} {index}"),
                Err((step, _)) => assert!(step == Step::Lookup && broken.contains(&index), "{broken:?} {index}"),
            }
        }
    };
    for one in 0..buckets.len() {
        for two in (0..buckets.len()).filter(|&two| two != one) {
            // The entry of one is that of the other.
            let mut edited = bytes.clone();
            edited.copy_within(entry(two), entry(one).start);
            try_with(&edited, &[one]);
            // It begins where the other does, with its own length.
            let mut edited = bytes.clone();
            edited.copy_within(entry(two).start..entry(two).start + 8, entry(one).start);
            try_with(&edited, &[one]);
            // It reaches from its own place to the other's end, over all between.
            if one < two {
                let mut edited = bytes.clone();
                let length = u32::try_from(place_of(&bytes, two).end - place_of(&bytes, one).start).unwrap();
                edited[entry(one)][8..].copy_from_slice(&length.to_le_bytes());
                try_with(&edited, &[one]);
            }
            // Both entries swapped: the bytes stay where they are.
            let mut edited = bytes.clone();
            edited[entry(one)].copy_from_slice(&bytes[entry(two)]);
            edited[entry(two)].copy_from_slice(&bytes[entry(one)]);
            try_with(&edited, &[one, two]);
            // Both buckets swapped, and a table that fits: lengths need not be equal.
            let mut order: Vec<usize> = (0..=buckets.len()).collect();
            order.swap(one, two);
            let mut edited = bytes[..entry(buckets.len()).end].to_vec();
            for (index, &from) in order.iter().enumerate() {
                let bucket = &bytes[place_of(&bytes, from)];
                let start = edited.len() as u64;
                edited[entry(index)][..8].copy_from_slice(&start.to_le_bytes());
                edited[entry(index)][8..].copy_from_slice(&u32::try_from(bucket.len()).unwrap().to_le_bytes());
                edited.extend_from_slice(bucket);
            }
            try_with(&edited, &[one, two]);
            // Both swapped in place, where they have one length: the table fits as it is.
            if place_of(&bytes, one).len() == place_of(&bytes, two).len() {
                let mut edited = bytes.clone();
                edited[place_of(&bytes, one)].copy_from_slice(&bytes[place_of(&bytes, two)]);
                edited[place_of(&bytes, two)].copy_from_slice(&bytes[place_of(&bytes, one)]);
                try_with(&edited, &[one, two]);
            }
        }
    }
}

#[test]
fn a_flip_anywhere_stops_the_program_before_it_runs_anything() {
    let good = Good::named("good-many");
    let site = Site::new();
    adopt(&site, &good);
    let bytes = good.bytes();
    let mut places: Vec<usize> = vec![0, 7, 8, 11, 12, 16, 31, 32, 39, 40, 71, 72, 75, 76, 79];
    // The slot in use, field by field; an unused one; the MAC.
    places.extend([0, 1, 3, 4, 8, 12, 16, 47, 48, 59, 60, 91, 92, 107].map(|at| 80 + at));
    places.extend([80 + 108, 80 + 108 + 60, 80 + 7 * 108 + 107, 944, 960, 975]);
    for index in 0..4 {
        places.extend([0, 2, 7, 8, 11].map(|at| HEADER + ENTRY * index + at));
        let place = place_of(&bytes, index);
        let middle = usize::midpoint(place.start, place.end);
        places.extend([place.start, place.start + 11, place.start + 12, middle, place.end - 17, place.end - 1]);
    }
    for at in places {
        let mut edited = bytes.clone();
        edited[at] ^= 1 << (at % 8);
        std::fs::write(site.file("vault"), edited).unwrap();
        refused_without_running_anything(&site, &format!("byte {at}"));
    }
    std::fs::write(site.file("vault"), bytes).unwrap();
    assert!(site.exec(kit::CHAIN, "any").args(["--", "true"]).status().unwrap().success());
}

#[test]
fn twenty_writers_at_once_lose_nothing() {
    let site = Site::new();
    let spawn = |name: &str, value: &str| {
        let path = site.file(&format!("input-{value}"));
        std::fs::write(&path, value).unwrap();
        let mut command = site.mentiko(&["secret", "set", name]);
        command.stdin(File::open(path).unwrap()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut children = Vec::new();
    for at in 0..20 {
        children.push(spawn(&format!("OWN_{at}"), &format!("value-{at}")));
        children.push(spawn("SHARED", &format!("shared-{at}")));
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let shown = site.mentiko(&["secret", "show", "SHARED", "--json"]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let versions: Vec<u64> =
        shown["versions"].as_array().unwrap().iter().map(|version| version["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>());
    let env: Vec<String> = (0..20).map(|at| format!("\"OWN_{at}\"")).collect();
    site.chain("c", &format!(r#"{{"secrets": [{}]}}"#, env.join(",")));
    let output = site.exec("c", "any").args(["--", "env"]).output().unwrap();
    let environment = text(&output.stdout);
    for at in 0..20 {
        assert!(environment.lines().any(|line| line == format!("OWN_{at}=value-{at}")), "{environment}");
    }
    // The writes and `mentiko init`, each recorded, each a generation of its own.
    let mut generations: Vec<u64> = site.log().iter().map(|record| record["generation"].as_u64().unwrap()).collect();
    generations.truncate(41);
    generations.sort_unstable();
    assert_eq!(generations, (1..=41).collect::<Vec<_>>());
    site.verify();
}

#[test]
fn readers_see_a_whole_vault_while_it_is_written_two_hundred_times() {
    let site = Site::new();
    // Of another length each time, so that buckets move.
    let value = |at: usize| format!("{at}-{}", "x".repeat(at * 37 % 400));
    site.set("FIXED", "stays");
    site.set("MOVING", &value(0));
    site.chain("c", r#"{"secrets": ["FIXED", "MOVING"]}"#);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut launches, mut last) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let output = site.exec("c", "any").args(["--", "printenv", "FIXED", "MOVING"]).output().unwrap();
                assert!(output.status.success(), "{}", text(&output.stderr));
                let output = text(&output.stdout);
                let (fixed, moving) = output.trim_end().split_once('\n').unwrap();
                let at: usize = moving.split_once('-').unwrap().0.parse().unwrap();
                assert!(fixed == "stays" && moving == value(at) && at >= last, "{output}");
                (launches, last) = (launches + 1, at);
            }
            launches
        });
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (1..=200).for_each(|at| site.set("MOVING", &value(at)));
        }));
        done.store(true, Ordering::Relaxed);
        assert!(written.is_ok());
        assert!(reader.join().unwrap() > 20);
    });
    site.verify();
}

#[test]
fn writers_that_are_killed_leave_the_old_vault_or_the_new_one() {
    let site = Site::new();
    site.set("KEPT", "kept");
    site.set("K", "value-0");
    let instance = Instance::open(site.path()).unwrap();
    let started = Instant::now();
    (0..5).for_each(|_| site.set("K", "value-0"));
    let usual = started.elapsed() / 5;
    let temporary = site.file("vault.tmp");
    let mut current = 0;
    for at in 1..=100u32 {
        let input = site.file("input");
        std::fs::write(&input, format!("value-{at}")).unwrap();
        let mut command = site.mentiko(&["secret", "set", "K"]);
        command.stdin(File::open(&input).unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Spread over the time that a writer usually takes; it is never the same twice.
        std::thread::sleep(usual * (at * 37 % 100) / 80);
        child.kill().unwrap();
        child.wait().unwrap();

        let arena = Arena::new().unwrap();
        let key = instance.key.read(None, &arena).unwrap();
        let vault = Vault::open(&instance, key, &arena).unwrap();
        let values = kit::open_granted(&vault, &vault.read_all().unwrap(), &arena).unwrap();
        assert_eq!(values["KEPT"], b"kept");
        let value = text(&values["K"]);
        if value == format!("value-{at}") {
            current = at;
        }
        assert_eq!(value, format!("value-{current}"), "neither the value before nor the new one");
    }
    // Whatever the last of them left, and what a worse one might have left.
    std::fs::write(&temporary, "half a vault").unwrap();
    chmod(&temporary, 0o400);
    let waited = Instant::now();
    site.set("K", "value-last");
    assert!(waited.elapsed() < Duration::from_secs(10), "no lock is left behind");
    assert!(!temporary.exists());
    site.verify();
}

/// Makes the site's instance the one that the committed vaults belong to.
fn adopt(site: &Site, good: &Good) {
    let OwnedKey::Bytes(key) = good.key() else { panic!("a vault with a passphrase") };
    std::fs::write(site.file("instance.key"), key).unwrap();
    let path = site.file("instance.json");
    let mut configuration: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    configuration["instance"] = good.instance_id().into();
    std::fs::write(&path, configuration.to_string()).unwrap();
    std::fs::write(site.file("vault"), good.bytes()).unwrap();
    let secrets: Vec<&String> = good.secrets().keys().collect();
    site.chain(kit::CHAIN, &serde_json::json!({ "secrets": secrets }).to_string());
}

/// Asks for every secret of the vault, which must be refused.
fn refused_without_running_anything(site: &Site, what: &str) {
    let marker = site.file("marker");
    let output = site.exec(kit::CHAIN, "any").args(["--", "touch"]).arg(&marker).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(matches!(output.status.code(), Some(77 | 78 | 125)), "{what}: {:?} {stderr}", output.status);
    assert_eq!(stderr.lines().count(), 1, "{what}: {stderr}");
    assert!(stderr.starts_with("mentiko-exec: ") && output.stdout.is_empty(), "{what}: {stderr}");
    assert!(!marker.exists(), "{what}");
}
