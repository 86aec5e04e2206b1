//! The access log while everything happens at once: 64 launches at a time, many of them killed, on a disk that is full
//! again and again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Site, chmod, is_root, text};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

const LAUNCHERS: usize = 64;
const TIME: Duration = Duration::from_secs(5);
/// How long the disk stays full, and how long it stays free.
const TURN: Duration = Duration::from_millis(250);

/// Both tests in one, for the limit is that of this whole process.
#[test]
fn no_agent_runs_without_its_record_whoever_dies_and_however_full_the_disk() {
    let site = Site::with_two_agents().unfenced();
    match Disk::small(&site) {
        Some(disk) => Crowd::new(&site, disk).run(),
        None => eprintln!("no small disk can be mounted here; a limit on the size of files has to do"),
    }
    let site = Site::with_two_agents().unfenced();
    let disk = Disk::Limited { audit: site.file("audit") };
    Crowd::new(&site, disk).run();
}

/// What holds the log, and can be full.
enum Disk {
    /// A tmpfs(5) in a mount namespace of its own, which is reached through the process that keeps it.
    Small { audit: PathBuf, keeper: Child },
    /// RLIMIT_FSIZE: files can't grow past a size, which is that of the log at this moment.
    Limited { audit: PathBuf },
}

impl Disk {
    /// Needs no privileges where user namespaces are allowed.
    fn small(site: &Site) -> Option<Self> {
        let own = if is_root() { "-m" } else { "-Urm" };
        let script = r#"mount -t tmpfs -o size=4m,mode=700 mentiko "$1" && echo mounted && exec cat"#;
        let mut keeper = Command::new("unshare")
            .args([own, "--", "sh", "-c", script, "sh"])
            .arg(site.file("audit"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "mounted\n" {
            keeper.wait().unwrap();
            return None;
        }
        let audit = PathBuf::from(format!("/proc/{}/root{}", keeper.id(), site.file("audit").display()));
        for entry in std::fs::read_dir(site.file("audit")).unwrap() {
            let entry = entry.unwrap();
            let copy = audit.join(entry.file_name());
            std::fs::copy(entry.path(), &copy).unwrap();
            chmod(&copy, 0o600);
        }
        let path = site.file("instance.json");
        let mut instance: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        instance["audit"] = audit.to_str().unwrap().into();
        std::fs::write(&path, instance.to_string()).unwrap();
        Some(Self::Small { audit, keeper })
    }

    fn audit(&self) -> &PathBuf {
        let (Self::Small { audit, .. } | Self::Limited { audit }) = self;
        audit
    }

    fn segments(&self) -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(self.audit()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
    }

    fn fill(&self) {
        match self {
            Self::Small { audit, .. } => {
                let mut filler = std::fs::File::create(audit.join("filler")).unwrap();
                while filler.write(&[0; 4096]).is_ok() {}
            }
            Self::Limited { .. } => {
                let size = std::fs::metadata(self.segments().last().unwrap()).unwrap().len();
                let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
                // A record more, and a part of one.
                setrlimit(Resource::RLIMIT_FSIZE, size + 1000, hard).unwrap();
            }
        }
    }

    fn free(&self) {
        match self {
            Self::Small { audit, .. } => std::fs::remove_file(audit.join("filler")).unwrap(),
            Self::Limited { .. } => {
                let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
                setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Small { keeper, .. } = self {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// How one launch came out.
struct Launched {
    run: String,
    killed: bool,
    supervised: bool,
    output: Output,
}

struct Crowd<'s> {
    site: &'s Site,
    disk: Disk,
    /// An agent that ran has made a folder in here, which is on another disk.
    markers: tempfile::TempDir,
    over: AtomicBool,
    all: Mutex<Vec<Launched>>,
}

impl<'s> Crowd<'s> {
    fn new(site: &'s Site, disk: Disk) -> Self {
        let crowd = Self {
            site,
            disk,
            markers: tempfile::tempdir().unwrap(),
            over: AtomicBool::new(false),
            all: Mutex::default(),
        };
        // That limit is one on the memory of secrets too, which is not what shall fail here.
        let log = crowd.disk.segments().pop_last().unwrap();
        while matches!(crowd.disk, Disk::Limited { .. }) && std::fs::metadata(&log).unwrap().len() < 20_000 {
            let run = format!("before-{}", crowd.ran().len());
            assert!(crowd.launch(&run, false).status().unwrap().success());
        }
        crowd
    }

    fn launch(&self, run: &str, supervised: bool) -> Command {
        let launch = self.site.exec("c", "one");
        // The signal that tells of the limit would end the wrapper before it can say why.
        let mut command = Command::new("env");
        command.arg("--ignore-signal=XFSZ").arg(launch.get_program()).args(launch.get_args());
        command.args(supervised.then_some("--supervise")).args(["--run-id", run, "--", "mkdir"]);
        command.arg(self.markers.path().join(run)).env("MENTIKO_INSTANCE", self.site.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self) {
        std::thread::scope(|scope| {
            for launcher in 0..LAUNCHERS {
                scope.spawn(move || self.keep_launching(launcher));
            }
            let start = Instant::now();
            while start.elapsed() < TIME {
                std::thread::sleep(TURN);
                self.disk.fill();
                std::thread::sleep(TURN);
                self.disk.free();
            }
            self.over.store(true, Ordering::Relaxed);
        });
        // Agents whose supervisor was killed are on their own.
        std::thread::sleep(Duration::from_secs(1));
        for number in 0..LAUNCHERS {
            let output = self.launch(&format!("after-{number}"), false).output().unwrap();
            assert!(output.status.success(), "the disk is free: {}", text(&output.stderr));
        }
        // In this order: whoever has run by now must be on record by then.
        let ran = self.ran();
        let granted = self.granted();
        self.site.verify();
        self.check(&ran, &granted);
    }

    /// Every third one is killed, at a moment somewhere in its life.
    fn keep_launching(&self, launcher: usize) {
        let mut life = Duration::from_millis(50);
        let supervised = launcher % 4 == 3;
        let mut dice = launcher as u64 + 1;
        for number in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let run = format!("launcher-{launcher}-{number}");
            let start = Instant::now();
            let mut child = self.launch(&run, supervised).spawn().unwrap();
            let killed = number % 3 == launcher % 3;
            if killed {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                std::thread::sleep(life.mul_f64((dice >> 33) as f64 / f64::from(1u32 << 31) * 1.2));
                child.kill().unwrap();
            }
            let output = child.wait_with_output().unwrap();
            if !killed {
                life = start.elapsed();
            }
            self.all.lock().unwrap().push(Launched { run, killed, supervised, output });
        }
    }

    fn ran(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.markers.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The runs that were granted their secret, and of each whether that was taken back.
    fn granted(&self) -> BTreeMap<String, bool> {
        let mut granted = BTreeMap::new();
        for path in self.disk.segments() {
            let text = std::fs::read(path).unwrap();
            // What a dead writer left is no record.
            let lines = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
            for record in lines {
                let run = record["run"].as_str().unwrap_or_default().to_owned();
                if record["outcome"] == "granted" {
                    assert_eq!(granted.insert(run, false), None, "recorded twice");
                } else if record["event"] == "launch.failed" {
                    granted.insert(run, true);
                }
            }
        }
        granted
    }

    fn check(&self, ran: &BTreeSet<String>, granted: &BTreeMap<String, bool>) {
        for run in ran {
            assert_eq!(granted.get(run), Some(&false), "{run} ran, and that is not on record");
        }
        let all = self.all.lock().unwrap();
        let (mut refused, mut cut_short) = (0, 0);
        for launched in all.iter() {
            let (run, complaint) = (&launched.run, text(&launched.output.stderr));
            match (ran.contains(run), launched.killed) {
                // Where the end of a supervised agent can't be recorded, that is said.
                (true, false) => {
                    let is_fine = launched.output.status.success() && complaint.is_empty();
                    assert!(is_fine || launched.supervised, "{run}: {complaint}");
                }
                (false, false) => {
                    refused += 1;
                    assert_eq!(launched.output.status.code(), Some(125), "{run}: {complaint}");
                    assert_eq!(complaint.lines().count(), 1, "{run}: {complaint}");
                    assert!(complaint.contains("access log: can't "), "{run}: {complaint}");
                    assert_ne!(granted.get(run), Some(&false), "{run} never ran, and the log says that it did");
                }
                (false, true) => cut_short += 1,
                (true, true) => {}
            }
        }
        let left = granted.keys().filter(|run| !ran.contains(*run)).count();
        println!(
            "{} launches: {} ran, {refused} refused, {cut_short} killed before, {left} of them with their record",
            all.len(),
            ran.len()
        );
        // All of it happened, or this test shows nothing.
        assert!(ran.len() > 100 && refused > 5 && cut_short > 5, "{} {refused} {cut_short}", ran.len());
    }
}
