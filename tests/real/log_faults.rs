//! The kernel refuses each call that a launch, or a change of the vault, makes for the access log.
//!
//! Errors are injected by strace(1), which answers in the kernel's place: the call is not made. So it can't make a
//! short write, for it would claim that bytes were written that nobody wrote. Those are made for real: a tracer lowers
//! the length that write(2) is asked for, and a limit on the size of files stops it midway.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::libc;
use serde_json::Value;

use crate::common::{Site, is_root, text};
use crate::trace::{Trace, segment};
use crate::tracer::{self, Change};

/// What a kernel may answer. EINTR is what a call gets that waited when a signal came.
const ERRORS: [&str; 3] = ["EIO", "ENOSPC", "EINTR"];

#[test]
fn a_launch_happens_with_its_record_or_not_at_all() {
    launches_survive_every_fault(&Kit::new());
}

#[test]
fn so_does_the_first_launch_of_a_month() {
    let kit = Kit::new();
    let old = kit.segment.with_file_name("access-2020-01.jsonl");
    std::fs::rename(&kit.segment, old).unwrap();
    launches_survive_every_fault(&kit);
}

fn launches_survive_every_fault(kit: &Kit) {
    let before = kit.files();
    let calls = Call::of_the_log(&kit.launch_traced(&[]), kit);
    let named = |name: &str| calls.iter().filter(|call| call.name == name).count();
    assert_eq!((named("write"), named("fdatasync"), named("flock")), (1, 1, 2), "{calls:#?}");
    assert_eq!(named("fsync"), usize::from(before.iter().all(|(path, _)| *path != kit.segment)));
    assert!(named("openat") >= 4 && named("pread64") >= 1, "{calls:#?}");
    for call in &calls {
        for error in ERRORS {
            let fault = call.fault(error, "");
            kit.restore(&before);
            let trace = kit.launch_traced(&[&fault]);
            let ran = kit.outcome(&trace, &before, &fault);
            let must_fail = error != "EINTR" && !call.lets_go;
            assert!(!ran || !must_fail, "{fault}: {}", call.line);
            // A signal stops none of these for good.
            let goes_on = call.lets_go || (error == "EINTR" && ["write", "fdatasync", "flock"].contains(&&*call.name));
            assert!(ran || !goes_on, "{fault}: {}: {}", call.line, trace.complaint());
            kit.goes_on();
        }
    }
    // From that call on, for good: that it never ran can't be recorded either. (A write(2) that fails for good says
    // nothing on standard error.)
    for call in calls.iter().filter(|call| ["fdatasync", "fsync"].contains(&&*call.name)) {
        for error in ["EIO", "ENOSPC"] {
            let fault = call.fault(error, "+");
            kit.restore(&before);
            let trace = kit.launch_traced(&[&fault]);
            assert!(!kit.outcome(&trace, &before, &fault), "{fault}");
            kit.goes_on();
        }
    }
}

#[test]
fn a_change_of_the_vault_is_made_and_recorded_or_says_what_is_missing() {
    let kit = Kit::new();
    let calls = Call::of_the_log(&kit.set_traced(&[]), &kit);
    assert!(calls.iter().filter(|call| call.name == "flock").count() == 4, "{calls:#?}");
    for call in &calls {
        for error in ERRORS {
            let fault = call.fault(error, "");
            let (before, version) = (kit.site.log(), kit.version());
            let trace = kit.set_traced(&[&fault]);
            let new = kit.site.log().split_off(before.len());
            let complaint = trace.complaint();
            let made = kit.version() == version + 1;
            let context = format!("{fault}: {}: {complaint}", call.line);
            if trace.output.status.success() {
                assert!(made && new.len() == 1 && new[0]["event"] == "secret.set", "{context}{new:#?}");
            } else {
                assert_eq!((trace.output.status.code(), complaint.lines().count()), (Some(1), 1), "{context}");
                assert!(complaint.contains("access log: can't "), "{context}");
                assert_eq!(made, complaint.contains("the change was made, but it could not be recorded"), "{context}");
                // It may stand, and not be on stable storage.
                assert_eq!(new.len(), usize::from(complaint.contains("can't sync") && call.name == "fdatasync"));
            }
            kit.site.verify();
        }
    }
    kit.site.set("A", "once more");
    kit.site.verify();
}

