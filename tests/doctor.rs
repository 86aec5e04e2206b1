//! `mentiko doctor`: each bad state is made, and found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Site, chmod, is_root, text};
use serde_json::Value;

/// What doctor found: status and checks.
struct Found {
    status: i32,
    checks: Vec<Value>,
}

impl Found {
    fn by(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let shown = text(&output.stdout);
        let checks: Vec<Value> =
            serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}{}", text(&output.stderr)));
        Self { status: output.status.code().unwrap(), checks }
    }

    fn of(site: &Site) -> Self {
        Self::by(site.mentiko(&["doctor", "--json"]))
    }

    /// There is a check of this name and state, whose finding and mend hold these parts. The exit
    /// status agrees with the states.
    fn has(&self, name: &str, state: &str, parts: &[&str]) -> &Self {
        let texts: Vec<String> = self
            .checks
            .iter()
            .filter(|check| check["name"] == name && check["state"] == state)
            .map(|check| format!("{}; mend: {}", check["finding"].as_str().unwrap(), check["mend"]))
            .collect();
        assert!(
            texts.iter().any(|text| parts.iter().all(|part| text.contains(part))),
            "no {state} of {name} with {parts:?} in {:#?}",
            self.checks
        );
        let fails = self.checks.iter().any(|check| check["state"] == "fail");
        assert_eq!(self.status, i32::from(fails), "{:#?}", self.checks);
        self
    }
}

/// `mentiko doctor` after a shell's preparations; `$@` is the command.
fn prepared(site: &Site, script: &str, before: &[&str]) -> Command {
    let doctor = site.mentiko(&["doctor", "--json"]);
    let mut command = Command::new(before.first().unwrap_or(&"sh"));
    command.args(before.get(1..).unwrap_or_default());
    if !before.is_empty() {
        command.arg("sh");
    }
    command.args(["-c", script, "sh"]).arg(doctor.get_program()).args(doctor.get_args());
    command.env("MENTIKO_INSTANCE", site.path());
    command
}

/// In namespaces of its own, where /proc/sys/kernel and /proc/swaps say what the script put there.
fn with_settings(site: &Site, script: &str) -> Command {
    let make = "set -e; mount -t tmpfs none /proc/sys/kernel; mkdir /proc/sys/kernel/yama; cd /proc/sys/kernel; \
                echo core > core_pattern; echo 1 > yama/ptrace_scope; ";
    prepared(site, &format!("{make}{script}"), &["unshare", "--user", "--map-root-user", "--mount"])
}

/// With system calls refused by seccomp(2).
fn refusing(site: &Site, calls: &[(i64, i32)]) -> Command {
    let filter = "import ctypes, os, struct, sys\n\
        calls = [tuple(map(int, pair.split(':'))) for pair in sys.argv[1].split(',')]\n\
        code = struct.pack('HBBI', 0x20, 0, 0, 0)\n\
        for number, errno in calls:\n    \
            code += struct.pack('HBBI', 0x15, 0, 1, number) + struct.pack('HBBI', 0x06, 0, 0, 0x50000 | errno)\n\
        code += struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)\n\
        room = ctypes.create_string_buffer(code)\n\
        program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(room)))\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        assert libc.prctl(38, 1, 0, 0, 0) == 0\n\
        assert libc.prctl(22, 2, program) == 0, ctypes.get_errno()\n\
        os.execv(sys.argv[2], sys.argv[2:])\n";
    let list: Vec<String> = calls.iter().map(|(number, errno)| format!("{number}:{errno}")).collect();
    let doctor = site.mentiko(&["doctor", "--json"]);
    let mut command = Command::new("python3");
    command.args(["-c", filter, &list.join(",")]).arg(doctor.get_program()).args(doctor.get_args());
    command.env("MENTIKO_INSTANCE", site.path());
    command
}

