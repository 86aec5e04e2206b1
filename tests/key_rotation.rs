//! `mentiko key rotate`: what opens afterwards, what does not, and what a kill at any moment leaves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "common/keys.rs"]
mod kit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Site, text};
use kit::{assert_whole, done, recovery_code, refused, with_code, with_fd};
use mentiko_exec::audit::{Entry, Event, Log, Outcome};
use mentiko_exec::instance::{Instance, InstanceKey};
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Vault, WriteLock, sha256};
use serde_json::{Value, json};

fn rotate(site: &Site) -> String {
    done(&mut site.mentiko(&["key", "rotate", "--yes"]))
}

/// Every file of the instance.
fn files(site: &Site) -> Vec<PathBuf> {
    let listed = Command::new("find").arg(site.path()).args(["-type", "f"]).output().unwrap();
    let mut files: Vec<PathBuf> = text(&listed.stdout).lines().map(PathBuf::from).collect();
    files.sort();
    files
}

fn segment(site: &Site) -> PathBuf {
    files(site).into_iter().find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap()
}

fn vault_id(site: &Site) -> Vec<u8> {
    std::fs::read(site.file("vault")).unwrap()[16..32].to_vec()
}

#[test]
fn everything_is_sealed_anew_and_no_old_key_opens_it() {
    let site = Site::with_two_agents();
    let [key, vault] = ["instance.key", "vault"].map(|name| (site.file(name), std::fs::read(site.file(name)).unwrap()));
    let (before, id) = (files(&site), vault_id(&site));
    // Nobody is there to answer.
    let asked = refused(&mut site.mentiko(&["key", "rotate"]));
    assert!(asked.contains("nothing was rotated; say --yes"), "{asked}");
    assert_eq!(std::fs::read(&vault.0).unwrap(), vault.1);
    let said = rotate(&site);
    assert!(said.contains("copies of it open nothing any more") && said.contains("sealed 2 secrets anew"), "{said}");
    assert_eq!(files(&site), before, "nothing is left over");
    assert_ne!(vault_id(&site), id);
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.0.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_whole(&site);
    let record = site.log().into_iter().find(|record| record["event"] == "key.rotate").unwrap();
    assert_eq!(record["reason"], "slots in use: 1; dropped: none");
    let new_key = std::fs::read(&key.0).unwrap();
    // The old key and the new vault; the new key and the old vault.
    std::fs::write(&key.0, &key.1).unwrap();
    assert!(refused(&mut site.mentiko(&["secret", "list"])).contains("opens no key slot"));
    assert_eq!(site.exec("c", "one").args(["--", "true"]).output().unwrap().status.code(), Some(78));
    std::fs::write(&key.0, &new_key).unwrap();
    let new_vault = std::fs::read(&vault.0).unwrap();
    std::fs::write(&vault.0, &vault.1).unwrap();
    assert!(refused(&mut site.mentiko(&["secret", "list"])).contains("opens no key slot"));
    std::fs::write(&vault.0, new_vault).unwrap();
    // No ciphertext of a value was carried over.
    for window in vault.1[976..].windows(32).step_by(32) {
        assert!(!std::fs::read(&vault.0).unwrap().windows(32).any(|new| new == window));
    }
    // Again and again, and the whole log still verifies.
    for _ in 0..3 {
        rotate(&site);
        assert_whole(&site);
    }
    site.set("A", "value-of-a-4711");
    assert_whole(&site);
}

#[test]
fn a_value_that_was_wiped_in_an_emergency_does_not_hinder() {
    let site = Site::with_two_agents();
    let mut emergency = site.mentiko(&["secret", "rotate", "A", "--emergency"]);
    assert!(common::output_with_input(&mut emergency, b"value-of-a-after").status.success());
    assert!(rotate(&site).contains("sealed 2 secrets anew"));
    let output = site.exec("c", "one").args(["--", "printenv", "A"]).output().unwrap();
    assert_eq!(text(&output.stdout), "value-of-a-after\n");
    site.verify();
}

