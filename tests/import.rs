//! `mentiko secret import`: files and variables become secrets, in one write, and nothing else
//! does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Site, chmod, is_root, text};

const ENV: &str = "\
# keys of the pipeline
export OPENAI_API_KEY=sk-of-openai-4711
SLACK_WEBHOOK=\"https://hooks.example/a b\" # quoted
STRIPE='pi$$a-and-#hash'
";

fn import(site: &Site, words: &[&str]) -> Output {
    site.mentiko(&["secret", "import"]).args(words).output().unwrap()
}

fn write(path: &Path, content: &str) -> String {
    std::fs::write(path, content).unwrap();
    chmod(path, 0o600);
    path.to_str().unwrap().to_owned()
}

/// The value that a launch gets.
fn value(site: &Site, name: &str) -> String {
    site.chain("all", &format!(r#"{{"secrets": ["{name}"], "agents": {{"a": {{"env": {{"V": "{name}"}}}}}}}}"#));
    let output = site.exec("all", "a").args(["--fence", "off", "--", "printenv", "V"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).strip_suffix('\n').unwrap().to_owned()
}

fn generation(site: &Site) -> u64 {
    site.log().last().unwrap()["generation"].as_u64().unwrap()
}

#[test]
fn a_dotenv_file_is_shown_and_stored_in_one_write() {
    let site = Site::new();
    site.set("OPENAI_API_KEY", "an-older-value");
    let before = generation(&site);
    let file = write(&site.file(".env"), ENV);
    let options = ["--yes", "--scope", "pipeline", "--rotate-every", "30d", "--note", "from .env"];
    let output = import(&site, &[&[file.as_str()], &options[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(rows[1], ["OPENAI_API_KEY", "17", "version", "2"]);
    assert_eq!(rows[2], ["SLACK_WEBHOOK", "25", "new"]);
    assert_eq!(rows[3], ["STRIPE", "15", "new"]);
    assert!(shown.contains("stored 3 secrets: 2 new, 1 as new versions"), "{shown}");
    for part in ["4711", "hooks.example", "pi$$a"] {
        assert!(!shown.contains(part) && !text(&output.stderr).contains(part));
    }
    assert!(Path::new(&file).exists(), "nothing is removed unasked");
    assert!(text(&output.stderr).contains("still holds the values"), "{}", text(&output.stderr));

    let records: Vec<_> = site.log().into_iter().filter(|record| record["generation"] == before + 1).collect();
    let names: Vec<&str> = records.iter().map(|record| record["secret"].as_str().unwrap()).collect();
    assert_eq!(names, ["OPENAI_API_KEY", "SLACK_WEBHOOK", "STRIPE"]);
    assert!(records.iter().all(|record| record["event"] == "secret.set"));
    site.verify();
    let shown = site.mentiko(&["secret", "show", "STRIPE", "--json"]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (&shown["scope"][0], &shown["rotate_every"], &shown["note"]),
        (&"pipeline".into(), &"30d".into(), &"from .env".into())
    );
    site.mentiko(&["secret", "scope", "STRIPE", "all"]).output().unwrap();
    assert_eq!(value(&site, "STRIPE"), "pi$$a-and-#hash");
}

#[test]
fn json_and_variables_are_taken_too() {
    let site = Site::new();
    let file = write(&site.file("keys.json"), r#"{"slack/marketing": "xoxb-\"quoted\"", "B": "value-of-b"}"#);
    let output = import(&site, &[&file, "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(value(&site, "slack/marketing"), "xoxb-\"quoted\"");

    let mut command = site.mentiko(&["secret", "import", "--yes", "--from-env", "FROM_SHELL", "NOT_THERE"]);
    let output = command.env("FROM_SHELL", "value-of-the-shell").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "one of them is not there");
    assert!(text(&output.stdout).contains("refused: there is no such variable"));
    assert_eq!(value(&site, "FROM_SHELL"), "value-of-the-shell");
}

#[test]
fn without_a_yes_nothing_is_stored() {
    let site = Site::new();
    let file = write(&site.file(".env"), ENV);
    let (vault, records) = (std::fs::read(site.file("vault")).unwrap(), site.log().len());
    let output = import(&site, &[&file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("OPENAI_API_KEY"), "it is shown all the same");
    assert!(text(&output.stderr).contains("say --yes"));
    assert_eq!((std::fs::read(site.file("vault")).unwrap(), site.log().len()), (vault, records));
}

#[test]
fn on_a_terminal_both_questions_are_asked() {
    let site = Site::new();
    let answered = |answers: &str| {
        let file = write(&site.file(".env"), ENV);
        let line = format!("'{}' secret import '{file}'", env!("CARGO_BIN_EXE_mentiko"));
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]).env("MENTIKO_INSTANCE", site.path());
        let output = common::output_with_input(&mut terminal, answers.as_bytes());
        (output.status.code(), text(&output.stdout), Path::new(&file).exists())
    };
    let (status, shown, is_left) = answered("n\n");
    assert!(shown.contains("Store 3 secrets? [y/N]") && !shown.contains("Remove"), "{shown}");
    assert_eq!((status, is_left), (Some(1), true));
    let (status, shown, is_left) = answered("y\nn\n");
    assert!(shown.contains("stored 3 secrets: 3 new") && shown.contains(".env? [y/N]"), "{shown}");
    assert_eq!((status, is_left), (Some(0), true));
    let (status, shown, is_left) = answered("y\ny\n");
    assert!(shown.contains("3 as new versions"), "{shown}");
    assert_eq!((status, is_left), (Some(0), false));
}

#[test]
fn what_is_refused_is_named_and_keeps_the_file() {
    let site = Site::new();
    let long = "x".repeat(131_001);
    let lines = format!(
        "GOOD=a-good-value\nPATH=/evil\nEMPTY=\nLONG={long}\nEXPANDED=\"a$HOME-b\"\nTWICE=one-value\nTWICE=other-value\n\
         _UNDER=value-of-under\nBLANKS=some secret words\n"
    );
    let file = write(&site.file(".env"), &lines);
    let output = import(&site, &[&file, "--yes", "--remove"]);
    assert_eq!(output.status.code(), Some(1), "part of it was not stored");
    let shown = text(&output.stdout);
    for (name, reason) in [
        ("PATH", "it is the name of a variable that belongs to the system"),
        ("EMPTY", "the value is empty"),
        ("LONG", "the value is longer than 131000 bytes"),
        ("EXPANDED", "it holds a $"),
        ("TWICE", "it stands there twice"),
        ("_UNDER", "'_UNDER' is no name of a secret"),
        ("(after _UNDER)", "the line can't be read"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {shown}"));
        assert!(line.contains(&format!("refused: {reason}")), "{line}");
    }
    assert!(!shown.contains("secret words") && !text(&output.stderr).contains("secret words"));
    let listed = site.mentiko(&["secret", "list", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(Path::new(&file).exists(), "it holds what was not stored");

    let file = write(&site.file("n.json"), "{\"NUL\": \"a\\u0000b\", \"NUMBER\": 123456789}");
    let output = import(&site, &[&file, "--yes"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("holds a NUL byte") && shown.contains("the value is not a string"), "{shown}");
    assert!(!shown.contains("123456789") && text(&output.stderr).contains("nothing in it can be stored"));
    let broken = write(&site.file("broken.json"), "{\"A\": \"sk-value-in-a-broken-file\", sk-other}");
    let output = import(&site, &[&broken, "--yes"]);
    assert!(text(&output.stderr).contains("line 1, column 36: this is not JSON"), "{}", text(&output.stderr));
}

#[test]
fn ten_thousand_are_one_write() {
    let site = Site::new();
    let lines: String = (0..10_000).map(|number| format!("KEY_{number}=value-{number}-of-ten-thousand\n")).collect();
    let file = write(&site.file(".env"), &lines);
    let before = generation(&site);
    let output = import(&site, &[&file, "--yes", "--remove"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!Path::new(&file).exists());
    let log = site.log();
    let records: Vec<_> = log.iter().filter(|record| record["event"] == "secret.set").collect();
    assert_eq!(records.len(), 10_000);
    assert!(records.iter().all(|record| record["generation"] == before + 1), "one generation");
    site.verify();
    assert_eq!(value(&site, "KEY_4711"), "value-4711-of-ten-thousand");
}

#[test]
fn a_link_is_not_followed_when_the_file_is_removed() {
    let site = Site::new();
    let file = write(&site.file("real.env"), ENV);
    let link = site.file("link.env");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let output = import(&site, &[link.to_str().unwrap(), "--yes", "--remove"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(Path::new(&file).exists() && link.is_symlink());
    assert!(text(&output.stderr).contains("was left in place"), "{}", text(&output.stderr));
}

fn git(folder: &Path, words: &[&str]) {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(words);
    let output = git.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
}

#[test]
fn commits_that_hold_the_file_are_told() {
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q"]);
    let file = write(&folder.path().join(".env"), ENV);
    let told = |site: &Site| text(&import(site, &[&file, "--yes"]).stderr);
    assert!(!told(&site).contains("git"), "git does not know it");
    git(folder.path(), &["add", ".env"]);
    assert!(told(&site).contains("git rm --cached"));
    git(folder.path(), &["commit", "-qm", "keys"]);
    git(folder.path(), &["rm", "-q", "--cached", ".env"]);
    git(folder.path(), &["commit", "-qm", "no keys"]);
    let said = told(&site);
    assert!(said.contains("2 commits of its git repository hold") && said.contains("rotate the values"), "{said}");
    // Where git can't be asked, that is said.
    let mut command = site.mentiko(&["secret", "import", &file, "--yes"]);
    let output = command.env("PATH", "/nonexistent").output().unwrap();
    assert!(text(&output.stderr).contains("can't run git"), "{}", text(&output.stderr));
}

#[test]
fn a_file_that_others_could_read_is_told() {
    let site = Site::new();
    let file = write(&site.file(".env"), ENV);
    chmod(Path::new(&file), 0o644);
    assert!(text(&import(&site, &[&file, "--yes"]).stderr).contains("has mode 0644: others may have read it"));
    let output = import(&site, &[site.path().to_str().unwrap(), "--yes"]);
    assert!(text(&output.stderr).contains("is a folder"), "{}", text(&output.stderr));
}

/// After the file was read, and while the key command is waited for, no copy of a value is in
/// memory that can be read.
#[test]
fn the_parsers_leave_no_copy_of_a_value() {
    if !is_root() {
        return eprintln!("only root can read the memory of mentiko: not looked at");
    }
    let site = Site::new();
    let key = std::fs::read(site.file("instance.key")).unwrap();
    std::fs::write(site.file("key.raw"), key).unwrap();
    let gate = site.file("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let script = format!("cat '{}'; exec cat '{}'", gate.display(), site.file("key.raw").display());
    let path = site.file("instance.json");
    let mut configuration: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    configuration["key"] = serde_json::json!({"source": "command", "argv": ["/bin/sh", "-c", script]});
    std::fs::write(&path, configuration.to_string()).unwrap();

    let env: String = (0..50).map(|at| format!("K{at}='quartz-{at}-zebra-{at}-of-the-dotenv'\n")).collect();
    let json = r#"{"J": "quartz-json-zebra-\"escaped\"-\u00e9", "K": "quartz-json-zebra-borrowed"}"#;
    for (name, content) in [("m.env", env.as_str()), ("m.json", json)] {
        let file = write(&site.file(name), content);
        let mut command = site.mentiko(&["secret", "import", &file, "--yes"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for_child_of(child.id());
        let found = copies_in(child.id(), b"quartz-");
        drop(File::options().write(true).open(&gate).unwrap());
        assert!(child.wait().unwrap().success());
        assert_eq!(found, Vec::<String>::new(), "{name}");
    }
}

fn wait_for_child_of(pid: u32) {
    let start = Instant::now();
    let path = format!("/proc/{pid}/task/{pid}/children");
    while std::fs::read_to_string(&path).unwrap_or_default().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "the key command was not started");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn copies_in(pid: u32, needle: &[u8]) -> Vec<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let (mut found, mut searched) = (Vec::new(), 0);
    for line in maps.lines() {
        let (range, name) = (line.split(' ').next().unwrap(), line.rsplit(' ').next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|digits| u64::from_str_radix(digits, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        if line.contains(" rw") && memory.read_exact_at(&mut bytes, start).is_ok() {
            searched += 1;
            for window in bytes.windows(needle.len() + 6).filter(|window| window.starts_with(needle)) {
                found.push(format!("{name}: {}", String::from_utf8_lossy(window)));
            }
        }
    }
    assert!(searched > 3, "too little could be read: {maps}");
    found
}
