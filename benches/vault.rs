//! What a change of the vault costs: whole-process times of `mentiko secret set NAME` against a
//! floor, in turn within one run, on tmpfs and on disk, and with vaults of different sizes. The
//! floor starts and ends a process (`true`) and writes as many bytes as the vault has in the same
//! way: to a new file, synced, renamed, the folder synced, and a line appended to a log and synced.
//!
//! `cargo bench --bench vault` prints the table of docs/performance.md. Options: `--rounds N`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Vault, WriteLock};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

const MENTIKO: &str = env!("CARGO_BIN_EXE_mentiko");
/// Of each value, in bytes.
const VALUE: usize = 48;
/// Of a line of the log, about.
const LINE: usize = 500;

/// One line of the table.
struct Row {
    place: &'static str,
    secrets: usize,
    instance: PathBuf,
    floor: Vec<Duration>,
    set: Vec<Duration>,
    /// Of `set`, user's and system's: what the machine's other work does not change.
    processor: Vec<Duration>,
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let rounds = words.iter().position(|word| word == "--rounds").map_or(100, |at| words[at + 1].parse().unwrap());
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let places = [("tmpfs", shm.path()), ("disk", disk.path())];
    let mut rows: Vec<Row> = places
        .into_iter()
        .flat_map(|(place, folder)| [10, 1_000, 10_000].map(|secrets| (place, folder, secrets)))
        .map(|(place, folder, secrets)| {
            let instance = site(&folder.join(secrets.to_string()), secrets);
            Row { place, secrets, instance, floor: Vec::new(), set: Vec::new(), processor: Vec::new() }
        })
        .collect();

    // All in turn within one round, so that what disturbs the machine disturbs all alike.
    for round in 0..rounds + 3 {
        for row in &mut rows {
            let floor = floor(&row.instance);
            let before = processor_time();
            let set = set(&row.instance);
            let processor = processor_time() - before;
            // The first rounds fill the caches.
            if round >= 3 {
                row.floor.push(floor);
                row.set.push(set);
                row.processor.push(processor);
            }
        }
    }
    println!("{rounds} rounds, each once a round; medians.\n");
    println!("| where | secrets in the vault | its size | floor | `mentiko secret set` | ratio | its processor time |");
    println!("|---|---|---|---|---|---|---|");
    for row in &mut rows {
        let size = vault(&row.instance).len() / 1024;
        let [floor, set, processor] = [&mut row.floor, &mut row.set, &mut row.processor].map(|times| median(times));
        println!(
            "| {} | {} | {size} KiB | {floor:.1} ms | {set:.1} ms | {:.1} | {processor:.1} ms |",
            row.place,
            row.secrets,
            set / floor
        );
    }
}

/// An instance with a vault of this many secrets.
fn site(folder: &Path, secrets: usize) -> PathBuf {
    let made = Command::new(MENTIKO).arg("init").arg(folder).stdout(Stdio::null()).status().unwrap();
    assert!(made.success());
    let instance = Instance::open(folder).unwrap();
    let arena = Arena::new().unwrap();
    let key = instance.key.read(None, &arena).unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    let vault = Vault::open(&instance, key, &arena).unwrap();
    let mut contents = vault.read_all().unwrap();
    let value = arena.alloc(VALUE).unwrap();
    for number in 0..secrets {
        let name: SecretName = format!("SERVICE_{number:06}_API_KEY").parse().unwrap();
        let mut record = Vault::new_record(name.clone(), 1_700_000_000);
        value.fill(b'v');
        vault.add_version(&mut record, value, 1_700_000_000).unwrap();
        contents.insert(name, record);
    }
    vault.replace(&lock, &contents).unwrap();
    std::fs::write(folder.join("value"), [b'w'; VALUE]).unwrap();
    std::fs::create_dir(folder.join("floor")).unwrap();
    folder.to_owned()
}

fn vault(instance: &Path) -> Vec<u8> {
    std::fs::read(instance.join("vault")).unwrap()
}

/// A new version of a secret that is there: what a rotation does, too.
fn set(instance: &Path) -> Duration {
    let mut command = Command::new(MENTIKO);
    command.args(["secret", "set", "SERVICE_000007_API_KEY", "--instance"]).arg(instance);
    command.stdin(File::open(instance.join("value")).unwrap()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    let time = start.elapsed();
    assert!(status.success());
    time
}

fn floor(instance: &Path) -> Duration {
    let bytes = vault(instance);
    let folder = instance.join("floor");
    let (temporary, target) = (folder.join("vault.tmp"), folder.join("vault"));
    let start = Instant::now();
    assert!(Command::new("/bin/true").status().unwrap().success());
    let mut file = File::options().write(true).create_new(true).open(&temporary).unwrap();
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
    std::fs::rename(&temporary, &target).unwrap();
    File::open(&folder).unwrap().sync_all().unwrap();
    let mut log = File::options().append(true).create(true).open(folder.join("log")).unwrap();
    log.write_all(&[b'l'; LINE]).unwrap();
    log.sync_data().unwrap();
    start.elapsed()
}

/// Of all children so far.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap();
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// In milliseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
