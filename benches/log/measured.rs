//! What one command costs, as seen from a small process of its own: a process counts the memory of
//! the one that started it, from before exec.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// The hidden argument that makes this program measure the command behind it.
pub(crate) const ARGUMENT: &str = "--measured";

/// Times are in seconds.
pub(crate) struct Cost {
    pub(crate) wall: f64,
    /// User and system, of all threads.
    pub(crate) cpu: f64,
    /// Peak resident memory.
    pub(crate) kib: u64,
    /// What the command printed.
    pub(crate) output: String,
}

pub(crate) fn measure(command: &Command) -> Cost {
    let mut measuring = Command::new(std::env::current_exe().unwrap());
    measuring.arg(ARGUMENT).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    let output = measuring.output().unwrap();
    let (printed, figures) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{command:?}: {printed}{figures}");
    let figures: Vec<f64> = figures.split_whitespace().map(|word| word.parse().unwrap()).collect();
    Cost { wall: figures[0], cpu: figures[1], kib: figures[2] as u64, output: printed }
}

/// Runs in the process of its own.
pub(crate) fn report(words: &[String]) -> ExitCode {
    let start = Instant::now();
    let status = match Command::new(&words[0]).args(&words[1..]).status() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("can't run {}: {error}", words[0]);
            return ExitCode::FAILURE;
        }
    };
    let wall = start.elapsed().as_secs_f64();
    let children = UsageWho::RUSAGE_CHILDREN;
    eprintln!("{wall} {} {}", cpu_time(children), getrusage(children).unwrap().max_rss());
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seconds, of user and system.
pub(crate) fn cpu_time(who: UsageWho) -> f64 {
    let usage = getrusage(who).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