#[test]
fn keys_that_are_not_at_hand_are_dropped_and_those_that_are_given_stay() {
    let site = Site::with_two_agents();
    let code = recovery_code(&site);
    let add = site.mentiko(&["key", "add", "--passphrase", "--new-passphrase-fd", "9"]);
    done(&mut with_fd(&add, 9, b"correct horse"));
    let keep =
        |slot: &str, content: &[u8]| with_fd(&site.mentiko(&["key", "rotate", "--yes", "--keep", slot]), 9, content);
    for (slot, content, part) in [
        ("3=9", "wrong horse", "what was given does not open it"),
        ("2=9", "correct horse", "group 1 of the recovery code"),
        ("4=9", "correct horse", "the slot is not in use"),
        ("1=9", "correct horse", "slot 1 is that of the key file"),
    ] {
        let error = refused(&mut keep(slot, content.as_bytes()));
        assert!(error.contains(part), "{error}");
    }
    let said = done(&mut keep("3=9", b"correct horse\n"));
    assert!(said.contains("slot 2 (recovery code) is dropped") && !said.contains("slot 3 (passphrase) is"), "{said}");
    assert!(refused(&mut with_code(&site, &code, &["key", "list"])).contains("opens no key slot"));
    let listed: Value = serde_json::from_str(&done(&mut site.mentiko(&["key", "list", "--json"]))).unwrap();
    let kinds: Vec<_> = listed.as_array().unwrap().iter().map(|slot| (&slot["slot"], &slot["kind"])).collect();
    assert_eq!(kinds, [(&json!(1), &json!("instance key")), (&json!(3), &json!("passphrase"))]);
    // The code that opened it is at hand, and stays; the lost key is replaced.
    let code = recovery_code(&site);
    std::fs::remove_file(site.file("instance.key")).unwrap();
    let said = done(&mut with_code(&site, &code, &["key", "rotate", "--yes"]));
    assert!(said.contains("slot 3 (passphrase) is dropped") && said.contains("made a new"), "{said}");
    assert_whole(&site);
    done(&mut with_code(&site, &code, &["key", "list"]));
}

#[test]
fn a_passphrase_stays_and_a_source_that_is_not_at_hand_is_not_locked_out() {
    let site = Site::new();
    let instance = site.file("second");
    let on = |arguments: &[&str], content: &[u8]| {
        let mut command = site.mentiko(arguments);
        command.arg("--instance").arg(&instance);
        with_fd(&command, 9, content)
    };
    done(&mut on(&["init", "--key", "passphrase", "--passphrase-fd", "9"], b"correct horse"));
    let said = done(&mut on(&["key", "rotate", "--yes", "--passphrase-fd", "9"], b"correct horse"));
    assert!(said.contains("the same as before"), "{said}");
    done(&mut on(&["key", "list", "--passphrase-fd", "9"], b"correct horse"));
    done(&mut on(&["audit", "verify", "--passphrase-fd", "9"], b"correct horse"));
    let shown = done(&mut on(&["key", "add", "--recovery", "--passphrase-fd", "9"], b"correct horse"));
    let code = shown.lines().find(|line| line.len() == 47).unwrap();
    let error = refused(&mut on(&["key", "rotate", "--yes", "--recovery-code-fd", "9"], code.as_bytes()));
    assert!(error.contains("rotate without --recovery-code"), "{error}");
}