#[test]
fn a_write_that_takes_only_a_part_is_gone_on_with() {
    let kit = Kit::new();
    assert!(kit.launch().status().unwrap().success());
    let length = std::fs::read_to_string(&kit.segment).unwrap().lines().last().unwrap().len() + 1;
    for taken in [1, 100, length / 2, length - 1] {
        let before = kit.site.log().len();
        let _ = std::fs::remove_file(&kit.marker);
        with_a_short_write(&mut kit.launch(), taken as u64);
        assert!(kit.marker.exists());
        let new = kit.site.log().split_off(before);
        assert!(new.len() == 1 && new[0]["outcome"] == "granted", "{taken}: {new:#?}");
        kit.site.verify();
    }
}

#[test]
fn a_write_that_is_stopped_midway_launches_nothing() {
    let kit = Kit::new();
    // The memory of secrets is a file too, by this limit.
    while std::fs::metadata(&kit.segment).unwrap().len() < 20_000 {
        assert!(kit.launch().status().unwrap().success());
    }
    std::fs::remove_file(&kit.marker).unwrap();
    for room in [0, 1, 300] {
        let before = std::fs::read(&kit.segment).unwrap();
        let limit = format!("--fsize={}", before.len() + room);
        let limited = |words: &[&str]| {
            let launch = kit.launch();
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).args(["prlimit", &limit, "--"]).arg(launch.get_program());
            command.args(launch.get_args()).env("MENTIKO_INSTANCE", kit.site.path()).output().unwrap()
        };
        // What was written is cut off again, whether the caller ignores the signal or not.
        for disposition in ["--ignore-signal=XFSZ", "--default-signal=XFSZ"] {
            kit.assert_refused(&limited(&["env", disposition]), "File too large");
            assert_eq!(std::fs::read(&kit.segment).unwrap(), before);
        }
        kit.goes_on();
    }
}

#[test]
fn a_launch_that_fails_late_is_on_record_also_where_pages_are_wiped_by_a_helper() {
    let kit = Kit::new();
    let script = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&script, "#!/nonexistent\n").unwrap();
    crate::common::chmod(&script, 0o755);
    // While it waits for the lock of the log, the helper must not wipe the key of the record.
    let faults = ["memfd_secret:error=ENOSYS", "flock:delay_enter=200000"];
    let trace = Trace::of(&mut kit.site.exec("c", "one"), &faults, &[script.to_str().unwrap()]);
    assert_eq!(trace.output.status.code(), Some(127), "{}", trace.complaint());
    let last = kit.site.log().pop().unwrap();
    assert_eq!((&last["event"], &last["memory"]), (&"launch.failed".into(), &"mlock".into()));
    kit.goes_on();
}

#[test]
fn an_agent_gets_the_callers_dispositions_back() {
    let kit = Kit::new();
    for (option, expected) in [("--ignore-signal", true), ("--default-signal", false)] {
        let launch = kit.site.exec("c", "one");
        let mut command = Command::new("env");
        command.arg(format!("{option}=PIPE,XFSZ")).arg(launch.get_program()).args(launch.get_args());
        command.args(["--", "grep", "SigIgn", "/proc/self/status"]).env("MENTIKO_INSTANCE", kit.site.path());
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let mask = u64::from_str_radix(said.split_whitespace().last().unwrap(), 16).unwrap();
        for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
            assert_eq!(mask >> (signal - 1) & 1 == 1, expected, "{option} {signal}: {said}");
        }
    }
}

/// Runs a program whose write(2) of a record is asked for less than the program wants.
fn with_a_short_write(command: &mut Command, length: u64) {
    let mut shortened = false;
    let output = tracer::run(command, |asked| {
        // Longer than what pins take.
        let is_it = !shortened && asked.number == libc::SYS_write && asked.arguments[2] > 400;
        shortened |= is_it;
        is_it.then_some(Change::Argument(2, length))
    });
    assert!(shortened && output.status.success(), "{}", text(&output.stderr));
}

/// One call that was made for the log.
#[derive(Debug)]
struct Call {
    name: String,
    /// Which of the calls of that name it is, from 1.
    number: usize,
    line: String,
    /// Of the lock, where nothing depends on the answer.
    lets_go: bool,
}

