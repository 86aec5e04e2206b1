//! What looking for values costs: `mentiko scan` against `rg -F -f` for the same patterns on the
//! same tree, in turn within one run; none of them is there.
//!
//! `cargo bench --bench scan` prints the table of docs/performance.md. Options: `--mib N` (512).
//! rg gets six forms of each of 40 values; `mentiko scan` looks for some more.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const MENTIKO: &str = env!("CARGO_BIN_EXE_mentiko");
const ROUNDS: usize = 7;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let mib: usize = words.iter().position(|word| word == "--mib").map_or(512, |at| words[at + 1].parse().unwrap());
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    println!("{mib} MiB of text, 40 values, none of them there; medians of {ROUNDS}.\n");
    println!("| files | values | `rg -F -f` | `mentiko scan` | speed, ratio |");
    println!("|---|---|---|---|---|");
    for (what, size) in [("64 KiB each", 64 << 10), ("32 MiB each", 32 << 20)] {
        let tree = folder.path().join("tree");
        write_tree(&tree, mib << 20, size);
        for (values, shortest) in [("40 bytes", 40), ("8 to 47 bytes", 8)] {
            let (rg, ours) = compare(folder.path(), &tree, shortest);
            println!("| {what} | {values} | {rg:.3} s | {ours:.3} s | {:.2} |", rg / ours);
        }
        std::fs::remove_dir_all(&tree).unwrap();
    }
}

fn compare(folder: &Path, tree: &Path, shortest: usize) -> (f64, f64) {
    let (instance, patterns) = (folder.join("instance"), folder.join("patterns"));
    let values: Vec<String> = (0..40).map(|at| value(at, if shortest == 40 { 40 } else { shortest + at })).collect();
    prepare(&instance, &values);
    let lines: String = values.iter().flat_map(|value| forms(value)).map(|form| form + "\n").collect();
    std::fs::write(&patterns, lines).unwrap();
    let mut rg = Command::new("rg");
    rg.args(["-uuu", "--no-config", "-F", "-f"]).arg(&patterns).arg(tree);
    let mut ours = Command::new(MENTIKO);
    ours.arg("scan").arg(tree).arg("--instance").arg(&instance);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..=ROUNDS {
        for (at, (command, expected)) in [(&mut rg, 1), (&mut ours, 0)].into_iter().enumerate() {
            let start = Instant::now();
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            times[at].push(start.elapsed().as_secs_f64());
            assert_eq!(status.code(), Some(expected), "nothing is there");
        }
    }
    std::fs::remove_dir_all(&instance).unwrap();
    let [rg, ours] = times.map(|mut times| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    (rg, ours)
}

/// A text that changes wildly with both numbers, of characters that some encodings escape.
fn value(number: usize, length: usize) -> String {
    let mut state = number as u64 * 7919 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_\"";
    (0..length).map(|_| char::from(letters[next() % letters.len()])).collect()
}

fn forms(value: &str) -> Vec<String> {
    let percent: String = value
        .bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    let mut forms = vec![value.to_owned(), percent, value.replace('"', "\\\"")];
    for offset in 0..3 {
        let padded = [&b"xx"[..offset], value.as_bytes()].concat();
        let first = (offset * 8).div_ceil(6);
        forms.push(base64(&padded)[first..].to_owned());
    }
    forms
}

/// Whole characters only.
fn base64(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| usize::from(bytes[at / 8] >> (7 - at % 8) & 1);
    (0..bytes.len() * 8 / 6)
        .map(|at| char::from(alphabet[(0..6).fold(0, |index, of| index << 1 | bit(at * 6 + of))]))
        .collect()
}

fn prepare(instance: &Path, values: &[String]) {
    assert!(Command::new(MENTIKO).arg("init").arg(instance).stdout(Stdio::null()).status().unwrap().success());
    let members: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, value)| format!("\"KEY_{at}\": \"{}\"", value.replace('"', "\\\"")))
        .collect();
    let file = instance.join("values.json");
    std::fs::write(&file, format!("{{{}}}", members.join(","))).unwrap();
    let mut import = Command::new(MENTIKO);
    import.args(["secret", "import", "--yes", "--remove", "--instance"]).arg(instance).arg(&file);
    assert!(import.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
}

/// Files of this size, of lines like those of logs and programs.
fn write_tree(tree: &Path, total: usize, size: usize) {
    let line = |number: usize| {
        format!(
            "2026-03-07T09:15:{:02}.{:06}Z INFO agent{} fetched https://api.example.com/v1/items/{}?page={} in {} ms\n\
             \x20   let result = client.get(&url).header(\"accept\", \"application/json\").send()?; // {}\n",
            number % 60,
            number * 7919 % 1_000_000,
            number % 17,
            number * 31,
            number % 13,
            number % 997,
            number * 65_537
        )
    };
    let block: String = (0..5000).map(line).collect();
    for number in 0..total / size {
        let folder = tree.join(format!("folder-{}", number % 64));
        std::fs::create_dir_all(&folder).unwrap();
        let mut file = std::fs::File::create(folder.join(format!("file-{number}.log"))).unwrap();
        let mut left = size;
        while left > 0 {
            let length = left.min(block.len());
            file.write_all(&block.as_bytes()[..length]).unwrap();
            left -= length;
        }
    }
}
