//! How many records a second go to the disk: from one process, and from many at once.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use mentiko_exec::audit::{Entry, Event, Log, Outcome};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs};

use crate::measured::median;
use crate::{MENTIKO, WRAPPER, generate};

/// The hidden argument that makes this program an appender to the instance behind it.
pub(crate) const ARGUMENT: &str = "--appender";
const TIME: Duration = Duration::from_secs(3);
const MANY: usize = 16;
const ROUNDS: usize = 5;

/// What the bare disk row appends: as long as a record.
const PLAIN: [u8; 560] = [b'x'; 560];

/// The rows of the table.
pub(crate) fn throughput() -> [String; 3] {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file_system = file_system(folder.path());
    let instance = folder.path().join("instance");
    generate::init(&instance);
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let rows = [
        row("records appended and synced", &|count| append(&instance, count)),
        row("texts as long, written and synced with neither lock nor chain", &|count| append(&plain, count)),
        row("launches of `true`", &|count| launch(&instance, count)),
    ]
    .map(|row| row.replace("DISK", &file_system));
    let verified = Command::new(MENTIKO).args(["audit", "verify", "--instance"]).arg(&instance).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    rows
}

/// One alone and many at once, in turn; the ratio is the median of those within one round.
fn row(what: &str, rate: &dyn Fn(usize) -> f64) -> String {
    let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(|_| [rate(1), rate(MANY)]).collect();
    let middle = |of: &dyn Fn(&[f64; 2]) -> f64| median(rounds.iter().map(of).collect());
    format!(
        "| {what}, a second, {MANY} processes at once, DISK | {:.0} | | one process | {:.0} | | {:.2} |",
        middle(&|round| round[1]),
        middle(&|round| round[0]),
        middle(&|round| round[1] / round[0])
    )
}

fn file_system(folder: &Path) -> String {
    let kind = statfs(folder).unwrap().filesystem_type();
    assert!(kind != TMPFS_MAGIC, "{} is on tmpfs, where a sync costs nothing: set CARGO_TARGET_DIR", folder.display());
    match kind {
        EXT4_SUPER_MAGIC => "ext4".into(),
        XFS_SUPER_MAGIC => "XFS".into(),
        BTRFS_SUPER_MAGIC => "Btrfs".into(),
        FsType(number) => format!("file system {number:#x}"),
    }
}

/// So many processes, each appending one record after the other; or plain text to a plain file.
fn append(to: &Path, count: usize) -> f64 {
    let records = || match to.is_dir() {
        true => generate::records_of(to),
        false => to.metadata().unwrap().len() / PLAIN.len() as u64,
    };
    let before = records();
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ARGUMENT).arg(to).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        (child, output)
    };
    let mut all: Vec<(Child, BufReader<_>)> = (0..count).map(start).collect();
    for (_, output) in &mut all {
        output.read_line(&mut String::new()).unwrap();
    }
    for (child, _) in &mut all {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let (mut appended, mut rate) = (0.0, 0.0);
    for (child, output) in &mut all {
        let mut figures = String::new();
        output.read_to_string(&mut figures).unwrap();
        let figures: Vec<f64> = figures.split_whitespace().map(|word| word.parse().unwrap()).collect();
        appended += figures[0];
        rate += figures[0] / figures[1];
        assert!(child.wait().unwrap().success());
    }
    assert_eq!((records() - before) as f64, appended, "each acknowledged record is there");
    rate
}

/// Runs in a process of its own.
pub(crate) fn appender(to: &Path) -> ExitCode {
    if to.is_file() {
        let mut file = OpenOptions::new().append(true).open(to).unwrap();
        repeat(|| {
            file.write_all(&PLAIN).unwrap();
            file.sync_data().unwrap();
        });
        return ExitCode::SUCCESS;
    }
    generate::with_vault(to, |instance, vault| {
        let log = Log::open(instance).unwrap();
        let entry = Entry {
            chain: Some("billing"),
            agent: Some("charger"),
            run: Some("019691f2-5c00-7c3e-8a51-3c61d7c0a9be"),
            secret: Some("STRIPE_API_KEY"),
            version: Some(1),
            generation: Some(vault.generation()),
            command: Some("node"),
            fence: Some("namespace"),
            memory: Some("secretmem"),
            ..Entry::new(Event::SECRET_ACCESS, Outcome::Granted)
        };
        repeat(|| log.append(&[entry], Some(&vault.log_key())).unwrap());
    });
    ExitCode::SUCCESS
}

/// Says that it is ready, waits for a line, works, and prints how many times in how many seconds.
fn repeat(mut work: impl FnMut()) {
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        work();
        count += 1;
    }
    println!("{count} {}", start.elapsed().as_secs_f64());
}

/// So many at once, each launching one agent after the other.
fn launch(instance: &Path, count: usize) -> f64 {
    let launches = || {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < TIME {
            let mut command = Command::new(WRAPPER);
            command.args(["--chain", "billing", "--agent", "charger", "--fence", "off", "--instance"]).arg(instance);
            assert!(command.args(["--", "/bin/true"]).status().unwrap().success());
            count += 1;
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..count).map(|_| scope.spawn(launches)).collect();
        all.into_iter().map(|each| each.join().unwrap()).sum()
    })
}