#[test]
fn a_good_instance_has_no_failure_and_nothing_is_written() {
    let site = Site::with_two_agents();
    let before = site.log().len();
    let found = Found::of(&site);
    assert_eq!(found.status, 0, "{:#?}", found.checks);
    for name in ["memory", "fence", "configuration", "key file", "vault file", "chains", "log", "grants", "clock"] {
        found.has(name, "ok", &[]);
    }
    found.has("log", "ok", &["it verifies: 3 records"]).has("vault", "ok", &["2 secrets"]);
    found.has("unused secrets", "ok", &[]).has("rotation", "ok", &[]);
    assert_eq!(site.log().len(), before);
    let shown = text(&site.mentiko(&["doctor"]).output().unwrap().stdout);
    assert_eq!(shown.lines().count(), found.checks.len() + 1, "one line each: {shown}");
}

#[test]
fn modes_that_let_others_in() {
    let site = Site::with_two_agents();
    let segment = site.segment();
    let segment = segment.strip_prefix(site.path()).unwrap().to_str().unwrap().to_owned();
    for (file, mode, name, mend) in [
        ("instance.key", 0o644, "key file", "chmod 600"),
        ("vault", 0o666, "vault file", "chmod go-w"),
        ("chains/c.json", 0o620, "chain files", "chmod go-w"),
        (segment.as_str(), 0o622, "log files", "chmod go-w"),
        ("audit/synced", 0o622, "log files", "chmod go-w"),
        ("audit", 0o777, "log files", "chmod go-w"),
        ("runs", 0o770, "run files", "chmod go-w"),
    ] {
        let path = site.file(file);
        let before = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        chmod(&path, mode);
        Found::of(&site).has(name, "fail", &[path.to_str().unwrap(), "others", mend]);
        chmod(&path, before & 0o7777);
    }
    assert_eq!(Found::of(&site).status, 0);
    chmod(&site.file("instance.json"), 0o666);
    Found::of(&site).has("configuration", "fail", &["chmod go-w"]).has("not looked at", "warn", &[]);
}

#[test]
fn folders_above_that_others_can_write() {
    let above = tempfile::tempdir().unwrap();
    let below = above.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let site = Site::below(&below);
    if is_root() {
        Found::of(&site).has("folders above", "ok", &[]);
        std::os::unix::fs::chown(&below, Some(4711), None).unwrap();
        Found::of(&site).has("folders above", "fail", &["is owned by user 4711", "chown root"]);
        std::os::unix::fs::chown(&below, Some(0), None).unwrap();
    } else {
        Found::of(&site).has("folders above", "warn", &["an agent of this user can write", "forged instance"]);
    }
    chmod(above.path(), 0o777);
    Found::of(&site).has("folders above", "fail", &[above.path().to_str().unwrap(), "has mode 0777", "chmod go-w"]);
    chmod(above.path(), 0o700);
}

#[test]
fn vault_and_log_on_one_disk() {
    let site = Site::below(Path::new("/var/tmp"));
    Found::of(&site).has("disks", "warn", &["stand on one disk"]);
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let output = Command::new("cp").arg("-a").arg(site.file("audit")).arg(other.path()).output().unwrap();
    assert!(output.status.success());
    let path = site.file("instance.json");
    let mut configuration: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    configuration["audit"] = other.path().join("audit").to_str().unwrap().into();
    std::fs::write(&path, configuration.to_string()).unwrap();
    Found::of(&site).has("disks", "ok", &["on two"]).has("log", "ok", &[]);
}

#[test]
fn a_log_that_is_torn_or_changed() {
    let site = Site::with_two_agents();
    let path = site.segment();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{{\"v\":1,\"se")).unwrap();
    let found = Found::of(&site);
    assert_eq!(found.status, 0, "the next record mends it");
    found.has("log", "warn", &["the last line is unfinished"]);
    std::fs::write(&path, whole.replacen("\"secret\":\"A\"", "\"secret\":\"B\"", 1)).unwrap();
    Found::of(&site).has("log", "fail", &["it does not verify", path.to_str().unwrap()]);
    std::fs::write(&path, whole).unwrap();
    Found::of(&site).has("log", "ok", &[]);
}

#[test]
fn a_clock_that_stands_before_the_last_record() {
    let site = Site::new();
    let mut command = Command::new("faketime");
    command.args(["-f", "+400d", env!("CARGO_BIN_EXE_mentiko"), "secret", "set", "LATE"]);
    let output = common::output_with_input(command.env("MENTIKO_INSTANCE", site.path()), b"value-of-later");
    assert!(output.status.success(), "{}", text(&output.stderr));
    Found::of(&site).has("clock", "fail", &["before the last record", "set the clock"]).has("log", "ok", &[]);
}

