//! What a launch costs: whole-process times of `mentiko-exec ... -- true` against `true` alone and
//! `env true`, in turn within one run, on tmpfs and on disk, and with vaults of different sizes.
//!
//! `cargo bench --bench launch -- --static "$(packaging/build-static)"` prints the tables of
//! docs/performance.md; without, the last column is missing. Options: `--rounds N`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Vault, WriteLock};

const WRAPPER: &str = env!("CARGO_BIN_EXE_mentiko-exec");
const MENTIKO: &str = env!("CARGO_BIN_EXE_mentiko");
/// Secrets that the agent is granted.
const GRANTED: usize = 8;

/// One line of the table.
struct Row {
    place: &'static str,
    secrets: usize,
    options: &'static [&'static str],
    instance: PathBuf,
    /// Of `true`, `env true`, and `mentiko-exec ... -- true` with each of the programs.
    times: [Vec<Duration>; 4],
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let after = |name: &str| words.iter().position(|word| word == name).map(|at| words[at + 1].as_str());
    let rounds = after("--rounds").map_or(300, |rounds| rounds.parse().unwrap());
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // As installing does: what a linker has written lies in the page cache piece by piece, and takes longer to map.
    let installed = |(number, program): (usize, &str)| {
        let path = disk.path().join(format!("{number}"));
        std::fs::copy(program, &path).unwrap();
        path
    };
    let programs: Vec<PathBuf> =
        [Some(WRAPPER), after("--static")].into_iter().flatten().enumerate().map(installed).collect();
    let plain: &[&str] = &["--fence", "off"];
    let mut rows: Vec<Row> = [
        ("tmpfs", 10, plain, shm.path()),
        ("tmpfs", 1_000, plain, shm.path()),
        ("tmpfs", 100_000, plain, shm.path()),
        ("tmpfs", 10, &["--fence", "require"], shm.path()),
        ("tmpfs", 10, &["--fence", "off", "--supervise"], shm.path()),
        ("disk", 10, plain, disk.path()),
    ]
    .map(|(place, secrets, options, folder)| {
        let instance = site(&folder.join(format!("instance-{secrets}")), secrets);
        Row { place, secrets, options, instance, times: Default::default() }
    })
    .into();

    // All in turn within one round, so that what disturbs the machine disturbs all alike.
    for round in 0..rounds + 10 {
        for row in &mut rows {
            let launches = programs.iter().map(|program| launch(program, &row.instance, row.options));
            let commands = [bare(), through_env()].into_iter().chain(launches);
            for (command, times) in commands.zip(&mut row.times) {
                let time = time(command);
                // The first rounds fill the caches.
                if round >= 10 {
                    times.push(time);
                }
            }
        }
    }
    println!("{GRANTED} secrets granted; {rounds} rounds, each command once a round; medians.\n");
    println!(
        "| where | options | secrets in the vault | `true` | `env true` | `mentiko-exec ... true` | ratio to env | one static file | ratio to env |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in &mut rows {
        let medians = row.times.each_mut().map(|times| median(times));
        let [bare, env] = [medians[0], medians[1]].map(Option::unwrap);
        print!("| {} | {} | {} | {bare:.3} ms | {env:.3} ms |", row.place, row.options.join(" "), row.secrets);
        for ours in medians[2..].iter().flatten() {
            print!(" {ours:.3} ms | {:.2} |", ours / env);
        }
        println!();
    }
    println!("\n| secrets in the vault | peak resident memory of the wrapper | of the static file |");
    println!("|---|---|---|");
    for row in rows.iter().filter(|row| row.place == "tmpfs" && row.options == plain) {
        let peaks = programs.iter().map(|program| peak(launch(program, &row.instance, row.options)));
        println!("| {} | {} |", row.secrets, peaks.collect::<Vec<_>>().join(" | "));
    }
}

/// An instance whose chain `c` grants its agent the first secrets of a vault of this many.
fn site(folder: &Path, secrets: usize) -> PathBuf {
    if folder.exists() {
        return folder.to_owned();
    }
    let made = Command::new(MENTIKO).arg("init").arg(folder).stdout(Stdio::null()).status().unwrap();
    assert!(made.success());
    let instance = Instance::open(folder).unwrap();
    let arena = Arena::new().unwrap();
    let key = instance.key.read(None, &arena).unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    let vault = Vault::open(&instance, key, &arena).unwrap();
    let mut contents = vault.read_all().unwrap();
    let value = arena.alloc(48).unwrap();
    for number in 0..secrets {
        let name: SecretName = format!("SERVICE_{number:06}_API_KEY").parse().unwrap();
        let mut record = Vault::new_record(name.clone(), 1_700_000_000);
        value.fill(b'v');
        vault.add_version(&mut record, value, 1_700_000_000).unwrap();
        contents.insert(name, record);
    }
    vault.replace(&lock, &contents).unwrap();
    let granted: Vec<String> = (0..GRANTED).map(|number| format!("\"SERVICE_{number:06}_API_KEY\"")).collect();
    let definition = format!(r#"{{"secrets": [{0}], "agents": {{"a": [{0}]}}}}"#, granted.join(", "));
    std::fs::write(folder.join("chains/c.json"), definition).unwrap();
    folder.to_owned()
}

fn bare() -> Command {
    with_environment("/bin/true")
}

fn through_env() -> Command {
    let mut command = with_environment("/usr/bin/env");
    command.arg("/bin/true");
    command
}

fn launch(program: &Path, instance: &Path, options: &[&str]) -> Command {
    let mut command = with_environment(program);
    command.args(["--chain", "c", "--agent", "a", "--instance"]).arg(instance).args(options).args(["--", "/bin/true"]);
    // A warning that root's agents could undo their fence.
    command.stderr(Stdio::null());
    command
}

/// The environment of an ordinary login with a project's own variables, the same everywhere.
fn with_environment(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    for (name, value) in [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/home/user"),
        ("USER", "user"),
        ("LOGNAME", "user"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("TERM", "xterm-256color"),
        ("PWD", "/home/user/project"),
        ("SHLVL", "1"),
        ("EDITOR", "vim"),
        ("DISPLAY", ":0"),
        ("XDG_RUNTIME_DIR", "/run/user/1000"),
        ("NVM_DIR", "/home/user/.nvm"),
        ("PYENV_ROOT", "/home/user/.pyenv"),
        ("VIRTUAL_ENV", "/home/user/project/.venv"),
        ("DATABASE_URL", "postgres://localhost/app"),
        ("REDIS_URL", "redis://localhost"),
        ("LOG_LEVEL", "info"),
        ("APP_ENV", "production"),
        ("TZ", "UTC"),
    ] {
        command.env(name, value);
    }
    command
}

fn time(mut command: Command) -> Duration {
    let start = Instant::now();
    let status = command.status().unwrap();
    let time = start.elapsed();
    assert!(status.success());
    time
}

/// In milliseconds.
fn median(times: &mut [Duration]) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e3)
}

/// By GNU time, whose own memory is small: a process counts its parent's memory from before exec.
fn peak(launch: Command) -> String {
    let mut command = with_environment("/usr/bin/time");
    command.args(["-f", "%M"]).arg(launch.get_program()).args(launch.get_args());
    match command.output() {
        Ok(output) => format!("{} KiB", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => format!("not measured: GNU time can't be run ({error})"),
    }
}
