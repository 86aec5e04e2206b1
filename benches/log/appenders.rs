//! How many records a second go to the disk: from one process, and from many at once.

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
const ROUNDS: usize = 3;

/// Records or launches a second.
pub(crate) struct Throughput {
    pub(crate) file_system: String,
    pub(crate) records: [f64; 2],
    pub(crate) launches: [f64; 2],
}

pub(crate) fn throughput() -> Throughput {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file_system = file_system(folder.path());
    let instance = folder.path().join("instance");
    generate::init(&instance);
    let in_turn = |each: &dyn Fn(usize) -> f64| {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (count, rates) in [1, MANY].into_iter().zip(&mut rates) {
                rates.push(each(count));
            }
        }
        rates.map(median)
    };
    let records = in_turn(&|count| append(&instance, count));
    let launches = in_turn(&|count| launch(&instance, count));
    let verified = Command::new(MENTIKO).args(["audit", "verify", "--instance"]).arg(&instance).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    Throughput { file_system, records, launches }
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

/// So many processes, each appending one record after the other.
fn append(instance: &Path, count: usize) -> f64 {
    let before = generate::records_of(instance);
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ARGUMENT).arg(instance).stdin(Stdio::piped()).stdout(Stdio::piped());
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
    assert_eq!((generate::records_of(instance) - before) as f64, appended, "each acknowledged record is there");
    rate
}

/// Runs in a process of its own: says that it is ready, waits for a line, appends, and prints how
/// many records in how many seconds.
pub(crate) fn appender(instance: &Path) -> ExitCode {
    generate::with_vault(instance, |instance, vault| {
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
            ..Entry::new(Event::SecretAccess, Outcome::Granted)
        };
        println!("ready");
        std::io::stdin().lock().read_line(&mut String::new()).unwrap();
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < TIME {
            log.append(&[entry], Some(vault.audit_key())).unwrap();
            count += 1;
        }
        println!("{count} {}", start.elapsed().as_secs_f64());
    });
    ExitCode::SUCCESS
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