#[test]
fn a_vault_that_was_rolled_back_or_damaged() {
    let site = Site::new();
    let old = std::fs::read(site.file("vault")).unwrap();
    site.set("A", "value-of-a-4711");
    let new = std::fs::read(site.file("vault")).unwrap();
    std::fs::write(site.file("vault"), old).unwrap();
    Found::of(&site).has("log", "fail", &["the vault was rolled back: it has generation 1, the log knows 2"]);
    let mut damaged = new.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(site.file("vault"), damaged).unwrap();
    Found::of(&site).has("vault", "fail", &["the vault is damaged"]);
    std::fs::write(site.file("vault"), new).unwrap();
    assert_eq!(Found::of(&site).status, 0);
}

#[test]
fn without_the_key_what_can_not_be_looked_at_is_named() {
    let site = Site::with_two_agents();
    std::fs::rename(site.file("instance.key"), site.file("away")).unwrap();
    let found = Found::of(&site);
    found.has("key file", "fail", &["instance.key"]).has("vault", "fail", &["instance.key"]);
    found.has("not looked at", "warn", &["the log's proof", "rotation"]);
    found.has("chains", "ok", &[]).has("clock", "ok", &[]).has("memory", "ok", &[]);
    std::fs::write(site.file("instance.key"), [7; 32]).unwrap();
    chmod(&site.file("instance.key"), 0o600);
    Found::of(&site).has("vault", "fail", &["opens no key slot"]);
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = site.mentiko(&["doctor", "--json"]);
    command.env("MENTIKO_INSTANCE", nowhere.path());
    Found::by(command).has("configuration", "fail", &["mentiko init"]).has("memory", "ok", &[]);
}

