//! Commands that change values and runs, killed before each of their system calls, one by one: the
//! vault holds the old state or the new one, and nothing hinders the next command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Site, output_with_input, text};
use serde_json::{Value, json};

#[test]
fn rotation_leaves_the_old_state_or_the_new_one() {
    let site = Site::with_two_agents().unfenced();
    let old = json!([[1, "current"]]);
    kill_everywhere(&site, &["secret", "rotate", "A"], &[old, json!([[1, "previous"], [2, "current"]])]);
}

#[test]
fn an_emergency_leaves_the_old_state_or_the_new_one() {
    let site = Site::with_two_agents().unfenced();
    let old = json!([[1, "current"]]);
    let new = json!([[1, "revoked"], [2, "current"]]);
    kill_everywhere(&site, &["secret", "rotate", "A", "--emergency"], &[old, new]);
}

#[test]
fn retirement_leaves_the_old_state_or_the_new_one() {
    let site = Site::with_two_agents().unfenced();
    site.set("A", "value-of-a-again");
    let old = json!([[1, "previous"], [2, "current"]]);
    kill_everywhere(&site, &["secret", "retire", "A"], &[old, json!([[2, "current"]])]);
}

#[test]
fn the_start_of_a_run_leaves_a_whole_run_or_none() {
    let site = Site::with_two_agents().unfenced();
    kill_everywhere(&site, &["run", "start", "c"], &[json!([[1, "current"]])]);
}

#[test]
fn a_first_launch_leaves_whole_pins_or_none() {
    let site = Site::with_two_agents().unfenced();
    let launch = ["--chain", "c", "--agent", "one", "--run-id", "r", "--", "true"];
    kill_program_everywhere(&site, common::EXEC, &launch, &[json!([[1, "current"]])]);
}

fn kill_everywhere(site: &Site, arguments: &[&str], states: &[Value]) {
    kill_program_everywhere(site, env!("CARGO_BIN_EXE_mentiko"), arguments, states);
}

/// Runs the program on copies of the instance, each time killed at another system call, and looks
/// at what is left. All `states` of A must have been seen.
fn kill_program_everywhere(site: &Site, program: &str, arguments: &[&str], states: &[Value]) {
    let words: Vec<&str> = [program].into_iter().chain(arguments.iter().copied()).collect();
    let whole = Copy::of(site);
    let trace = whole.path().join("trace");
    let output = whole.strace(&["-o", trace.to_str().unwrap()], &words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let places = places(&std::fs::read_to_string(&trace).unwrap());
    assert!(places.len() > 30, "{places:?}");
    drop(whole);
    let (next, seen) = (AtomicUsize::new(0), std::sync::Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((call, count)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let copy = Copy::of(site);
                    let fault = format!("--inject={call}:signal=SIGKILL:when={count}");
                    let output = copy.strace(&[fault.as_str(), "-o", "/dev/null"], &words);
                    assert_eq!(output.status.signal(), Some(9), "{call} {count}: {}", text(&output.stderr));
                    let state = copy.check(&format!("killed at {call} number {count}"));
                    assert!(states.contains(&state), "{call} {count}: {state}");
                    *seen.lock().unwrap().entry(state.to_string()).or_insert(0) += 1;
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), states.len(), "{seen:?}");
}

/// Each system call from the first that is the program's own on, with how often it was called by
/// then: strace counts each apart.
fn places(trace: &str) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut own = false;
    let mut places = Vec::new();
    for line in trace.lines() {
        let Some((call, rest)) = line.split_once('(').filter(|(call, _)| !call.contains([' ', '+', '-'])) else {
            continue;
        };
        let count = counts.entry(call).or_default();
        *count += 1;
        // Before it, the loader and the runtime are at work.
        own |= call == "prctl" && rest.starts_with("PR_SET_DUMPABLE");
        if own && call == "execve" {
            break;
        }
        if own {
            places.push((call.to_owned(), *count));
        }
    }
    places
}

/// An instance that a killed program leaves its traces in.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(site: &Site) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("cp");
        assert!(command.arg("-a").arg(site.path().join(".")).arg(folder.path()).status().unwrap().success());
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// With a new value on standard input.
    fn strace(&self, options: &[&str], words: &[&str]) -> Output {
        let input = self.path().join("input");
        std::fs::write(&input, "a-new-value-of-a").unwrap();
        let mut strace = Command::new("strace");
        strace.args(options).arg("--").args(words).stdin(File::open(input).unwrap());
        strace.env_remove("MENTIKO_RUN_ID").env("MENTIKO_INSTANCE", self.path());
        strace.output().unwrap_or_else(|error| panic!("strace can't be run ({error}); install the package strace"))
    }

    /// The next commands work, at once, and tidy up. The versions of A with their states.
    fn check(&self, when: &str) -> Value {
        let mentiko = |arguments: &[&str], input: &[u8]| {
            // A lock that nobody lets go of would make them wait.
            let mut command = Command::new("timeout");
            command.args(["20", env!("CARGO_BIN_EXE_mentiko")]).args(arguments).stdin(Stdio::null());
            let output = output_with_input(command.env("MENTIKO_INSTANCE", self.path()), input);
            assert!(output.status.success(), "{when}: {arguments:?}: {}", text(&output.stderr));
            output.stdout
        };
        let shown: Value = serde_json::from_slice(&mentiko(&["secret", "show", "A", "--json"], b"")).unwrap();
        let version = |version: &Value| json!([version["version"], version["state"]]);
        let state = shown["versions"].as_array().unwrap().iter().map(version).collect();
        let runs: Value = serde_json::from_slice(&mentiko(&["run", "list", "--json"], b"")).unwrap();
        for run in runs.as_array().unwrap() {
            assert_eq!((&run["state"], &run["versions"]["A"]), (&json!("living"), &json!(1)), "{when}");
        }
        mentiko(&["secret", "set", "NEXT"], b"next");
        mentiko(&["audit", "verify"], b"");
        let temporary: Vec<PathBuf> = [self.path().to_owned(), self.path().join("runs")]
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
            .filter(|path| path.to_str().unwrap().ends_with(".tmp"))
            .collect();
        assert!(temporary.is_empty(), "{when}: {temporary:?}");
        state
    }
}
