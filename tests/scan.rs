//! `mentiko scan`: values of the vault that stand somewhere in the clear are found, and never
//! printed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Site, chmod, is_root, output_with_input, text};
use serde_json::Value;

const PLAIN: &str = "sk-of-openai-4711-abcdef";
const ODD: &str = "p+ss/w\"rd%of&slack";

/// A vault with three values, and a folder to look through.
fn prepared() -> (Site, tempfile::TempDir) {
    let site = Site::new();
    site.set("OPENAI", PLAIN);
    site.set("slack/odd", ODD);
    site.set("SHORT", "1234567");
    (site, tempfile::tempdir().unwrap())
}

fn scan(site: &Site, words: &[&str]) -> Output {
    site.mentiko(&["scan"]).args(words).output().unwrap()
}

/// Scans and checks the status, and that no value is shown.
fn lines(site: &Site, words: &[&str], status: i32) -> Vec<String> {
    let output = scan(site, words);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    for value in [PLAIN, ODD, "of-openai", "w\"rd", "1234567"] {
        assert!(!out.contains(value) && !err.contains(value), "{out}{err}");
    }
    out.lines().map(str::to_owned).collect()
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a program of the system makes of the input.
fn piped(program: &str, words: &[&str], input: &[u8]) -> String {
    let output = output_with_input(Command::new(program).args(words), input);
    assert!(output.status.success());
    text(&output.stdout)
}

/// When a value has leaked: the old one is wiped from the vault, the others are looked for.
#[test]
fn a_value_that_was_wiped_in_an_emergency_does_not_hinder() {
    let (site, folder) = prepared();
    let log = write(folder.path(), "agent.log", format!("{PLAIN}\n{ODD}\nsk-of-openai-afterward\n"));
    let mut emergency = site.mentiko(&["secret", "rotate", "OPENAI", "--emergency"]);
    assert!(output_with_input(&mut emergency, b"sk-of-openai-afterward").status.success());
    let expected =
        [format!("{log}:2: slack/odd (version 1, current)"), format!("{log}:3: OPENAI (version 2, current)")];
    assert_eq!(lines(&site, &[&log], 1), expected);
}

#[test]
fn places_and_names_are_told_line_by_line() {
    let (site, folder) = prepared();
    let log =
        write(folder.path(), "sub/.hidden/agent.log", format!("one\ntwo {PLAIN} and {PLAIN}\nthree\n{ODD} {PLAIN}\n"));
    write(folder.path(), "clean.txt", "nothing of it\n".repeat(1000));
    let root = folder.path().to_str().unwrap();
    let expected = [
        format!("{log}:2: OPENAI (version 1, current)"),
        format!("{log}:4: OPENAI (version 1, current)"),
        format!("{log}:4: slack/odd (version 1, current)"),
    ];
    assert_eq!(lines(&site, &[root], 1), expected);
    assert_eq!(lines(&site, &[&log, "--json"], 1).len(), 3 * 12 + 2);
    let found: Value = serde_json::from_slice(&scan(&site, &[root, "--json"]).stdout).unwrap();
    let first = &found[0];
    assert_eq!((&first["path"], &first["line"], &first["offset"]), (&log.clone().into(), &2.into(), &8.into()));
    assert_eq!(
        (&first["secret"], &first["state"], &first["encoded"]),
        (&"OPENAI".into(), &"current".into(), &false.into())
    );

    assert_eq!(lines(&site, &[&write(folder.path(), "clean.txt", "none")], 0), [""; 0]);
    let short = text(&scan(&site, &[root]).stderr);
    assert!(short.contains("'SHORT' version 1 has less than 8 bytes and is not looked for"), "{short}");
    assert!(short.contains("3 places hold values of 2 secrets: rotate them"), "{short}");
}

#[test]
fn encodings_are_found_as_other_programs_write_them() {
    let (site, folder) = prepared();
    let json = "import sys, json; print(json.dumps({'x': sys.stdin.read()}))";
    let url = "import sys, urllib.parse; print('q=' + urllib.parse.quote(sys.stdin.read(), safe=''))";
    let mut made = vec![
        ("json", piped("python3", &["-c", json], ODD.as_bytes())),
        ("url", piped("python3", &["-c", url], ODD.as_bytes())),
    ];
    for (name, before) in [("base64-0", ""), ("base64-1", "x"), ("base64-2", "xy")] {
        made.push((name, piped("base64", &["-w0"], format!("{before}{ODD}").as_bytes())));
    }
    for (name, content) in made {
        assert!(!content.contains(ODD));
        let path = write(folder.path(), name, content);
        assert_eq!(lines(&site, &[&path], 1), [format!("{path}:1: slack/odd (version 1, current, encoded)")]);
    }
}

#[test]
fn other_data_is_told_by_its_offset_and_large_files_are_read_whole() {
    let (site, folder) = prepared();
    let mut bytes = vec![0u8; 700_000];
    bytes.extend_from_slice(PLAIN.as_bytes());
    bytes.extend(vec![b'x'; 300_000]);
    bytes.extend_from_slice(ODD.as_bytes());
    let path = write(folder.path(), "data.bin", &bytes);
    let expected = [
        format!("{path}:700000: OPENAI (version 1, current)"),
        format!("{path}:1000024: slack/odd (version 1, current)"),
    ];
    assert_eq!(lines(&site, &[&path], 1), expected);
}

#[test]
fn former_values_and_definitions_are_looked_at_too() {
    let (site, folder) = prepared();
    site.set("OPENAI", "sk-the-second-value-0815");
    let path = write(folder.path(), "old", PLAIN);
    assert_eq!(lines(&site, &[&path], 1), [format!("{path}:1: OPENAI (version 1, previous)")]);
    site.chain("c", &format!(r#"{{"secrets": ["OPENAI"], "prompt": "{PLAIN}"}}"#));
    let chains = site.file("chains");
    assert_eq!(lines(&site, &[chains.to_str().unwrap()], 1).len(), 1);
    // The instance itself holds no value in the clear.
    std::fs::remove_file(site.file("chains/c.json")).unwrap();
    assert_eq!(lines(&site, &[site.path().to_str().unwrap()], 0), [""; 0]);
}

#[test]
fn gitignore_is_respected_when_it_is_asked_for() {
    let (site, folder) = prepared();
    write(folder.path(), ".gitignore", "ignored/\n");
    write(folder.path(), "ignored/x", PLAIN);
    let root = folder.path().to_str().unwrap();
    assert_eq!(lines(&site, &[root], 1).len(), 1);
    assert_eq!(lines(&site, &[root, "--gitignore"], 0), [""; 0]);
}

#[test]
fn standard_input_and_pipes_are_read_and_links_in_folders_are_not_followed() {
    let (site, folder) = prepared();
    let output = output_with_input(&mut site.mentiko(&["scan", "-"]), format!("a\nb {PLAIN}\n").as_bytes());
    assert_eq!(text(&output.stdout), "/dev/stdin:2: OPENAI (version 1, current)\n");
    let path = write(folder.path(), "target", PLAIN);
    let link = folder.path().join("links/link");
    std::fs::create_dir(folder.path().join("links")).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    nix::unistd::mkfifo(&folder.path().join("links/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert_eq!(lines(&site, &[folder.path().join("links").to_str().unwrap()], 0), [""; 0]);
    assert_eq!(lines(&site, &[link.to_str().unwrap()], 1).len(), 1, "a link that is named is followed");
}

#[test]
fn what_can_not_be_looked_at_is_status_2_and_a_finding_is_1_all_the_same() {
    let (site, folder) = prepared();
    let root = folder.path().to_str().unwrap();
    let output = scan(&site, &[&format!("{root}/absent")]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("absent"), "{}", text(&output.stderr));
    let output = scan(&site, &[root, "--git"]);
    assert_eq!(output.status.code(), Some(2), "no repository");
    assert!(text(&output.stderr).contains("can't look into the git history"), "{}", text(&output.stderr));
    let found = write(folder.path(), "found", PLAIN);
    assert_eq!(lines(&site, &[&found, &format!("{root}/absent")], 1).len(), 1);
    assert_eq!(scan(&site, &[]).status.code(), Some(2), "usage");
    let mut other = site.mentiko(&["scan", root, "--instance", "/nonexistent"]);
    assert_eq!(other.output().unwrap().status.code(), Some(2), "no instance");
    if is_root() {
        return eprintln!("root can read every file: an unreadable one was not tried");
    }
    chmod(Path::new(&found), 0);
    let output = scan(&site, &[root]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("can't read"), "{}", text(&output.stderr));
}

fn git(folder: &Path, words: &[&str]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(words);
    let output = git.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

#[test]
fn the_history_of_a_repository_is_read_whole() {
    let (site, folder) = prepared();
    let root = folder.path();
    let commit = |words: &[&str]| {
        git(root, &["add", "-A"]);
        git(root, &[&["commit", "-qm"], words].concat());
        git(root, &["rev-parse", "HEAD"])
    };
    git(root, &["init", "-q", "-b", "main"]);
    // Its files would be found too, for they repeat the messages.
    git(root, &["config", "core.logAllRefUpdates", "false"]);
    write(root, "a file", format!("first\nkey = {PLAIN}\n"));
    let first = commit(&["one"]);
    write(root, "a file", "first\n");
    commit(&["two"]);
    // Another branch, packed; and a value in a message.
    git(root, &["checkout", "-qb", "side"]);
    write(root, "data", piped("base64", &["-w0"], ODD.as_bytes()));
    let side = commit(&["three"]);
    git(root, &["rm", "-q", "data"]);
    let message = commit(&[&format!("oh no: {PLAIN}")]);
    git(root, &["gc", "-q"]);
    // One that was amended away.
    write(root, "lost", format!("{PLAIN}\n"));
    commit(&["four"]);
    let blob = git(root, &["rev-parse", "HEAD:lost"]);
    git(root, &["rm", "-q", "--cached", "lost"]);
    std::fs::remove_file(root.join("lost")).unwrap();
    git(root, &["commit", "-q", "--amend", "--allow-empty", "-m", "five"]);

    let path = root.to_str().unwrap();
    assert_eq!(lines(&site, &[path], 0), [""; 0], "without --git, nothing");
    let repository = root.canonicalize().unwrap().join(".git");
    let repository = repository.display();
    let mut found = lines(&site, &[path, "--git"], 1);
    found.sort();
    let mut expected = [
        format!("{repository}: commit {}: a file:2: OPENAI (version 1, current)", &first[..12]),
        format!("{repository}: commit {}: data:1: slack/odd (version 1, current, encoded)", &side[..12]),
        format!("{repository}: message of commit {}:6: OPENAI (version 1, current)", &message[..12]),
        format!("{repository}: blob {}:1 (in no branch or tag): OPENAI (version 1, current)", &blob[..12]),
    ];
    expected.sort();
    assert_eq!(found, expected);
    let json: Value = serde_json::from_slice(&scan(&site, &[path, "--git", "--json"]).stdout).unwrap();
    let place = json.as_array().unwrap().iter().find(|hit| hit["path"] == "a file").unwrap();
    assert_eq!(place["commit"], first.as_str());
    // Where git is missing, that is no clean result.
    let mut command = site.mentiko(&["scan", "--git", path]);
    let output = command.env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("can't run git"), "{}", text(&output.stderr));
}
