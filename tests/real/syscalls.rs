//! What a launch asks of the kernel, in which order, and what it does when the kernel refuses.
//!
//! strace(1) shows the names of files only while it may read the wrapper's memory. It may as root;
//! for an ordinary user the one call that forbids it is left out, and the first test shows that it
//! does forbid it.

use std::path::{Path, PathBuf};
use std::process::Command;

use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Vault, WriteLock};

use crate::common::{Site, is_root, text};
use crate::trace::{Trace, variables};

#[test]
fn protection_comes_before_the_key_and_blinds_a_tracer() {
    let site = Site::with_two_agents().unfenced();
    let trace = Trace::of(&mut site.exec("c", "one"), &[], &["true"]);
    assert!(trace.output.status.success(), "{}", trace.complaint());
    let key = trace.position("openat", "/instance.key");
    assert!(trace.position("prctl", "PR_SET_DUMPABLE, SUID_DUMP_DISABLE") < key);
    assert!(trace.position("prlimit64", "RLIMIT_CORE, {rlim_cur=0, rlim_max=0}") < key);
    // The same without any help.
    let trace = Trace::with(&mut site.exec("c", "one"), &[], &["true"]);
    assert!(trace.output.status.success(), "{}", trace.complaint());
    let shown = trace.calls("openat").iter().any(|line| line.contains("instance.key"));
    assert_eq!(shown, is_root(), "only root sees what the wrapper opens");
}

#[test]
fn looking_up_secrets_costs_the_same_in_a_vault_of_any_size() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": ["A", "B"]}}"#);
    for number in 0..8 {
        site.set(&format!("S{number}"), "some value");
    }
    let small = Trace::of(&mut site.exec("c", "one"), &[], &["true"]).reads_of(&site.file("vault"));
    fill(&site, 100_000);
    let large = Trace::of(&mut site.exec("c", "one"), &[], &["true"]).reads_of(&site.file("vault"));
    for reads in [&small, &large] {
        // At most: the first 4 KiB and its end, then for each of two names one entry of the table
        // and one bucket, which holds 16 records of some 150 bytes, give or take what chance does.
        assert!((2..=6).contains(&reads.len()), "{reads:?}");
        assert!(reads.iter().sum::<i64>() <= 4096 + 2 * (12 + 16 * 1024), "{reads:?}");
    }
    assert!(large.len() <= small.len() + 3, "{small:?} {large:?}");
}