#[test]
fn who_stole_the_old_key_can_not_write_the_log_any_more() {
    let site = Site::with_two_agents();
    assert_whole(&site);
    let stolen = [std::fs::read(site.file("vault")).unwrap(), std::fs::read(site.file("instance.key")).unwrap()];
    rotate(&site);
    assert_whole(&site);
    let instance = Instance::open(site.path()).unwrap();
    let arena = Arena::new().unwrap();
    let thief = tempfile::tempdir().unwrap();
    let mut theirs = instance.clone();
    theirs.vault = thief.path().join("vault");
    std::fs::write(&theirs.vault, &stolen[0]).unwrap();
    common::chmod(&theirs.vault, 0o600);
    let key: [u8; 32] = stolen[1].clone().try_into().unwrap();
    let old = Vault::open(&theirs, InstanceKey::Bytes(&key), &arena).unwrap();
    let path = segment(&site);
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signed = |line: &str| {
        let covered = &line[..line.rfind(",\"mac\":").unwrap()];
        format!("{covered},\"mac\":\"{}\"}}", hex(&old.audit_key().mac(covered.as_bytes())))
    };
    let verdict = |lines: &[String]| {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let output = site.mentiko(&["audit", "verify"]).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let owned: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
    assert_eq!(verdict(&owned).0, Some(0));
    // The thief's key does sign older lines: those are as they were.
    let rotated = lines.iter().position(|line| line.contains("key.rotate")).unwrap();
    assert_eq!(signed(lines[rotated - 1]), lines[rotated - 1]);
    // A line more at the end.
    let last = lines.last().unwrap();
    let seq = lines.len();
    let prev: Value = serde_json::from_str(last).unwrap();
    let forged = last
        .replace(&format!("\"seq\":{seq},"), &format!("\"seq\":{},", seq + 1))
        .replace(prev["prev"].as_str().unwrap(), &hex(&sha256(last.as_bytes())));
    let (code, said) = verdict(&[&owned[..], &[signed(&forged)]].concat());
    assert!(code == Some(1) && said.contains("its MAC is wrong"), "{said}");
    // One under the right key would have passed.
    let now = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    let covered = &forged[..forged.rfind(",\"mac\":").unwrap()];
    let genuine = format!("{covered},\"mac\":\"{}\"}}", hex(&now.audit_key().mac(covered.as_bytes())));
    assert_eq!(verdict(&[&owned[..], &[genuine]].concat()).0, Some(0));
    // The last line before the rotation, changed and signed; and the log cut there, or before.
    let changed = signed(&lines[rotated - 1].replace("\"uid\":", "\"uid\":1"));
    let (code, said) = verdict(&[&owned[..rotated - 1], std::slice::from_ref(&changed)].concat());
    assert!(code == Some(1) && said.contains("another than stood there when the keys were rotated"), "{said}");
    let (code, said) = verdict(&owned[..rotated - 1]);
    assert!(code == Some(1) && said.contains("the end was cut off"), "{said}");
    let (code, said) = verdict(&[&owned[..rotated - 1], &[changed], &owned[rotated..]].concat());
    assert!(code == Some(1), "{said}");
    assert_eq!(verdict(&owned).0, Some(0));
}

#[test]
fn a_pruned_log_verifies_after_a_rotation() {
    let site = Site::with_two_agents();
    // What was written so far, as if it were of long ago.
    let path = segment(&site);
    std::fs::rename(&path, path.with_file_name("access-2020-01.jsonl")).unwrap();
    let text = std::fs::read_to_string(path.with_file_name("access-2020-01.jsonl")).unwrap();
    let count = text.lines().count();
    assert_whole(&site);
    let pruned = site.mentiko(&["audit", "prune", "--before", "2030-01-01"]).output().unwrap();
    assert!(pruned.status.success(), "{}", common::text(&pruned.stderr));
    assert!(site.file("audit/pruned.json").exists(), "{}", common::text(&pruned.stdout));
    let said = site.verify();
    assert!(said.contains(&format!("records 1 to {count} were pruned")), "{said}");
    let stub = std::fs::read(site.file("audit/pruned.json")).unwrap();
    rotate(&site);
    assert_whole(&site);
    assert_ne!(std::fs::read(site.file("audit/pruned.json")).unwrap(), stub);
    assert!(!site.file("audit/pruned.json.new").exists());
    // The stub under the old key is worth nothing any more.
    std::fs::write(site.file("audit/pruned.json"), stub).unwrap();
    assert_eq!(site.mentiko(&["audit", "verify"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn a_line_is_not_appended_under_a_key_that_was_rotated_meanwhile() {
    let site = Site::with_two_agents();
    let instance = Instance::open(site.path()).unwrap();
    let log = Log::open(&instance).unwrap();
    let arena = Arena::new().unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    let entry = Entry::new(Event::SecretAccess, Outcome::Denied);
    log.append(&[entry], Some(&vault.log_key())).unwrap();
    // Any other write leaves the keys as they are, also where a backup keeps the old file alive.
    std::fs::hard_link(site.file("vault"), site.file("backup")).unwrap();
    site.set("C", "value-of-c");
    log.append(&[entry], Some(&vault.log_key())).unwrap();
    let before = site.log().len();
    rotate(&site);
    let error = log.append(&[entry], Some(&vault.log_key())).unwrap_err();
    assert!(error.to_string().starts_with("the instance's keys were rotated meanwhile"), "{error}");
    assert_eq!(site.log().len(), before + 1, "the rotation alone");
    std::fs::remove_file(site.file("vault")).unwrap();
    assert!(log.append(&[entry], Some(&vault.log_key())).is_err());
}

/// A launch that waits a second before it locks the log, so that the vault can be written meanwhile.
fn slow_launch(site: &Site, options: &[&str]) -> std::process::Child {
    let mut launch = site.exec("c", "one");
    launch.args(options).args(["--", "touch"]).arg(site.path().parent().unwrap().join("the-agent-ran"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "--inject=flock:delay_enter=1500000", "--"]);
    strace.arg(launch.get_program()).args(launch.get_args()).env_clear();
    for (name, value) in launch.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    let child = strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Long enough to open the vault, which it does first.
    std::thread::sleep(Duration::from_millis(700));
    child
}

#[test]
fn a_launch_that_a_rotation_overtook_is_refused_and_one_that_a_write_overtook_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("the-agent-ran");
    for fence in ["off", "auto"] {
        let site = Site::below(folder.path());
        site.set("A", "value-of-a-4711");
        site.chain("c", r#"{"secrets": ["A"], "agents": {"one": ["A"]}}"#);
        let launch = slow_launch(&site, &["--fence", fence]);
        rotate(&site);
        let output = launch.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{fence}: {stderr}");
        assert!(
            stderr.contains("mentiko-exec: the instance's keys were rotated meanwhile")
                && stderr.ends_with("run it again\n"),
            "{stderr}"
        );
        assert!(!marker.exists());
        let accesses = site.accesses();
        assert!(accesses.len() == 1 && accesses[0]["outcome"] == "denied", "{accesses:?}");
        // Behind a fence the new key can't be had.
        assert_eq!(accesses[0]["mac"].is_null(), fence == "auto");
        let launch = slow_launch(&site, &["--fence", fence]);
        site.set("A", "another");
        let output = launch.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{fence}: {}", text(&output.stderr));
        assert!(marker.exists());
        std::fs::remove_file(&marker).unwrap();
        site.verify();
    }
}

#[test]
fn the_end_of_an_agent_is_on_record_though_the_keys_were_rotated_while_it_ran() {
    for option in ["--supervise", "--mask"] {
        let site = Site::with_two_agents().unfenced();
        let go = site.file("go");
        let script = format!("while ! test -e '{}'; do sleep 0.05; done", go.display());
        let agent = site.exec("c", "one").args([option, "--", "sh", "-c", &script]).spawn();
        while site.accesses().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        rotate(&site);
        std::fs::write(&go, "").unwrap();
        assert!(agent.unwrap().wait().unwrap().success());
        let end = site.log().pop().unwrap();
        assert_eq!((&end["event"], end["mac"].is_string()), (&"agent.end".into(), true), "{option}");
        site.verify();
    }
}

#[test]
fn ten_thousand_secrets_are_rotated() {
    let site = Site::with_two_agents();
    let instance = Instance::open(site.path()).unwrap();
    let arena = Arena::new().unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    let mut contents = vault.read_all().unwrap();
    for number in 0..10_000 {
        let name: SecretName = format!("SERVICE_{number:05}").parse().unwrap();
        let mut record = Vault::new_record(name.clone(), 1_700_000_000);
        for version in 0..2 {
            vault.add_version(&mut record, format!("value-{number}-{version}").into_bytes().as_mut(), 1).unwrap();
        }
        contents.insert(name, record);
    }
    vault.replace(&lock, &contents).unwrap();
    drop(lock);
    assert!(rotate(&site).contains("sealed 10002 secrets anew"));
    site.chain("many", r#"{"secrets": ["SERVICE_00000", "SERVICE_09999"]}"#);
    let output = site.exec("many", "any").args(["--", "printenv", "SERVICE_00000", "SERVICE_09999"]).output().unwrap();
    assert_eq!(text(&output.stdout), "value-0-1\nvalue-9999-1\n");
    assert_whole(&site);
}

/// A copy of an instance.
fn copy(site: &Site) -> Site {
    let copy = Site::new();
    std::fs::remove_dir_all(copy.path()).unwrap();
    assert!(Command::new("cp").arg("-a").args([site.path(), copy.path()]).status().unwrap().success());
    copy
}

fn traced(site: &Site, options: &[&str]) -> std::process::Output {
    let rotate = site.mentiko(&["key", "rotate", "--yes"]);
    let mut strace = Command::new("strace");
    strace.args(options).arg("--").arg(rotate.get_program()).args(rotate.get_args());
    let output = strace.env("MENTIKO_INSTANCE", site.path()).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("strace can't be run ({error}); install the package strace"))
}

/// Each call of a rotation from its configuration on: its name, and how many of that name came before.
fn calls(site: &Site) -> Vec<(String, usize)> {
    let trace = tempfile::NamedTempFile::new().unwrap();
    // strace shows no names of files to ordinary users: see tests/real/syscalls.rs.
    let output = traced(site, &["-o", trace.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let trace = text(&std::fs::read(trace.path()).unwrap());
    let (mut counts, mut calls, mut has_begun) = (BTreeMap::new(), Vec::new(), false);
    for line in trace.lines() {
        let Some((name, rest)) = line.split_once('(') else { continue };
        let count = counts.entry(name.to_owned()).or_insert(0);
        *count += 1;
        // Before it reads anything, it forbids core files.
        has_begun |= name == "prlimit64" && rest.contains("rlim_cur=0");
        has_begun |= name == "prctl" && rest.contains("PR_SET_DUMPABLE");
        if has_begun && !NO_CHANGE.contains(&name) {
            calls.push((name.to_owned(), *count));
        }
    }
    calls
}

/// Nothing on disk depends on whether these came to pass.
const NO_CHANGE: &[&str] = &[
    "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "mlock", "getrandom", "sigaltstack", "rt_sigaction",
    "rt_sigprocmask", "prctl", "prlimit64", "close", "lseek", "geteuid", "fcntl", "clock_gettime", "ftruncate",
    "memfd_secret", "exit_group", "sysinfo", "uname", "getpid", "statx", "fstat", "newfstatat", "ioctl",
];

#[test]
fn a_kill_at_any_moment_leaves_an_instance_that_works_and_rotates() {
    let template = Site::with_two_agents();
    // A run that keeps an older version.
    let old_run = ["--run-id", "r.1", "--", "printenv", "A"];
    let held = |site: &Site| text(&site.exec("c", "one").args(old_run).output().unwrap().stdout);
    template.set("A", "held-by-the-run");
    assert_eq!(held(&template), "held-by-the-run\n");
    template.set("A", "value-of-a-4711");
    // A log with a pruned part, which has a file more to change.
    let path = segment(&template);
    std::fs::rename(&path, path.with_file_name("access-2020-01.jsonl")).unwrap();
    assert_whole(&template);
    done(&mut template.mentiko(&["audit", "prune", "--before", "2030-01-01"]));
    let old_key = std::fs::read(template.file("instance.key")).unwrap();
    let calls = calls(&copy(&template));
    let of = |name: &str| calls.iter().filter(|(call, _)| call == name).count();
    assert!(calls.len() > 40 && of("rename") >= 4 && of("fsync") >= 6, "{calls:?}");
    eprintln!("killed at each of {} calls", calls.len());
    let usual: Vec<PathBuf> = relative(&template);
    for (name, count) in &calls {
        let site = copy(&template);
        let killed = traced(&site, &["-o", "/dev/null", &format!("--inject={name}:signal=SIGKILL:when={count}")]);
        assert!(!killed.status.success(), "{name} {count}: it was not killed");
        assert_whole(&site);
        done(&mut site.mentiko(&["secret", "list"]));
        assert_eq!(held(&site), "held-by-the-run\n", "{name} {count}");
        rotate(&site);
        assert_whole(&site);
        assert_eq!(held(&site), "held-by-the-run\n", "{name} {count}");
        assert_eq!(relative(&site), usual, "{name} {count}");
        std::fs::write(site.file("instance.key"), &old_key).unwrap();
        assert!(refused(&mut site.mentiko(&["secret", "list"])).contains("opens no key slot"), "{name} {count}");
    }
}

/// Every file but the pins of the runs that a test makes.
fn relative(site: &Site) -> Vec<PathBuf> {
    let files = files(site).into_iter().map(|path| path.strip_prefix(site.path()).unwrap().to_owned());
    files.filter(|path| path.extension().is_none_or(|extension| extension != "run")).collect()
}
