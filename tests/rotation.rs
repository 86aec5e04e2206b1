//! The life of a value: set, held by runs, rotated, retired, revoked; and many launches meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Site, output_with_input, text};
use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::{RunId, SecretName};
use mentiko_exec::vault::{Pins, Runs, RunsLock, Vault, WriteLock};
use serde_json::{Value, json};

/// A secret A, first `v1`, in a chain `c` whose agents `one` and `two` both get it; `three` gets B.
fn site() -> Site {
    let site = Site::new().unfenced();
    site.set("A", "v1");
    site.set("B", "b1");
    let agents = r#"{"one": ["A"], "two": ["A"], "three": ["B"]}"#;
    site.chain("c", &format!(r#"{{"secrets": ["A", "B"], "agents": {agents}}}"#));
    site
}

/// `mentiko ARGUMENTS`, which must succeed; what it prints.
fn does(site: &Site, command: &str, input: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let output = output_with_input(&mut site.mentiko(&words), input.as_bytes());
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json_of(site: &Site, command: &str) -> Value {
    serde_json::from_str(&does(site, command, "")).unwrap()
}

/// A launch in a run, or in a new one.
fn launch(site: &Site, agent: &str, run: Option<&str>) -> Command {
    let mut command = site.exec("c", agent);
    command.args(run.iter().flat_map(|run| ["--run-id", run])).arg("--");
    command
}

/// What the agent's A (or B) is.
fn value_in(site: &Site, agent: &str, run: Option<&str>) -> Output {
    launch(site, agent, run).args(["sh", "-c", "echo $A$B"]).output().unwrap()
}

fn gets(site: &Site, agent: &str, run: Option<&str>, value: &str) {
    let output = value_in(site, agent, run);
    assert_eq!((text(&output.stdout).trim(), text(&output.stderr).as_str()), (value, ""), "{agent} {run:?}");
}

/// Refused for a version that is revoked or gone, on record.
fn is_refused(site: &Site, agent: &str, run: &str) {
    let output = value_in(site, agent, Some(run));
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(77), ""), "{stderr}");
    assert!(stderr.contains("version revoked") && stderr.contains(&format!("mentiko run end {run}")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let record = site.accesses().pop().unwrap();
    let fields =
        ["outcome", "reason", "secret", "agent", "run"].map(|field| record[field].as_str().unwrap_or_default());
    assert_eq!(fields, ["denied", "version revoked", "A", agent, run]);
}

/// The versions of A with their states.
fn versions(site: &Site) -> Vec<(u64, String)> {
    let shown = json_of(site, "secret show A --json");
    let version =
        |version: &Value| (version["version"].as_u64().unwrap(), version["state"].as_str().unwrap().to_owned());
    shown["versions"].as_array().unwrap().iter().map(version).collect()
}

/// An agent that says that it runs, and goes on until it is stopped.
struct Agent(Child);

impl Agent {
    fn of(command: &mut Command) -> Self {
        let script = "echo $A; exec sleep 600";
        let mut child =
            command.args(["sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with('v'), "{line}");
        Self(child)
    }

    fn pid(&self) -> u64 {
        self.0.id().into()
    }

    fn stop(self) {}

    /// The signal that ended it.
    fn ended_by(mut self) -> Option<i32> {
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum Step {
    /// A command with this on its standard input prints this.
    Does(&'static str, &'static str, &'static str),
    /// An agent in a run gets this.
    Gets(&'static str, Option<&'static str>, &'static str),
    /// An agent in a run is refused.
    Refused(&'static str, &'static str),
    /// The vault has these versions of A.
    Has(&'static [(u64, &'static str)]),
}

#[test]
fn a_value_lives_as_long_as_a_run_holds_it() {
    use Step::{Does, Gets, Has, Refused};
    let site = site();
    let steps = [
        Gets("one", Some("a"), "v1"),
        Does("secret rotate A", "v2", "rotated A to version 2"),
        Has(&[(1, "previous"), (2, "current")]),
        Gets("two", Some("a"), "v1"),
        Gets("one", Some("b"), "v2"),
        Gets("one", None, "v2"),
        // What a run holds of one secret says nothing of another.
        Does("secret rotate B", "b2", "rotated B to version 2"),
        Gets("three", Some("a"), "b2"),
        Does("secret retire A", "", "there is no previous version to remove"),
        Does("secret retire A", "", "kept version 1, held by\n  run a of chain c\n"),
        Has(&[(1, "previous"), (2, "current")]),
        Gets("one", Some("a"), "v1"),
        Does("run end a", "", "ended run a\n"),
        Does("secret retire A", "", "A: removed version 1 from the vault\n"),
        Has(&[(2, "current")]),
        Does("secret retire A", "", "A: there is no previous version to remove\n"),
        // It begins anew.
        Gets("two", Some("a"), "v2"),
        Does("secret rotate A", "v3", "rotated A to version 3"),
        Gets("two", Some("a"), "v2"),
        Gets("two", Some("d"), "v3"),
        Does("secret rotate A --emergency", "v4", "A: revoked versions 2, 3, wiped from the vault\n"),
        Has(&[(2, "revoked"), (3, "revoked"), (4, "current")]),
        Refused("one", "a"),
        Refused("one", "b"),
        Refused("two", "d"),
        Gets("three", Some("a"), "b2"),
        Gets("one", Some("e"), "v4"),
        Gets("one", None, "v4"),
        Does("run end a", "", "ended run a"),
        Gets("one", Some("a"), "v4"),
        Does("secret retire A", "", "there is no previous version to remove"),
        Has(&[(2, "revoked"), (3, "revoked"), (4, "current")]),
        Does("secret rotate A --revoke-only", "", "are refused until: mentiko secret rotate A"),
        Refused("one", "e"),
        Does("secret rotate A", "v5", "rotated A to version 5"),
        Refused("one", "e"),
        Gets("one", Some("f"), "v5"),
    ];
    for step in steps {
        match step {
            Does(command, input, said) => {
                let printed = does(&site, command, input);
                assert!(printed.contains(said), "{command}: {printed}");
            }
            Gets(agent, run, value) => gets(&site, agent, run, value),
            Refused(agent, run) => is_refused(&site, agent, run),
            Has(expected) => {
                let expected: Vec<_> = expected.iter().map(|(number, state)| (*number, (*state).to_owned())).collect();
                assert_eq!(versions(&site), expected);
            }
        }
    }
    let output = value_in(&site, "one", None);
    assert_eq!(text(&output.stdout), "v5\n");
    let changes: Vec<String> = site
        .log()
        .iter()
        .filter(|record| record["secret"] == "A" && record["event"] != "secret.access")
        .map(|record| format!("{} {}", record["event"].as_str().unwrap(), record["version"]))
        .collect();
    let expected = "secret.set 1, secret.rotate 2, secret.retire 1, secret.rotate 3, secret.revoke 2, secret.revoke 3, \
                    secret.rotate 4, secret.revoke 4, secret.rotate 5";
    assert_eq!(changes.join(", "), expected);
    site.verify();
}

#[test]
fn only_what_exists_is_rotated() {
    let site = site();
    for command in ["rotate GONE", "rotate GONE --emergency", "retire GONE"] {
        let words: Vec<&str> = ["secret"].into_iter().chain(command.split(' ')).collect();
        let output = output_with_input(&mut site.mentiko(&words), b"value");
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output.stderr).contains("there is no secret 'GONE'"), "{}", text(&output.stderr));
    }
    // The value that leaked is no new value.
    does(&site, "secret rotate A", "v2");
    for value in [&b"v1"[..], b"v2"] {
        let output = output_with_input(&mut site.mentiko(&["secret", "rotate", "A", "--emergency"]), value);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("one of those to be revoked"), "{}", text(&output.stderr));
    }
    assert_eq!(versions(&site), [(1, "previous".into()), (2, "current".into())]);
    let output = output_with_input(&mut site.mentiko(&["secret", "rotate", "A", "--terminate"]), b"v3");
    assert!(text(&output.stderr).contains("go with --emergency"), "{}", text(&output.stderr));
    assert_eq!(versions(&site).len(), 2);
}

#[test]
fn an_agent_that_runs_holds_its_version_when_its_run_was_ended() {
    let site = site();
    let agent = Agent::of(&mut launch(&site, "one", Some("a")));
    does(&site, "secret rotate A", "v2");
    let said = does(&site, "run end a", "");
    assert!(said.contains(&format!("its agents go on, with what they were given: pid {}", agent.pid())), "{said}");
    let said = does(&site, "secret retire A", "");
    assert!(said.contains(&format!("agent one of chain c in run a, pid {}", agent.pid())), "{said}");
    assert_eq!(versions(&site).len(), 2);
    agent.stop();
    does(&site, "secret retire A", "");
    assert_eq!(versions(&site), [(2, "current".into())]);
}

#[test]
fn an_emergency_says_who_holds_the_key_and_stops_them() {
    let site = site();
    let first = Agent::of(&mut launch(&site, "one", Some("a")));
    does(&site, "secret rotate A", "v2");
    let second = Agent::of(&mut launch(&site, "two", Some("b")));
    let mut bystander = Command::new("sleep").arg("600").stderr(Stdio::null()).spawn().unwrap();
    let said = does(&site, "secret rotate A --emergency", "v3");
    let pids = format!("kill {} {}\n", first.pid(), second.pid());
    for part in [pids.as_str(), "mentiko-exec --chain c --agent one -- sh ...", "A: version 3 is the current one"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let third = Agent::of(&mut launch(&site, "one", Some("c")));
    let mut said: Value = json_of(&site, "secret rotate A --revoke-only --terminate --json");
    let mut terminated: Vec<u64> =
        said["terminated"].as_array().unwrap().iter().map(|pid| pid.as_u64().unwrap()).collect();
    terminated.sort_unstable();
    let mut expected = [first.pid(), second.pid(), third.pid()];
    expected.sort_unstable();
    assert_eq!(terminated, expected);
    assert_eq!((said["revoked"].take(), said["version"].take()), (json!([3]), Value::Null));
    let holders = said["exposure"]["holders"].as_array().unwrap();
    let holder = |holder: &Value| (holder["run"].clone(), holder["version"].clone(), holder["running"].clone());
    let holders: Vec<_> = holders.iter().map(holder).collect();
    let expected = [("a", 1, &first), ("c", 3, &third), ("b", 2, &second)];
    assert_eq!(holders, expected.map(|(run, version, agent)| (json!(run), json!(version), json!([agent.pid()]))));
    for agent in [first, second, third] {
        assert_eq!(agent.ended_by(), Some(15));
    }
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    site.verify();
}

#[test]
fn a_run_that_is_begun_by_hand_holds_all_of_its_chain() {
    let site = site();
    let run = does(&site, "run start c", "").trim().to_owned();
    let listed = json_of(&site, "run list --json");
    let fields = ["run", "chain", "state", "versions", "running", "last_access"].map(|field| listed[0][field].clone());
    let expected = [json!(run), json!("c"), json!("living"), json!({"A": 1, "B": 1}), json!([]), Value::Null];
    assert_eq!(fields, expected);
    does(&site, "secret rotate A", "v2");
    does(&site, "secret rotate B", "b2");
    gets(&site, "one", Some(&run), "v1");
    gets(&site, "three", Some(&run), "b1");
    // The agents of an orchestrator inherit its run.
    let mut inherited = launch(&site, "two", None);
    let output = inherited.env("MENTIKO_RUN_ID", &run).args(["sh", "-c", "echo $A"]).output().unwrap();
    assert_eq!(text(&output.stdout), "v1\n");
    let agent = Agent::of(&mut launch(&site, "one", Some(&run)));
    let listed = json_of(&site, "run list --json");
    assert_eq!(listed[0]["running"], json!([agent.pid()]));
    assert!(listed[0]["last_access"].is_string());
    let table = does(&site, "run list", "");
    for part in ["HOLDS", &run, "A:1 B:1", "living", &agent.pid().to_string()] {
        assert!(table.contains(part), "{part}: {table}");
    }
    agent.stop();
    does(&site, &format!("run end {run}"), "");
    assert_eq!(does(&site, "run list", ""), "no runs\n");
    let events: Vec<Value> = site.log().into_iter().filter(|record| record["run"] == run.as_str()).collect();
    let ends = [&events[0], &events[events.len() - 1]].map(|record| (record["event"].clone(), record["chain"].clone()));
    assert_eq!(ends, [(json!("run.start"), json!("c")), (json!("run.end"), json!("c"))]);
    site.verify();
}

#[test]
fn a_run_of_a_chain_that_lacks_a_secret_is_not_begun() {
    let site = site();
    site.chain("d", r#"{"secrets": ["A", "GONE"]}"#);
    site.chain("e", r#"{"secrets": ["A", "B"]}"#);
    does(&site, "secret scope B c", "");
    for (chain, part) in [("d", "'GONE': secret not in vault"), ("e", "'B': chain out of scope"), ("f", "no chain 'f'")]
    {
        let output = site.mentiko(&["run", "start", chain]).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    let output = site.mentiko(&["run", "end", "unknown"]).output().unwrap();
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("there is no run 'unknown'"));
    assert!(pins(&site).is_empty());
}

/// The files in `runs/`.
fn pins(site: &Site) -> Vec<PathBuf> {
    std::fs::read_dir(site.file("runs")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_run_that_nobody_can_join_pins_nothing() {
    let site = Site::new();
    site.set("K", "value-of-k-1");
    site.chain("c", r#"{"secrets": ["K"]}"#);
    let launch = |options: &[&str]| {
        assert!(site.exec("c", "a").args(options).args(["--", "true"]).status().unwrap().success());
        pins(&site).len()
    };
    // Its agent stands behind a fence, and knows alone of the run.
    assert_eq!(launch(&[]), 0);
    assert_eq!(launch(&["--fence", "off"]), 1);
    assert_eq!(launch(&["--run-id", "r"]), 2);
}

#[test]
fn a_dry_run_shows_what_a_run_would_get_and_pins_nothing() {
    let site = site();
    let dry = |run: &str| {
        let mut command = site.exec("c", "one");
        let output = command.args(["--dry-run", "--run-id", run, "--", "true"]).output().unwrap();
        text(&output.stdout)
    };
    assert!(dry("a").contains("A (version 1)"));
    assert!(pins(&site).is_empty());
    gets(&site, "one", Some("a"), "v1");
    does(&site, "secret rotate A", "v2");
    let before = std::fs::read(site.file("runs/a.run")).unwrap();
    assert!(dry("a").contains("A (version 1)") && dry("b").contains("A (version 2)"));
    assert_eq!(pins(&site), [site.file("runs/a.run")]);
    // Nor does a launch write that gets what the run holds already.
    gets(&site, "two", Some("a"), "v1");
    assert_eq!(std::fs::read(site.file("runs/a.run")).unwrap(), before);
}

#[test]
fn damaged_pins_are_refused_and_an_empty_file_counts_for_none() {
    let site = site();
    gets(&site, "one", Some("a"), "v1");
    does(&site, "secret rotate A", "v2");
    let file = site.file("runs/a.run");
    let whole = std::fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damages = [0, 8, 40, 52, whole.len() - 1].map(flipped);
    let cut = [&whole[..1], &whole[..60], &whole[..whole.len() - 1]].map(<[u8]>::to_vec);
    for bytes in damages.into_iter().chain(cut).chain([[&whole[..], b"x"].concat()]) {
        std::fs::write(&file, bytes).unwrap();
        let output = value_in(&site, "two", Some("a"));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains("the pins of run 'a' are damaged") && stderr.contains("mentiko run end a"), "{stderr}");
        let output = site.mentiko(&["secret", "retire", "A"]).output().unwrap();
        assert!(text(&output.stderr).contains("the pins of run 'a' are damaged"), "{}", text(&output.stderr));
        assert_eq!(json_of(&site, "run list --json")[0]["state"], "damaged");
    }
    does(&site, "run end a", "");
    does(&site, "secret retire A", "");
    assert_eq!(versions(&site), [(2, "current".into())]);
    std::fs::write(&file, "").unwrap();
    common::chmod(&file, 0o600);
    assert_eq!(json_of(&site, "run list --json"), json!([]));
    gets(&site, "two", Some("a"), "v2");
    assert_eq!(json_of(&site, "run list --json")[0]["versions"], json!({"A": 2}));
    // Another run's pins are not this one's.
    std::fs::copy(&file, site.file("runs/b.run")).unwrap();
    assert_eq!(value_in(&site, "one", Some("b")).status.code(), Some(78));
}

/// Gives a run pins that are so many hours old.
fn pinned_before(site: &Site, run: &str, hours: u64) {
    let instance = Instance::open(site.path()).unwrap();
    let arena = Arena::new().unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    let now = std::time::SystemTime::now();
    let then = now - Duration::from_secs(hours * 3600);
    let created = then.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut pins = Pins::new("c".parse().unwrap(), created);
    let name: SecretName = "A".parse().unwrap();
    pins.add(&name, 1);
    let run: RunId = run.parse().unwrap();
    let runs = Runs::open(&instance).unwrap();
    runs.store(&runs.lock().unwrap(), &run, &vault.seal_pins(&run, &pins).unwrap()).unwrap();
    std::fs::File::options().append(true).open(runs.file(&run)).unwrap().set_modified(then).unwrap();
}

#[test]
fn a_run_is_over_some_time_after_its_last_launch() {
    let site = site();
    let states = |site: &Site| -> BTreeMap<String, String> {
        let listed = json_of(site, "run list --json");
        let state = |run: &Value| (run["run"].as_str().unwrap().to_owned(), run["state"].as_str().unwrap().to_owned());
        listed.as_array().unwrap().iter().map(state).collect()
    };
    let expected = |states: &[(&str, &str)]| -> BTreeMap<String, String> {
        states.iter().map(|(run, state)| ((*run).to_owned(), (*state).to_owned())).collect()
    };
    let agent = Agent::of(&mut launch(&site, "one", Some("works")));
    // As if all of that had been long ago.
    for path in site.segments() {
        let lines = std::fs::read_to_string(&path).unwrap();
        let aged: Vec<String> = lines
            .lines()
            .map(|line| {
                let at = line.find("\"time\":\"").unwrap() + 8;
                format!("{}2020-01-01{}\n", &line[..at], &line[at + 10..])
            })
            .collect();
        std::fs::write(&path, aged.concat()).unwrap();
    }
    pinned_before(&site, "works", 65_000);
    pinned_before(&site, "old", 25);
    pinned_before(&site, "young", 23);
    pinned_before(&site, "to-come", 0);
    std::fs::write(site.file("runs/emptied.run"), "").unwrap();
    assert_eq!(
        states(&site),
        expected(&[("works", "living"), ("old", "over"), ("young", "living"), ("to-come", "living")])
    );
    assert_eq!(states(&site), expected(&[("works", "living"), ("young", "living"), ("to-come", "living")]));
    // It begins anew, and is used.
    does(&site, "secret rotate A", "v2");
    gets(&site, "one", Some("old"), "v2");
    pinned_before(&site, "old", 25);
    assert_eq!(states(&site)["old"], "living", "it was used right now");
    agent.stop();
    assert_eq!(states(&site)["works"], "over");
    // As the policy says.
    let configuration = site.file("instance.json");
    let text = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, text.replace(r#""fence": "off""#, r#""fence": "off", "run_idle_hours": 23"#))
        .unwrap();
    // A rotation forgets it too, and so nothing holds the first version but what is young.
    pinned_before(&site, "older", 48);
    does(&site, "secret rotate B", "b2");
    assert!(!site.file("runs/older.run").exists() && !site.file("runs/young.run").exists());
    assert!(site.file("runs/to-come.run").exists());
    does(&site, "run end to-come", "");
    does(&site, "run end old", "");
    pinned_before(&site, "older", 48);
    does(&site, "secret retire A", "");
    assert_eq!(versions(&site), [(2, "current".into())]);
    assert!(!site.file("runs/older.run").exists());
}

#[test]
fn two_first_launches_at_once_hold_the_same_version() {
    let site = site();
    let mut both = [0, 0];
    // Until some runs have met the old value and some the new, on however slow a machine.
    for round in 1.. {
        if round > 40 && both.iter().all(|&count| count > 0) {
            break;
        }
        assert!(round < 400, "{both:?}");
        let run = format!("r{round}");
        let spawn = |agent: &str| {
            let mut command = launch(&site, agent, Some(&run));
            command.args(["sh", "-c", "echo $A"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut rotate = site.mentiko(&["secret", "rotate", "A"]);
        let launches = std::thread::scope(|scope| {
            let value = format!("v{}", round + 1);
            let rotation = scope.spawn(move || output_with_input(&mut rotate, value.as_bytes()));
            // So that the launches meet the moment at which the vault is replaced.
            std::thread::sleep(Duration::from_micros(500 * (round % 20) * (1 + round / 40)));
            let launches = [spawn("one"), spawn("two")].map(|child| child.wait_with_output().unwrap());
            assert!(rotation.join().unwrap().status.success());
            launches
        });
        let [one, two] = launches.map(|output| {
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout).trim().to_owned()
        });
        assert_eq!(one, two, "run {run}");
        gets(&site, "one", Some(&run), &one);
        both[usize::from(one == format!("v{}", round + 1))] += 1;
    }
}

/// A first launch in run `r` that opened the vault and then has to wait, while this happens.
fn while_a_launch_waits(site: &Site, happens: impl FnOnce(&Instance, &Runs, &RunsLock)) -> String {
    let instance = Instance::open(site.path()).unwrap();
    let runs = Runs::open(&instance).unwrap();
    let lock = runs.lock().unwrap();
    let mut command = launch(site, "one", Some("r"));
    let child = command.args(["sh", "-c", "echo $A"]).stdout(Stdio::piped()).spawn().unwrap();
    // `7: -> FLOCK ADVISORY WRITE PID ...`: it waits for that lock (proc_locks(5)).
    let waits = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1..3) == Some(&["->", "FLOCK"]) && words[5] == child.id().to_string()
    };
    let start = Instant::now();
    while !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(2));
    }
    happens(&instance, &runs, &lock);
    drop(lock);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    text(&output.stdout).trim().to_owned()
}

#[test]
fn a_launch_that_had_to_wait_looks_again() {
    let site = site();
    // Another first launch of the run was faster.
    let value = while_a_launch_waits(&site, |instance, runs, lock| {
        let arena = Arena::new().unwrap();
        let vault = Vault::open(instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
        let mut pins = Pins::new("other".parse().unwrap(), 1_772_874_902);
        pins.add(&"B".parse().unwrap(), 1);
        let run = "r".parse().unwrap();
        runs.replace(lock, &run, &vault.seal_pins(&run, &pins).unwrap()).unwrap();
    });
    assert_eq!(value, "v1");
    let holds = |site: &Site| {
        let listed = json_of(site, "run list --json");
        (listed[0]["chain"].clone(), listed[0]["versions"].clone())
    };
    assert_eq!(holds(&site), (json!("other"), json!({"A": 1, "B": 1})));
    does(&site, "run end r", "");
    // What it found was rotated and retired before it could hold it.
    let value = while_a_launch_waits(&site, |instance, _, _| {
        does(&site, "secret rotate A", "v2");
        let arena = Arena::new().unwrap();
        let key = instance.key.read(None, &arena).unwrap();
        let lock = WriteLock::take(instance).unwrap();
        let vault = Vault::open(instance, key, &arena).unwrap();
        let mut contents = vault.read_all().unwrap();
        contents.get_mut(&"A".parse().unwrap()).unwrap().versions.remove(0);
        vault.replace(&lock, &contents).unwrap();
    });
    assert_eq!(value, "v2");
    assert_eq!(holds(&site), (json!("c"), json!({"A": 2})));
    gets(&site, "two", Some("r"), "v2");
    let record = site.accesses().into_iter().rev().nth(1).unwrap();
    assert_eq!((record["version"].as_u64(), record["generation"].as_u64()), (Some(2), Some(5)));
}

#[test]
fn fifty_rotations_disturb_no_launch() {
    let site = site();
    let (next, failures) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    let start = Instant::now();
    let printed: std::sync::Mutex<BTreeMap<u64, String>> = std::sync::Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 500 {
                        break;
                    }
                    // Every second one in one of 50 runs, which others join later.
                    let run = (number % 2 == 0).then(|| format!("r{}", number / 20));
                    let output =
                        launch(&site, "one", run.as_deref()).args(["sh", "-c", "echo $$ $A"]).output().unwrap();
                    let line = text(&output.stdout);
                    match line.trim().split_once(' ').filter(|_| output.status.success()) {
                        Some((pid, value)) => {
                            drop(printed.lock().unwrap().insert(pid.parse().unwrap(), value.to_owned()))
                        }
                        None => failures.lock().unwrap().push(text(&output.stderr)),
                    }
                }
            });
        }
        for version in 2..=51 {
            does(&site, "secret rotate A", &format!("v{version}"));
            // Spread over the launches, however fast the machine is.
            while next.load(Ordering::Relaxed) < (version - 1) * 9 {
                assert!(start.elapsed() < Duration::from_secs(300));
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    assert_eq!(*failures.lock().unwrap(), [""; 0]);
    let log = site.log();
    // Which version was current in which generation of the vault.
    let is_change = |record: &&Value| {
        record["secret"] == "A" && ["secret.set", "secret.rotate"].contains(&record["event"].as_str().unwrap())
    };
    let current: BTreeMap<u64, u64> =
        log.iter().filter(is_change).map(|record| (number(record, "generation"), number(record, "version"))).collect();
    assert_eq!(current.len(), 51);
    let printed = printed.into_inner().unwrap();
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    let (mut fresh, mut pinned, mut seen) = (0, 0, 0);
    for record in log.iter().filter(|record| record["event"] == "secret.access") {
        let (version, generation) = (number(record, "version"), number(record, "generation"));
        let now = *current.range(..=generation).next_back().unwrap().1;
        let run = record["run"].as_str().unwrap();
        match held.get(run) {
            // The first that is on record need not be the first that pinned, but all hold the same.
            Some(&first) => assert_eq!(version, first, "run {run}"),
            None => drop(held.insert(run.to_owned(), version)),
        }
        match version == now {
            true => fresh += 1,
            false => {
                assert!(run.starts_with('r') && version < now, "{record}");
                pinned += 1;
            }
        }
        // Two launches may have had one number, one after the other.
        seen += usize::from(printed.get(&number(record, "pid")).is_some_and(|value| *value == format!("v{version}")));
    }
    assert_eq!((fresh + pinned, log.iter().filter(|record| record["outcome"] == "denied").count()), (500, 0));
    assert!(seen >= 490, "the agents got what is on record: {seen}");
    assert!(fresh > 250 && pinned > 0, "{fresh} current, {pinned} held");
    site.verify();
}

fn number(record: &Value, field: &str) -> u64 {
    record[field].as_u64().unwrap()
}