#[test]
fn chains_and_secrets_that_do_not_fit() {
    let site = Site::with_two_agents();
    site.set("UNUSED", "value-of-nobody");
    site.chain("broken", "{\"secrets\": ");
    site.chain("gone", r#"{"secrets": ["GONE", "A"]}"#);
    site.mentiko(&["secret", "scope", "B", "gone"]).output().unwrap();
    let found = Found::of(&site);
    found.has("chains", "fail", &["broken.json", "mentiko chain check"]);
    found.has("grants", "fail", &["chain 'gone' names secret 'GONE': not in the vault"]);
    found.has("grants", "fail", &["chain 'c' names secret 'B': denied: out of scope"]);
    found.has("unused secrets", "warn", &["no chain names UNUSED"]);
    assert!(!found.checks.iter().any(|check| check["finding"].as_str().unwrap().contains("'A'")));
}

#[test]
fn rotations_that_are_overdue() {
    let site = Site::new();
    let mut command = Command::new("faketime");
    command.args(["-f", "-40d", env!("CARGO_BIN_EXE_mentiko"), "secret", "set", "OLD", "--rotate-every", "30d"]);
    let output = common::output_with_input(command.env("MENTIKO_INSTANCE", site.path()), b"value-of-before");
    assert!(output.status.success(), "{}", text(&output.stderr));
    Found::of(&site).has("rotation", "warn", &["overdue: OLD", "mentiko secret rotate"]);
}

#[test]
fn little_or_no_locked_memory() {
    let site = Site::new();
    // Root is bound by the limit without this capability only.
    let bound = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
    let bound: &[&str] = if is_root() { &bound } else { &[] };
    let found = Found::by(prepared(&site, "ulimit -l 512 && exec \"$@\"", bound));
    found.has("locked memory", "warn", &["RLIMIT_MEMLOCK is 512 KiB", "LimitMEMLOCK"]).has("memory", "ok", &[]);
    let found = Found::by(prepared(&site, "ulimit -l 0 && exec \"$@\"", bound));
    found.has("memory", "fail", &["can't lock", "raise RLIMIT_MEMLOCK"]).has("vault", "fail", &["can't lock"]);
}

#[cfg(target_arch = "x86_64")]
const UNSHARE: i64 = 272;
#[cfg(target_arch = "aarch64")]
const UNSHARE: i64 = 97;
const LANDLOCK: i64 = 444;
const MEMFD_SECRET: i64 = 447;
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

#[test]
fn kernels_that_refuse_protections() {
    let site = Site::new();
    let found = Found::by(refusing(&site, &[(MEMFD_SECRET, ENOSYS)]));
    found.has("memory", "warn", &["mlock: memfd_secret(2) is refused (ENOSYS", "secretmem.enable=1"]);
    let found = Found::by(refusing(&site, &[(MEMFD_SECRET, EPERM)]));
    found.has("memory", "warn", &["EPERM", "seccomp"]);
    let found = Found::by(refusing(&site, &[(UNSHARE, EPERM)]));
    found.has("fence", "warn", &["Landlock (version", "namespaces are refused (EPERM"]);
    let neither = [(UNSHARE, EPERM), (LANDLOCK, ENOSYS)];
    let found = Found::by(refusing(&site, &neither));
    found.has("fence", "warn", &["none: namespaces are refused", "agents can reach the vault"]);
    site.set_policy("fence", "require");
    let found = Found::by(refusing(&site, &neither));
    found.has("fence", "fail", &["policy.fence is require"]);
    site.set_policy("fence", "off");
    Found::of(&site).has("fence", "warn", &["policy.fence is off"]);
}

#[test]
fn settings_of_the_system() {
    let site = Site::new();
    let found = Found::by(with_settings(&site, "exec \"$@\""));
    found.has("core files", "ok", &["none"]).has("ptrace", "ok", &["ptrace_scope is 1"]).has("swap", "ok", &[]);
    let script = "echo '|/usr/share/apport/apport -p%p' > core_pattern; echo 0 > yama/ptrace_scope; \
                  printf 'Filename Type Size Used Priority\\n/dev/sdz9 partition 1 0 -2\\n/dev/zram0 partition 1 0 5\\n' \
                  > swaps; mount --bind swaps /proc/swaps; exec \"$@\"";
    let found = Found::by(with_settings(&site, script));
    found.has("core files", "warn", &["/usr/share/apport/apport gets the memory", "kernel.core_pattern"]);
    found.has("ptrace", "warn", &["ptrace_scope is 0", "sysctl kernel.yama.ptrace_scope=1"]);
    found.has("swap", "warn", &["/dev/sdz9;", "swapoff"]);
    let script = "echo '|/usr/lib/systemd/systemd-coredump %P' > core_pattern; \
                  printf 'Filename Type Size Used Priority\\n/dev/zram0 partition 1 0 5\\n' > swaps; \
                  mount --bind swaps /proc/swaps; exec \"$@\"";
    let found = Found::by(with_settings(&site, script));
    found.has("core files", "ok", &["systemd-coredump"]).has("swap", "ok", &["encrypted or in memory"]);
}

/// As a user who is not root, in a user namespace of their own: what decides whether there can be
/// another.
#[test]
fn user_namespaces_that_are_refused() {
    let site = Site::new();
    let ordinary = "exec unshare --user --map-user=4711 --map-group=4711 \"$@\"";
    for (script, parts) in [
        ("echo 1 > apparmor_restrict_unprivileged_userns; ", ["AppArmor restricts user namespaces", "'userns,'"]),
        ("echo 0 > unprivileged_userns_clone; ", ["kernel.unprivileged_userns_clone is 0", "sysctl"]),
        ("echo 1 > /proc/sys/user/max_user_namespaces; ", ["there can be no more", "user.max_user_namespaces=10000"]),
    ] {
        let found = Found::by(with_settings(&site, &format!("{script}{ordinary}")));
        found.has("fence", "warn", &[&["Landlock (version"], &parts[..]].concat());
    }
    let found = Found::by(with_settings(&site, ordinary));
    found.has("fence", "ok", &["user and mount namespaces"]);
}

/// Files of the instance that are links or pipes are refused by a launch, and told here.
#[test]
fn what_is_no_regular_file() {
    let site = Site::with_two_agents();
    let real = site.file("real");
    std::fs::rename(site.file("chains/c.json"), &real).unwrap();
    std::os::unix::fs::symlink(&real, site.file("chains/c.json")).unwrap();
    Found::of(&site).has("chain files", "fail", &["is a symbolic link"]);
}