impl Call {
    fn of_the_log(trace: &Trace, kit: &Kit) -> Vec<Self> {
        assert!(trace.output.status.success(), "{}", trace.complaint());
        let audit = kit.site.file("audit");
        let names = ["write", "fdatasync", "fsync", "openat", "flock", "pread64"];
        let calls = names.into_iter().flat_map(|name| {
            let lines = trace.calls(name).into_iter().enumerate();
            let of_log = lines.filter(|(_, line)| line.contains(audit.to_str().unwrap()));
            of_log.map(move |(at, line)| Self {
                name: name.into(),
                number: at + 1,
                line: line.clone(),
                lets_go: line.contains("LOCK_UN"),
            })
        });
        calls.collect()
    }

    fn fault(&self, error: &str, more: &str) -> String {
        format!("{}:error={error}:when={}{more}", self.name, self.number)
    }
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// An instance, and an agent that shows whether it ran.
struct Kit {
    site: Site,
    segment: PathBuf,
    marker: PathBuf,
    value: tempfile::NamedTempFile,
}

impl Kit {
    fn new() -> Self {
        let site = Site::with_two_agents().unfenced();
        let value = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(value.path(), "another-value-of-a").unwrap();
        Self { segment: segment(&site), marker: site.file("the-agent-ran"), site, value }
    }

    fn launch(&self) -> Command {
        let mut launch = self.site.exec("c", "one");
        launch.args(["--", "touch"]).arg(&self.marker);
        launch
    }

    fn launch_traced(&self, faults: &[&str]) -> Trace {
        let _ = std::fs::remove_file(&self.marker);
        Trace::of(&mut self.site.exec("c", "one"), faults, &["touch", self.marker.to_str().unwrap()])
    }

    fn set_traced(&self, faults: &[&str]) -> Trace {
        let command = self.site.mentiko(&["secret", "set", "A"]);
        let help = if is_root() { &[][..] } else { &["prctl:retval=0"] };
        Trace::of_program(&command, &[faults, help].concat(), self.value.reopen().unwrap())
    }

    fn version(&self) -> u64 {
        let output = self.site.mentiko(&["secret", "show", "A", "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["version"].as_u64().unwrap()
    }

    fn files(&self) -> Files {
        let entries = std::fs::read_dir(self.site.file("audit")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn restore(&self, files: &Files) {
        if !files.iter().any(|(path, _)| *path == self.segment) {
            let _ = std::fs::remove_file(&self.segment);
        }
        for (path, content) in files {
            std::fs::write(path, content).unwrap();
        }
    }

    /// The whole records; a torn line is none.
    fn records(&self) -> Vec<Value> {
        let mut files = self.files();
        files.sort();
        let lines = files.iter().flat_map(|(_, content)| content.split(|&byte| byte == b'\n'));
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Whether the agent ran. Then it has its record; otherwise it has none, or one that is taken back.
    fn outcome(&self, trace: &Trace, before: &Files, fault: &str) -> bool {
        let old = before.iter().map(|(_, content)| content.iter().filter(|&&byte| byte == b'\n').count()).sum();
        let new = self.records().split_off(old);
        let events: Vec<(&str, &str)> =
            new.iter().map(|record| (record["event"].as_str().unwrap(), record["outcome"].as_str().unwrap())).collect();
        let (granted, failed) = (("secret.access", "granted"), ("launch.failed", "failed"));
        if self.marker.exists() {
            assert!(trace.output.status.success() && trace.complaint().is_empty(), "{fault}: {}", trace.complaint());
            assert_eq!(events, [granted], "{fault}");
            return true;
        }
        self.assert_refused(&trace.output, "access log: can't ");
        assert!(trace.positions("execve", "/touch\", [").is_empty(), "{fault}");
        match fault.starts_with("fdatasync") {
            true => assert_eq!(events, [granted, failed], "{fault}"),
            false => assert_eq!(events, [], "{fault}"),
        }
        self.site.verify();
        false
    }

    fn assert_refused(&self, output: &Output, why: &str) {
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains(why) && complaint.contains("without its record nothing is launched"), "{complaint}");
        assert!(!self.marker.exists());
    }

    /// The next launch works, and leaves a log that verifies.
    fn goes_on(&self) {
        let output = self.launch().stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(self.marker.exists());
        std::fs::remove_file(&self.marker).unwrap();
        self.site.verify();
    }
}
