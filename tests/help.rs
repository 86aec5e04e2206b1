//! What every command says of itself: a help that fits one screen and has an example, a manual page
//! that the manual's own tools accept, JSON wherever there is a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::text;

/// One with 80 columns and 40 lines.
const SCREEN: (usize, usize) = (80, 40);

fn program(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_BIN_EXE_mentiko")).with_file_name(name))
}

/// What a command prints for --help, which is no failure.
fn help(words: &[String]) -> String {
    let output = program(&words[0]).args(&words[1..]).arg("--help").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Every command of both programs, with its help, from what the programs themselves list.
fn commands() -> Vec<(Vec<String>, String)> {
    let mut open = vec![vec!["mentiko-exec".to_owned()], vec!["mentiko".to_owned()]];
    let mut found = Vec::new();
    while let Some(words) = open.pop() {
        let help = help(&words);
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        for name in listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
            if !name.is_empty() && name != "help" {
                open.push(words.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
        found.push((words, help));
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

#[test]
fn every_help_fits_one_screen_and_has_an_example() {
    let (columns, lines) = SCREEN;
    for (words, help) in commands() {
        let rows: usize = help.lines().map(|line| line.chars().count().div_ceil(columns).max(1)).sum();
        assert!(rows <= lines, "{words:?}: {rows} lines\n{help}");
        let start = format!("{} ", words[0]);
        let mut examples = help.lines().skip_while(|line| !line.starts_with("Example"));
        assert!(examples.any(|line| line.contains(&start)), "{words:?} has no example:\n{help}");
    }
}

/// Each example is one: all its options are in the help of its command.
#[test]
fn examples_use_options_that_there_are() {
    let commands = commands();
    let all: String = commands.iter().map(|(_, help)| help.as_str()).collect();
    for (words, help) in &commands {
        let examples = help.lines().skip_while(|line| !line.starts_with("Example"));
        for word in examples.flat_map(|line| line.split(' ')).filter(|word| word.len() > 2 && word.starts_with("--")) {
            let option = word.split('=').next().unwrap();
            assert!(all.contains(&format!("{option} ")) || all.contains(&format!("{option}\n")), "{words:?}: {option}");
        }
    }
}

/// Commands that print no table: what they did, or lines for a program to read.
const NO_TABLE: &[&str] = &[
    "init", "quickstart", "secret set", "secret remove", "secret scope", "secret schedule", "secret rotate",
    "secret retire", "secret import", "chain check", "chain approve", "run start", "run end", "audit verify",
    "audit head", "audit prune", "audit export", "audit report", "key add", "key remove", "key rotate", "completions",
    "settings",
];

#[test]
fn every_table_is_to_be_had_as_json_that_a_schema_describes() {
    let commands = commands();
    let is_group =
        |words: &[String]| commands.iter().any(|(other, _)| other.len() > words.len() && other.starts_with(words));
    for (words, help) in commands.iter().filter(|(words, _)| words[0] == "mentiko" && !is_group(words)) {
        let name = words[1..].join(" ");
        let has_json = help.lines().any(|line| line.trim_start().starts_with("--json"));
        let schema = Path::new("docs/schema/output").join(format!("{}.json", words[1..].join("-")));
        assert!(has_json || NO_TABLE.contains(&name.as_str()), "mentiko {name} has no --json");
        assert_eq!(has_json, schema.exists(), "mentiko {name} --json, {}", schema.display());
    }
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let output = program("mentiko").arg("man").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let sections = ["man1", "man5"].iter().map(|section| std::fs::read_dir(folder.join(section)).unwrap());
    let mut pages: Vec<PathBuf> = sections.flatten().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

#[test]
fn every_command_has_a_manual_page_and_every_page_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    let names: BTreeSet<String> =
        pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let expected = commands().into_iter().map(|(words, _)| format!("{}.1", words.join("-")));
    let expected = expected.chain(["mentiko-chain.5".to_owned(), "mentiko-instance.5".to_owned()]);
    assert_eq!(names, expected.collect());

    let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(&pages).output();
    let lint = lint.expect("this test needs mandoc (Debian: mandoc)");
    assert!(lint.status.success() && lint.stdout.is_empty(), "{}{}", text(&lint.stdout), text(&lint.stderr));
    for page in &pages {
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let shown = man.output().expect("this test needs man (Debian: man-db)");
        assert!(shown.status.success() && shown.stderr.is_empty(), "{}: {}", page.display(), text(&shown.stderr));
        for heading in ["NAME", "DESCRIPTION", "EXAMPLES", "SEE ALSO"] {
            assert!(text(&shown.stdout).lines().any(|line| line == heading), "{}: {heading}", page.display());
        }
    }
}

/// What pages refer to is there.
#[test]
fn pages_refer_to_pages_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let pages = pages(folder.path());
    for page in &pages {
        let source = std::fs::read_to_string(page).unwrap().replace("\\-", "-");
        let references = source.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix(".BR mentiko")?.split_once(" (")?;
            Some(format!("mentiko{name}.{}", rest.split(')').next()?))
        });
        for reference in references {
            let exists = pages.iter().any(|page| page.ends_with(&reference));
            assert!(exists, "{}: {reference}", page.display());
        }
    }
}

#[test]
fn the_wrappers_page_says_what_its_callers_need() {
    let folder = tempfile::tempdir().unwrap();
    pages(folder.path());
    let page = std::fs::read_to_string(folder.path().join("man1/mentiko-exec.1")).unwrap();
    for part in
        ["SH EXIT STATUS", "B 77", "B 78", "B 125", "B 126", "B 127", "SH ENVIRONMENT", "SH FILES", "SH EXAMPLES"]
    {
        assert!(page.contains(part), "{part}");
    }
    // The long forms of what --help says in a few words.
    assert!(page.contains("128+n for signal n") && page.contains("LC_* TERM"), "{page}");
}
