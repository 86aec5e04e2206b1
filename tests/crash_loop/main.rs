//! Commands killed at random moments, three at a time on one instance: the vault opens and holds what it may hold, the
//! log verifies and has whatever was acknowledged, and nothing hinders the next command. `tests/crash-loop` does it
//! 10,000 times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod model;
mod task;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use common::{Site, text};
use model::{Counts, Model};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::Value;
use task::{Dice, Kind};

/// How many go on at a time.
const LANES: u64 = 3;
/// After how many kills everything is looked at.
const BATCH: usize = 200;

#[test]
fn whatever_is_killed_the_vault_opens_and_the_log_verifies() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = usize::try_from(number("MENTIKO_CRASH_LOOP").unwrap_or(200)).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("MENTIKO_CRASH_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("seed {seed}");
    // The orphans of what is killed come to this process, which waits for them.
    set_child_subreaper(true).unwrap();
    let (memory, disk) = (Path::new("/dev/shm"), std::env::temp_dir());
    let tally = Tally::default();
    match tempfile::tempdir_in(memory) {
        Ok(_) => {
            Loop::below(memory, &tally).run(kills - kills / 10, seed);
            Loop::below(&disk, &tally).run(kills, seed + 1);
        }
        Err(error) => {
            eprintln!("nothing can be put into {} ({error}); all of it is done on disk", memory.display());
            Loop::below(&disk, &tally).run(kills, seed);
        }
    }
    tally.tell();
}

/// What happened, on all instances.
#[derive(Default)]
struct Tally {
    ends: Mutex<BTreeMap<Kind, Ends>>,
    counts: Mutex<Counts>,
}

/// How the commands of a kind ended.
#[derive(Default)]
struct Ends {
    killed: usize,
    /// Before the kill that was meant for them.
    before: usize,
    /// Let be.
    spared: usize,
}

impl Tally {
    fn killed(&self) -> usize {
        self.ends.lock().unwrap().values().map(|ends| ends.killed).sum()
    }

    /// As docs/reliability.md has it.
    fn tell(&self) {
        println!("\n| command | killed | ended before | spared |\n|---|---|---|---|");
        for (kind, Ends { killed, before, spared }) in &*self.ends.lock().unwrap() {
            println!("| {} | {killed} | {before} | {spared} |", kind.title());
        }
        println!("\n| what was left | |\n|---|---|");
        for (what, count) in &*self.counts.lock().unwrap() {
            println!("| {what} | {count} |");
        }
    }
}

/// One instance, and what was done to it.
struct Loop<'t> {
    tally: &'t Tally,
    site: Site,
    /// An agent that ran has made a file in here.
    markers: tempfile::TempDir,
    model: Mutex<Model>,
    /// How long each kind of command takes.
    lives: Mutex<BTreeMap<Kind, Duration>>,
    /// Held alone by what all others would fail beside.
    turn: RwLock<()>,
}

impl<'t> Loop<'t> {
    fn below(parent: &Path, tally: &'t Tally) -> Self {
        let site = Site::below(parent);
        site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": ["A"], "two": ["B"]}}"#);
        let markers = tempfile::tempdir_in(parent).unwrap();
        let this =
            Self { tally, site, markers, model: Mutex::default(), lives: Mutex::default(), turn: RwLock::default() };
        for secret in ["A", "B"] {
            this.store(Kind::Set, secret, &mut Dice::new(0), false);
        }
        this
    }

    /// Until so many were killed in all.
    fn run(&self, kills: usize, seed: u64) {
        let start = Instant::now();
        let mut checks = 0;
        while self.tally.killed() < kills {
            let goal = kills.min(self.tally.killed() + BATCH);
            std::thread::scope(|scope| {
                for lane in 0..LANES {
                    let mut dice = Dice::new(seed + 10_000 * checks + lane);
                    scope.spawn(move || {
                        while self.tally.killed() < goal {
                            self.one(&mut dice, checks);
                        }
                    });
                }
            });
            self.check();
            checks += 1;
        }
        println!("{}: looked at {checks} times, {} s", self.site.path().display(), start.elapsed().as_secs());
        let mut model = self.model.lock().unwrap();
        // What the last look at it did itself.
        model.compare(self.markers.path(), &self.site.file("audit"));
        for (what, count) in model.counts() {
            *self.tally.counts.lock().unwrap().entry(what).or_default() += count;
        }
    }

    /// Everything is at rest: looks at all of it.
    fn check(&self) {
        wait_for_orphans();
        for lock in ["vault.lock", "audit", "runs"] {
            File::open(self.site.file(lock)).unwrap().try_lock().unwrap_or_else(|error| panic!("{lock}: {error}"));
        }
        let mut model = self.model.lock().unwrap();
        model.compare(self.markers.path(), &self.site.file("audit"));
        for (secret, agent) in [("A", "one"), ("B", "two")] {
            let launch = self.site.exec("c", agent);
            model.settle(secret, &done(&launch, &["--", "printenv", secret]));
        }
        let mentiko = self.site.mentiko(&[]);
        for run in model.take_started() {
            done(&mentiko, &["run", "end", &run]);
        }
        drop(model);
        done(&mentiko, &["secret", "retire", "A"]);
        self.store(Kind::Set, "B", &mut Dice::new(0), false);
        done(&mentiko, &["audit", "verify"]);
        let runs: Value = serde_json::from_str(&done(&mentiko, &["run", "list", "--json"])).unwrap();
        assert!(runs.as_array().unwrap().iter().all(|run| run["state"] == "living"), "{runs}");
        self.assert_tidy();
    }

    /// Nothing that was begun and not ended is left.
    fn assert_tidy(&self) {
        let listed =
            Command::new("find").arg(self.site.path()).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
        for name in text(&listed.stdout).lines() {
            let known = ["instance.json", "instance.key", "vault", "vault.lock", "chains/c.json", "audit/synced"]
                .contains(&name);
            let is_log = name.starts_with("audit/access-") && name.ends_with(".jsonl");
            let is_run = name.starts_with("runs/") && name.ends_with(".run");
            assert!(known || is_log || is_run, "{name} is left over");
        }
    }
}

/// What a command says that must succeed, and must not wait for anybody.
fn done(command: &Command, arguments: &[&str]) -> String {
    let mut within = Command::new("timeout");
    within.arg("20").arg(command.get_program()).args(command.get_args()).args(arguments).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        within.env(name, value.unwrap());
    }
    let output = within.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {} {}", output.status, text(&output.stderr));
    text(&output.stdout).trim_end().to_owned()
}

/// What outlived the process that was killed ends by itself, and soon.
fn wait_for_orphans() {
    let start = Instant::now();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
            Ok(_) => {}
            Err(errno) => panic!("{errno}"),
        }
        assert!(start.elapsed() < Duration::from_secs(20), "a process is left");
    }
}
