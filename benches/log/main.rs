//! What the access log costs: questions, scans and proofs over a long log, each against what it
//! can be compared with in the same run, and how many records a second go to the disk.
//!
//! `cargo bench --bench log` prints the table of docs/performance.md. Options: `--records N`
//! (10000000: 7 GB), `--dir DIR` (where the log is made, kept, and found again). Needs ripgrep.
#![allow(clippy::type_complexity, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod appenders;
mod generate;
mod measured;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use hmac::{Hmac, KeyInit, Mac};
use measured::{Cost, cpu_time, measure, median};
use nix::sys::resource::UsageWho;
use sha2::{Digest, Sha256};

const WRAPPER: &str = env!("CARGO_BIN_EXE_mentiko-exec");
const MENTIKO: &str = env!("CARGO_BIN_EXE_mentiko");
const QUESTIONS: usize = 20;
const SCANS: usize = 5;
const PROOFS: usize = 3;
const STRIPE: &str = "STRIPE_API_KEY";
const NEEDLE: &str = r#""secret":"STRIPE_API_KEY""#;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let after = |name: &str| words.iter().position(|word| word == name).map(|at| &words[at + 1..]);
    if let Some(command) = after(measured::ARGUMENT) {
        return measured::report(command);
    }
    if let Some(instance) = after(appenders::ARGUMENT) {
        return appenders::appender(Path::new(&instance[0]));
    }
    if Command::new("rg").arg("--version").output().is_err() {
        eprintln!("this compares with ripgrep, which can't be run; install it with: sudo apt-get install ripgrep");
        return ExitCode::FAILURE;
    }
    let records = after("--records").map_or(10_000_000, |rest| rest[0].parse().unwrap());
    let passing = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = after("--dir").map_or(passing.path().to_owned(), |rest| PathBuf::from(&rest[0]));

    let start = Instant::now();
    let instance = generate::instance(&folder, records);
    let log = instance.join("audit");
    eprintln!("log of {records} records in {}: {:.1} s", log.display(), start.elapsed().as_secs_f64());
    // Into the page cache, all of it.
    let bytes: u64 = segments(&log).iter().map(|path| std::fs::read(path).unwrap().len() as u64).sum();

    let mut rows = questions(&instance);
    rows.extend(scans(&instance));
    rows.extend(proofs(&instance, records));
    rows.extend(appenders::throughput());
    println!(
        "{records} records, {:.2} GB, {} segments; medians. Peak memory is resident.\n",
        bytes as f64 / 1e9,
        segments(&log).len()
    );
    println!("| what | `mentiko` | peak memory | against | | peak memory | ratio |");
    println!("|---|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    ExitCode::SUCCESS
}

fn questions(instance: &Path) -> Vec<String> {
    let question = ["--secret", STRIPE, "--since", "2026-03-01", "--until", "2026-03-15"];
    let rows = [("the count", &["--count"][..]), ("the table", &[])].map(|(what, form)| {
        let command = query(instance, &[&question, form].concat());
        let costs: Vec<Cost> = (0..QUESTIONS).map(|_| measure(&command)).collect();
        let (time, kib) = summary(&costs);
        let found = costs[0].output.lines().count();
        assert!(found > 0 && (!form.is_empty() || found > 1));
        format!("| the Stripe question of two weeks, {what} | {:.2} ms | {kib} KiB | | | | |", time * 1e3)
    });
    rows.into()
}

/// Each against ripgrep's search for the same text in the same files, in turn.
fn scans(instance: &Path) -> Vec<String> {
    let ripgrep = |options: &[&str]| {
        let mut command = Command::new("rg");
        // No settings or ignored files of the place where this runs.
        command.args(["--no-config", "--no-ignore"]).args(options).arg(NEEDLE).arg(instance.join("audit"));
        command
    };
    let count =
        |output: &str| output.lines().map(|line| line.rsplit(':').next().unwrap().parse::<usize>().unwrap()).sum();
    let lines = |output: &str| output.lines().count();
    let ours = |form| query(instance, &["--secret", STRIPE, form]);
    [
        Comparison {
            what: "`--count`",
            against: "`rg -c`",
            ours: ours("--count"),
            theirs: ripgrep(&["-c"]),
            found: count,
        },
        Comparison {
            what: "`--count`",
            against: "`rg -c -j 1`",
            ours: ours("--count"),
            theirs: ripgrep(&["-c", "-j1"]),
            found: count,
        },
        Comparison {
            what: "`--json`",
            against: "`rg -IN`",
            ours: ours("--json"),
            theirs: ripgrep(&["-IN"]),
            found: lines,
        },
    ]
    .map(|each| each.row())
    .into()
}

