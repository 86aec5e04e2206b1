//! What masking costs: text through `mentiko-exec --mask -- cat FILE` against `cat FILE | cat`, in
//! turn within one run, 8 values in the vault and none in the text.
//!
//! `cargo bench --bench mask` prints the table of docs/performance.md. Options: `--mib N` (1024).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const WRAPPER: &str = env!("CARGO_BIN_EXE_mentiko-exec");
const MENTIKO: &str = env!("CARGO_BIN_EXE_mentiko");

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let mib: usize = words.iter().position(|word| word == "--mib").map_or(1024, |at| words[at + 1].parse().unwrap());
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let (instance, text) = (folder.path().join("instance"), folder.path().join("text"));
    prepare(&instance);
    write_text(&text, mib);

    let plain = format!("cat '{}' | cat > /dev/null", text.display());
    let masked = format!(
        "'{WRAPPER}' --instance '{}' --chain c --agent a --fence off --mask -- cat '{}' > /dev/null",
        instance.display(),
        text.display()
    );
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..6 {
        for (command, times) in [&plain, &masked].into_iter().zip(&mut times) {
            let start = Instant::now();
            assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let [plain, masked] = times.map(|mut times| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("{mib} MiB of text, 8 values of 40 bytes; medians of 5.\n");
    println!("| `cat FILE \\| cat` | `mentiko-exec --mask -- cat FILE` | throughput, ratio |");
    println!("|---|---|---|");
    println!("| {plain:.2} s | {masked:.2} s | {:.2} |", plain / masked);
}

fn prepare(instance: &Path) {
    assert!(Command::new(MENTIKO).arg("init").arg(instance).stdout(Stdio::null()).status().unwrap().success());
    let names: Vec<String> = (0..8).map(|number| format!("KEY_{number}")).collect();
    for (at, name) in names.iter().enumerate() {
        let value: String =
            (0..40).map(|byte| char::from(b'!' + ((at * 31 + byte * 17 + byte * byte) % 90) as u8)).collect();
        let mut child = Command::new(MENTIKO)
            .args(["secret", "set", name, "--instance"])
            .arg(instance)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    let definition = format!(r#"{{"secrets": ["{}"]}}"#, names.join("\", \""));
    std::fs::write(instance.join("chains/c.json"), definition).unwrap();
}

/// Lines of numbers and words.
fn write_text(path: &Path, mib: usize) {
    let line: String = (0..200).map(|number| format!("{number} the quick brown fox {} ", number * 7919)).collect();
    let block = (line + "\n").repeat(256);
    let mut file = std::fs::File::create(path).unwrap();
    let mut left = mib << 20;
    while left > 0 {
        let length = left.min(block.len());
        file.write_all(&block.as_bytes()[..length]).unwrap();
        left -= length;
    }
}