#[test]
fn the_record_is_on_disk_before_the_agent_runs_and_nothing_else_is_written() {
    let site = Site::with_two_agents().unfenced();
    // The segment of an earlier month, so that this launch starts a new one.
    let segment = site.segment();
    std::fs::rename(&segment, segment.with_file_name("access-2020-01.jsonl")).unwrap();
    for is_new in [true, false] {
        let before = listing(site.path());
        let trace = Trace::of(&mut site.exec("c", "one"), &[], &["true"]);
        assert!(trace.output.status.success(), "{}", trace.complaint());
        let log = segment.to_str().unwrap();
        let write = trace.only("write", log);
        let sync = trace.only("fdatasync", log);
        let exec = trace.position("execve", "/true\", [");
        assert!(write < sync && sync < exec, "written, synced, executed: {write}, {sync}, {exec}");
        let line = &trace.lines[write];
        assert!(line.contains("secret.access") && line.contains("\\n\", "), "one line, whole: {line}");
        // The folder's entry for a new file needs a sync of its own, before anything stands in it: whoever dies
        // in between leaves no segment that others take for durable.
        let folder_syncs: Vec<usize> = trace.positions("fsync", "/audit>");
        assert_eq!(folder_syncs.len(), usize::from(is_new));
        assert!(folder_syncs.iter().all(|&at| at < write));

        // The run's pins, before the record: not synced, for no process of a run outlives a power cut.
        let pins = trace.only("write", ".run>");
        assert!(pins < write && trace.positions("fsync", ".run>").is_empty(), "{}", trace.lines[pins]);
        let runs = trace.lines[..exec].iter().filter(|line| line.contains("O_CREAT") && line.contains(".run\""));
        let runs: Vec<&String> = runs.collect();
        assert!(runs.len() == 1 && runs[0].contains("O_EXCL") && runs[0].contains(", 0600"), "{runs:#?}");

        // What number the sync has: others who wait for theirs go by that.
        let synced = trace.positions("pwrite64", "/audit/synced>");
        assert!(synced.len() == 2 && synced[0] < sync && sync < synced[1] && synced[1] < exec, "{synced:?}");
        assert_eq!(trace.positions("pwrite64", ""), synced);
        let opened = trace.only("openat", "\"synced\"");
        assert!(trace.lines[opened].contains("O_NOFOLLOW") && trace.lines[opened].contains(", 0600"));

        let writers: Vec<&String> = trace.lines[..exec]
            .iter()
            .filter(|line| ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE"].iter().any(|flag| line.contains(flag)))
            // A new segment is looked for before it is made.
            .filter(|line| !line.contains(" = -1 ENOENT") && line != &runs[0] && **line != trace.lines[opened])
            .collect();
        assert_eq!(writers.len(), 1, "{writers:#?}");
        assert!(writers[0].contains(log) && writers[0].contains("O_APPEND|"), "{writers:#?}");
        for call in ["creat", "mknodat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat"] {
            assert_eq!(trace.positions(call, ""), [0; 0], "{call}");
        }
        for call in ["unlink", "unlinkat", "symlink", "symlinkat", "memfd_create", "ftruncate", "shm_open"] {
            // The arena's size is set on a memfd_secret, which has no name and no disk.
            let calls = trace.positions(call, "");
            assert!(calls.iter().all(|&at| trace.lines[at].contains("/secretmem")), "{call}");
        }
        let mut expected = before;
        if is_new {
            expected.push(segment.clone());
            expected.sort();
        }
        expected.extend(std::fs::read_dir(site.file("runs")).unwrap().map(|entry| entry.unwrap().path()));
        expected.sort();
        expected.dedup();
        assert_eq!(listing(site.path()), expected);
    }
    assert_eq!(std::fs::read_dir(site.file("runs")).unwrap().count(), 2);
    site.verify();
}

#[test]
fn the_agent_gets_no_descriptor_but_those_handed_over() {
    let site = Site::with_two_agents().unfenced();
    for faults in [
        &[][..],
        &["close_range:error=ENOSYS"],
        &["memfd_secret:error=ENOSYS"],
        // As on Linux 5.8 and before.
        &["close_range:error=ENOSYS", "memfd_secret:error=ENOSYS"],
    ] {
        for (options, expected) in [(&[][..], "0 1 2"), (&["--pass-fd", "9"], "0 1 2 9")] {
            let launch = site.exec("c", "one");
            // The shell leaves both open, as a careless caller would.
            let mut command = Command::new("sh");
            command.args(["-c", "exec \"$@\" 7>&2 9>&2", "sh"]).arg(launch.get_program());
            command.args(launch.get_args()).args(options).envs(variables(&launch));
            let trace = Trace::of(&mut command, faults, &["ls", "/proc/self/fd"]);
            assert!(trace.output.status.success(), "{}", trace.complaint());
            // One more is the folder that ls reads.
            let listed: Vec<String> = text(&trace.output.stdout).lines().map(str::to_owned).collect();
            let numbers = listed.iter().filter(|number| *number != "3").cloned().collect::<Vec<_>>().join(" ");
            assert_eq!((numbers.as_str(), listed.len()), (expected, expected.split(' ').count() + 1), "{faults:?}");
        }
    }
    let protections: Vec<String> = site.accesses().iter().map(|record| record["memory"].to_string()).collect();
    assert_eq!(
        protections,
        ["secretmem", "secretmem", "secretmem", "secretmem", "mlock", "mlock", "mlock", "mlock"]
            .map(|name| format!("\"{name}\""))
    );
}

#[test]
fn no_agent_runs_without_its_record_on_disk() {
    for fault in ["write:error=ENOSPC:when=2", "fdatasync:error=EIO", "fdatasync:error=ENOSPC"] {
        let site = Site::with_two_agents().unfenced();
        let before = std::fs::read(site.segment()).unwrap();
        let proof = site.file("the-agent-ran");
        let trace = Trace::of(&mut site.exec("c", "one"), &[fault], &["touch", proof.to_str().unwrap()]);
        assert_eq!(trace.output.status.code(), Some(125), "{fault}");
        assert_eq!(trace.complaint().lines().count(), 1, "{}", trace.complaint());
        assert!(trace.complaint().contains("access log: can't"), "{}", trace.complaint());
        assert!(trace.complaint().contains("without its record nothing is launched"), "{}", trace.complaint());
        assert!(!proof.exists() && trace.positions("execve", "/touch\", [").is_empty(), "{fault}");
        if fault.starts_with("write") {
            assert_eq!(std::fs::read(site.segment()).unwrap(), before, "no torn line");
        }
        site.verify();
    }
    // A new segment that could vanish with its folder's entry is no record either.
    let site = Site::with_two_agents().unfenced();
    let segment = site.segment();
    std::fs::rename(&segment, segment.with_file_name("access-2020-01.jsonl")).unwrap();
    let trace = Trace::of(&mut site.exec("c", "one"), &["fsync:error=EIO"], &["true"]);
    assert_eq!(trace.output.status.code(), Some(125));
    assert!(trace.positions("execve", "/true\", [").is_empty());
}

#[test]
fn no_agent_runs_without_its_pins() {
    // The first write is that of the pins, for a new run as for a named one.
    for options in [&[][..], &["--run-id", "r"]] {
        let site = Site::with_two_agents().unfenced();
        let proof = site.file("the-agent-ran");
        let agent = ["touch", proof.to_str().unwrap()];
        let trace = Trace::of(site.exec("c", "one").args(options), &["write:error=ENOSPC:when=1"], &agent);
        assert_eq!(trace.output.status.code(), Some(125), "{}", trace.complaint());
        assert!(trace.complaint().contains("can't write") && trace.complaint().contains("/runs/"), "{options:?}");
        assert!(!proof.exists());
        assert_eq!(std::fs::read_dir(site.file("runs")).unwrap().count(), 0, "nothing half-written is left");
        assert_eq!(site.accesses().pop().unwrap()["outcome"], "denied");
    }
}

#[test]
fn memory_that_can_not_be_locked_is_not_used() {
    let site = Site::with_two_agents().unfenced();
    for (faults, status) in [
        (&["memfd_secret:error=ENOSYS"][..], 0),
        (&["memfd_secret:error=EPERM"], 0),
        (&["memfd_secret:error=ENOSYS", "mlock:error=EPERM"], 125),
        (&["memfd_secret:error=ENOSYS", "mlock:error=ENOMEM"], 125),
    ] {
        let trace = Trace::of(&mut site.exec("c", "one"), faults, &["true"]);
        assert_eq!(trace.output.status.code(), Some(status), "{faults:?}: {}", trace.complaint());
        if status == 0 {
            assert_eq!(site.accesses().pop().unwrap()["memory"], "mlock", "{faults:?}");
        } else {
            let complaint = trace.complaint();
            assert_eq!(complaint.lines().count(), 1, "{complaint}");
            assert!(complaint.contains("can't lock") && complaint.contains("RLIMIT_MEMLOCK"), "{complaint}");
            assert_eq!(trace.positions("openat", "/instance.key"), [0; 0], "no key without a place for it");
            assert!(trace.positions("execve", "/true\", [").is_empty());
        }
    }
}

#[test]
fn a_protection_that_is_refused_ends_the_launch_before_the_key_is_read() {
    let site = Site::with_two_agents().unfenced();
    for fault in ["prctl:error=EPERM", "prlimit64:error=EPERM:when=2+"] {
        // Not Trace::of, whose help for ordinary users is about the same call.
        let trace = Trace::with(&mut site.exec("c", "one"), &[fault], &["true"]);
        assert_eq!(trace.output.status.code(), Some(125), "{fault}: {}", trace.complaint());
        assert_eq!(trace.complaint().lines().count(), 1, "{}", trace.complaint());
        assert_eq!(trace.positions("openat", "/instance.key"), [0; 0]);
        assert!(trace.positions("execve", "/true\", [").is_empty());
    }
}

/// Adds so many secrets through the library, for the command line takes one at a time.
fn fill(site: &Site, secrets: usize) {
    let instance = Instance::open(site.path()).unwrap();
    let arena = Arena::new().unwrap();
    let key = instance.key.read(None, &arena).unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    let vault = Vault::open(&instance, key, &arena).unwrap();
    let mut contents = vault.read_all().unwrap();
    let value = arena.alloc(32).unwrap();
    for number in 0..secrets {
        let name: SecretName = format!("SERVICE_{number:06}_API_KEY").parse().unwrap();
        let mut record = Vault::new_record(name.clone(), 1_700_000_000);
        value.copy_from_slice(format!("{number:032}").as_bytes());
        vault.add_version(&mut record, value, 1_700_000_000).unwrap();
        contents.insert(name, record);
    }
    vault.replace(&lock, &contents).unwrap();
}

/// Every file of the instance.
fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => paths.extend(listing(&path)),
            false => paths.push(path),
        }
    }
    paths.sort();
    paths
}