/// Two commands that must find the same records.
struct Comparison {
    what: &'static str,
    against: &'static str,
    ours: Command,
    theirs: Command,
    /// How many, by what either printed.
    found: fn(&str) -> usize,
}

impl Comparison {
    fn row(&self) -> String {
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..SCANS {
            for (command, costs) in [&self.ours, &self.theirs].into_iter().zip(&mut costs) {
                costs.push(measure(command));
            }
        }
        let [found, by_ripgrep] = [0, 1].map(|at: usize| (self.found)(&costs[at][0].output));
        assert_eq!(found, by_ripgrep, "both find the same records");
        let [(our_time, our_kib), (their_time, their_kib)] = costs.map(|costs| summary(&costs));
        format!(
            "| all {found} records of the secret, {} | {our_time:.3} s | {our_kib} KiB | {} | {their_time:.3} s | {their_kib} KiB | {:.2} |",
            self.what,
            self.against,
            our_time / their_time
        )
    }
}

/// Against the hashing alone, by one thread of this process, in turn.
fn proofs(instance: &Path, records: u64) -> [String; 2] {
    let mut command = Command::new(MENTIKO);
    command.args(["audit", "verify", "--instance"]).arg(instance);
    let (mut costs, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..PROOFS {
        costs.push(measure(&command));
        floors.push(hashing(&instance.join("audit")));
    }
    assert!(costs[0].output.contains(&format!("{records} records")), "{}", costs[0].output);
    let (wall, kib) = summary(&costs);
    let cpu = median(costs.iter().map(|cost| cost.cpu).collect());
    let [floor_wall, floor_cpu] = [0, 1].map(|at| median(floors.iter().map(|floor| floor[at]).collect()));
    [("", wall, floor_wall), (" of processor time", cpu, floor_cpu)].map(|(what, time, floor)| {
        format!(
            "| `audit verify`, million records a second{what} | {:.2} | {kib} KiB | SHA-256 and HMAC-SHA256 alone, one thread | {:.2} | | {:.2} |",
            records as f64 / time / 1e6,
            records as f64 / floor / 1e6,
            floor / time
        )
    })
}

/// Seconds, and seconds of processor time, that it takes to hash each line and to compute its MAC,
/// once it is in memory.
fn hashing(log: &Path) -> [f64; 2] {
    let key = Hmac::<Sha256>::new(&[7; 64].into());
    let (mut wall, mut cpu, mut sink) = (0.0, 0.0, 0);
    for path in segments(log) {
        let mut file = File::open(path).unwrap();
        let mut text = Vec::new();
        while file.by_ref().take(8 << 20).read_to_end(&mut text).unwrap() > 0 {
            let whole = text.iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
            let lines: Vec<&[u8]> =
                text[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
            let (start, cpu_before) = (Instant::now(), cpu_time(UsageWho::RUSAGE_SELF));
            for line in lines {
                // Before `,"mac":"..."}`.
                let covered = &line[..line.len() - 74];
                let mut mac = key.clone();
                mac.update(covered);
                sink ^= mac.finalize().into_bytes()[0] ^ Sha256::digest(line)[0];
            }
            wall += start.elapsed().as_secs_f64();
            cpu += cpu_time(UsageWho::RUSAGE_SELF) - cpu_before;
            text.drain(..whole);
        }
    }
    std::hint::black_box(sink);
    [wall, cpu]
}

fn query(instance: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(MENTIKO);
    command.args(["audit", "query", "--instance"]).arg(instance).args(options);
    command
}

/// The median time and the highest peak of memory.
fn summary(costs: &[Cost]) -> (f64, u64) {
    let times = costs.iter().map(|cost| cost.wall).collect();
    (median(times), costs.iter().map(|cost| cost.kib).max().unwrap())
}

fn segments(log: &Path) -> Vec<PathBuf> {
    mentiko_exec::audit::segments(log).unwrap()
}
