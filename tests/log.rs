//! The access log under many launches at once, and after crashes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::Write;
use std::process::Stdio;

use common::{Site, text};

#[test]
fn two_hundred_launches_at_once_leave_a_log_that_verifies() {
    let site = Site::with_two_agents();
    let before = site.log().len();
    let mut children = Vec::new();
    for at in 0..200 {
        let agent = if at % 2 == 0 { "one" } else { "two" };
        children.push(site.exec("c", agent).args(["--", "true"]).stderr(Stdio::piped()).spawn().unwrap());
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let records = site.log();
    assert_eq!(records.len(), before + 200);
    for (record, seq) in records.iter().zip(1..) {
        assert_eq!(record["seq"], seq);
    }
    let by = |agent: &str| site.accesses().iter().filter(|record| record["agent"] == agent).count();
    assert_eq!((by("one"), by("two")), (100, 100));
    assert!(site.verify().contains(&format!("{} records", records.len())));
}

#[test]
fn a_line_that_a_dead_writer_left_is_kept_closed_and_told_of() {
    let site = Site::with_two_agents();
    let path = site.segment();
    let torn = br#"{"v":1,"seq":4,"time":"2026"#;
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
    let broken = site.mentiko(&["audit", "verify"]).output().unwrap();
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stdout).contains("unfinished"), "{}", text(&broken.stdout));

    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    let lines = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let [.., kept, recovered, access] = lines[..] else { panic!("too few lines") };
    assert_eq!(kept.as_bytes(), torn);
    assert!(recovered.contains(r#""event":"log.recovered""#), "{recovered}");
    assert!(access.contains(r#""outcome":"granted""#), "{access}");
    assert!(site.verify().contains("1 unfinished"));
}

/// The lines of the only segment.
fn lines(site: &Site) -> (std::path::PathBuf, Vec<String>) {
    let path = site.segment();
    let lines = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    (path, lines)
}

#[test]
fn a_torn_line_does_not_let_the_line_before_it_be_forged() {
    let site = Site::with_two_agents();
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    let (path, _) = lines(&site);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    site.verify();
    let (path, mut lines) = lines(&site);
    let grant = &mut lines[3];
    assert!(grant.contains(r#""outcome":"granted""#), "{grant}");
    // A denial needs no MAC: only the chain says that this one was not there.
    let at = grant.rfind(",\"mac\":").unwrap();
    *grant = format!("{},\"mac\":null}}", grant[..at].replace("granted", "denied"));
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let output = site.mentiko(&["audit", "verify"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}

#[test]
fn whatever_a_dead_writer_left_the_log_goes_on() {
    let site = Site::with_two_agents();
    let (path, before) = lines(&site);
    // Cut at each byte of the last line and of the newline before it; then a launch.
    let whole = before.join("\n") + "\n";
    let last = whole.len() - before.last().unwrap().len() - 1;
    for end in (last..whole.len()).step_by(7).chain([whole.len() - 2, whole.len() - 1]) {
        for junk in ["", "\n", "{\n{", "x\ny\n"] {
            std::fs::write(&path, format!("{}{junk}", &whole[..end])).unwrap();
            let output = site.exec("c", "one").args(["--", "true"]).output().unwrap();
            assert!(output.status.success(), "{end} {junk:?}: {}", text(&output.stderr));
            site.verify();
        }
    }
}

#[test]
fn a_line_at_the_end_that_is_no_record_is_told_of() {
    let site = Site::with_two_agents();
    let (path, _) = lines(&site);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x\n").unwrap();
    let output = site.mentiko(&["audit", "verify"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("the last line is no record"), "{}", text(&output.stdout));
}

/// One edit of the log, and what `verify` says of it.
#[test]
fn verify_finds_each_kind_of_tampering() {
    let site = Site::with_two_agents();
    for agent in ["one", "two", "one", "nobody", "two"] {
        site.exec("c", agent).args(["--", "true"]).stderr(Stdio::null()).status().unwrap();
    }
    site.verify();
    let path = site.segment();
    let good = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let with = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut edited: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        edit(&mut edited);
        std::fs::write(&path, edited.join("\n") + "\n").unwrap();
        let output = site.mentiko(&["audit", "verify"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stdout)
    };
    let changed = with(&|lines| lines[4] = lines[4].replace(r#""agent":"two""#, r#""agent":"one""#));
    assert!(changed.contains(":5: its MAC is wrong"), "{changed}");
    let missing = with(&|lines| drop(lines.remove(4)));
    assert!(missing.contains(":5: records 5 to 5 are missing"), "{missing}");
    let swapped = with(&|lines| lines.swap(3, 4));
    assert!(swapped.contains("are missing before it"), "{swapped}");
    let repeated = with(&|lines| lines.insert(4, lines[3].clone()));
    assert!(repeated.contains(":5: record 4 stands after record 4"), "{repeated}");
    let inserted = with(&|lines| lines.insert(4, "{}".into()));
    assert!(inserted.contains("no record"), "{inserted}");
    let without_mac = with(&|lines| {
        let at = lines[4].rfind(",\"mac\":").unwrap();
        lines[4] = format!("{},\"mac\":null}}", &lines[4][..at]);
    });
    assert!(without_mac.contains("has no MAC"), "{without_mac}");
    std::fs::write(&path, &good).unwrap();
    site.verify();
}

#[test]
fn an_older_vault_put_back_is_reported() {
    let site = Site::with_two_agents();
    let old = std::fs::read(site.file("vault")).unwrap();
    site.set("A", "another-value");
    site.verify();
    std::fs::write(site.file("vault"), old).unwrap();
    // It opens: only the log knows better.
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    let output = site.mentiko(&["audit", "verify"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("rolled back: it has generation 3, the log knows 4"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn what_is_cut_off_the_end_is_found_with_the_head_that_was_kept() {
    let site = Site::with_two_agents();
    site.exec("c", "one").args(["--", "true"]).status().unwrap();
    let head = text(&site.mentiko(&["audit", "head"]).output().unwrap().stdout).trim().to_owned();
    assert!(site.verify().contains(&head));
    let verify = |expect: &str| {
        let output = site.mentiko(&["audit", "verify", "--expect", expect]).output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    assert_eq!(verify(&head).0, Some(0));
    // More lines may follow it.
    site.exec("c", "one").args(["--", "true"]).status().unwrap();
    assert_eq!(verify(&head).0, Some(0));
    let (path, lines) = lines(&site);
    std::fs::write(&path, lines[..3].join("\n") + "\n").unwrap();
    site.verify();
    let (status, said) = verify(&head);
    assert!(status == Some(1) && said.contains("the end was cut off: records 4 to 4 are missing"), "{said}");
    // Other lines in their place are no better.
    site.exec("c", "two").args(["--", "true"]).status().unwrap();
    let (status, said) = verify(&head);
    assert!(status == Some(1) && said.contains("record 4 is another than was expected"), "{said}");
    assert_eq!(verify("4:xyz").0, Some(2));
}

#[test]
fn exposure_says_who_holds_a_secret_and_which_still_run() {
    let site = Site::with_two_agents();
    let mut running = site.exec("c", "one").args(["--run-id", "r1", "--", "sleep", "60"]).spawn().unwrap();
    site.exec("c", "one").args(["--run-id", "r2", "--", "true"]).status().unwrap();
    site.exec("c", "two").args(["--run-id", "r2", "--", "true"]).status().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while site.accesses().len() < 3 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let exposure = || -> serde_json::Value {
        let output = site.mentiko(&["exposure", "A", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let found = exposure();
    let of =
        |run: &str| found["holders"].as_array().unwrap().iter().find(|holder| holder["run"] == run).unwrap().clone();
    assert_eq!(found["holders"].as_array().unwrap().len(), 2);
    assert_eq!((&of("r1")["agent"], &of("r1")["version"]), (&"one".into(), &1.into()));
    assert_eq!(of("r1")["running"], serde_json::json!([running.id()]));
    assert_eq!(of("r2")["running"], serde_json::json!([]));
    running.kill().unwrap();
    running.wait().unwrap();
    let after = exposure();
    assert!(after["holders"].as_array().unwrap().iter().all(|holder| holder["running"] == serde_json::json!([])));
    let unknown = site.mentiko(&["exposure", "AA"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("no access to 'AA' on record"), "{}", text(&unknown.stderr));
}

#[test]
fn query_filters_by_each_field_and_by_time() {
    let site = Site::with_two_agents();
    for (agent, run) in [("one", "r1"), ("two", "r1"), ("one", "r2"), ("nobody", "r2")] {
        site.exec("c", agent).args(["--run-id", run, "--", "true"]).stderr(Stdio::null()).status().unwrap();
    }
    let count = |filter: &[&str]| {
        let output = site.mentiko(&["audit", "query", "--count"]).args(filter).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().parse::<usize>().unwrap()
    };
    assert_eq!(count(&["--event", "secret.access"]), 4);
    assert_eq!(count(&["--agent", "one"]), 2);
    assert_eq!(count(&["--secret", "B", "--outcome", "granted"]), 1);
    assert_eq!(count(&["--run", "r2", "--outcome", "denied"]), 1);
    assert_eq!(count(&["--chain", "c", "--run", "r1"]), 2);
    assert_eq!(count(&["--chain", "d"]), 0);
    assert_eq!(count(&["--since", "2000-01-01", "--until", "2000-12-31"]), 0);
    assert_eq!(count(&["--since", "2000-01-01"]), site.log().len());
    assert_eq!(count(&["--since", "1h"]), site.log().len());
    assert_eq!(count(&["--until", "1h"]), 0);
    let lines = site.mentiko(&["audit", "query", "--json", "--secret", "A", "--agent", "one"]).output().unwrap();
    let file = site.segment();
    let log = std::fs::read_to_string(file).unwrap();
    for line in text(&lines.stdout).lines() {
        assert!(log.lines().any(|known| known == line), "lines are passed on untouched: {line}");
    }
}

#[test]
fn query_follows_the_log_as_it_grows() {
    let site = Site::with_two_agents();
    let mut command =
        site.mentiko(&["audit", "query", "--follow", "--json", "--since", "1h", "--event", "secret.access"]);
    assert!(site.exec("c", "one").args(["--run-id", "before", "--", "true"]).status().unwrap().success());
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains(r#""run":"before""#));
    for run in ["r1", "r2"] {
        assert!(site.exec("c", "two").args(["--run-id", run, "--", "true"]).status().unwrap().success());
        assert!(lines.next().unwrap().unwrap().contains(&format!(r#""run":"{run}""#)));
    }
    // The month ends: what comes next stands in another segment.
    let (path, known) = self::lines(&site);
    let next = path.with_file_name("access-9998-01.jsonl");
    std::fs::write(&next, format!("{}\n", known.last().unwrap().replace("\"r2\"", "\"r3\""))).unwrap();
    assert!(lines.next().unwrap().unwrap().contains(r#""run":"r3""#));
    follower.kill().unwrap();
    follower.wait().unwrap();

    // Without --since, from now on.
    std::fs::remove_file(next).unwrap();
    let mut follower = site.mentiko(&["audit", "query", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(site.exec("c", "one").args(["--run-id", "new", "--", "true"]).status().unwrap().success());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains(r#""run":"new""#));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_misspelled_name_is_told_of() {
    let site = Site::with_two_agents();
    site.set("STRIPE_API_KEY", "value-of-stripe-1");
    let said = |arguments: &[&str]| {
        let output = site.mentiko(&["audit", "query"]).args(arguments).output().unwrap();
        assert!(output.status.success());
        text(&output.stderr)
    };
    assert!(said(&["--secret", "STRIP_API_KEY"]).contains("did you mean 'STRIPE_API_KEY'?"));
    assert!(said(&["--secret", "stripe_api_key"]).contains("did you mean 'STRIPE_API_KEY'?"));
    assert!(said(&["--chain", "C"]).contains("there is no chain 'C'; did you mean 'c'?"));
    assert_eq!(said(&["--secret", "A", "--chain", "c"]), "", "known, and never asked for");
    assert!(said(&["--secret", "ENTIRELY_ANOTHER"]).ends_with("there is no secret 'ENTIRELY_ANOTHER' now\n"));
}

#[test]
fn denials_are_red_on_a_terminal_and_nowhere_else() {
    let site = Site::with_two_agents();
    site.exec("c", "nobody").args(["--", "true"]).stderr(Stdio::null()).status().unwrap();
    site.exec("c", "one").args(["--", "true"]).status().unwrap();
    let piped = site.mentiko(&["audit", "query"]).output().unwrap();
    assert!(!text(&piped.stdout).contains('\x1b') && text(&piped.stdout).contains("s ago"), "{}", text(&piped.stdout));
    let on_terminal = |no_color: &str| {
        // util-linux's script(1) gives a terminal.
        let mut command = std::process::Command::new("script");
        let query = format!("{} audit query", env!("CARGO_BIN_EXE_mentiko"));
        command.args(["-qec", &query, "/dev/null"]).env("MENTIKO_INSTANCE", site.path()).env("NO_COLOR", no_color);
        text(&command.stdin(Stdio::null()).output().unwrap().stdout)
    };
    let shown = on_terminal("");
    let red: Vec<&str> = shown.lines().filter(|line| line.starts_with("\x1b[31m")).collect();
    assert!(red.len() == 1 && red[0].contains("denied"), "{shown}");
    assert!(!on_terminal("1").contains('\x1b'));
}

#[test]
fn pruning_is_recorded_and_refuses_a_log_that_does_not_verify() {
    let site = Site::with_two_agents();
    let prune = |arguments: &[&str]| site.mentiko(&["audit", "prune", "--before"]).args(arguments).output().unwrap();
    let none = prune(&["2030-01-01"]);
    assert!(none.status.success() && text(&none.stdout).contains("no whole month"), "{}", text(&none.stdout));
    // As if the clock had been a month back until now: that is where the log's first segment stands.
    let (path, _) = lines(&site);
    let early = path.with_file_name("access-2001-01.jsonl");
    std::fs::rename(&path, &early).unwrap();
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    assert!(path.exists(), "a new month has a segment of its own");
    let before = site.log().len();
    let dry = prune(&["2030-01-01", "--dry-run"]);
    assert!(text(&dry.stdout).contains("would remove records 1 to 3"), "{}{}", text(&dry.stdout), text(&dry.stderr));
    assert_eq!(site.log().len(), before);
    let good = std::fs::read(&early).unwrap();
    std::fs::write(&early, [&good[..100], b"x", &good[101..]].concat()).unwrap();
    let refused = prune(&["2030-01-01"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("does not verify, and stays as it is"), "{}", text(&refused.stderr));
    std::fs::write(&early, good).unwrap();
    assert!(prune(&["2030-01-01"]).status.success());
    assert!(!early.exists());
    let records = site.log();
    assert_eq!(records.last().unwrap()["event"], "log.pruned");
    assert_eq!(records.last().unwrap()["reason"], "records 1 to 3");
    assert!(site.verify().contains("records 1 to 3 were pruned"));
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    site.verify();
    assert_eq!(head_by_the_docs_example(&site), text(&site.mentiko(&["audit", "head"]).output().unwrap().stdout));
}

/// The last line that the program in docs/access-log.md prints.
fn head_by_the_docs_example(site: &Site) -> String {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/access-log.md")).unwrap();
    let program = docs.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let mut command = std::process::Command::new("python3");
    let output = command.args(["-c", program]).arg(site.file("audit")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().last().unwrap().to_owned() + "\n"
}

#[test]
fn the_chain_can_be_checked_without_the_key_as_the_docs_say() {
    let site = Site::with_two_agents();
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    let (path, _) = lines(&site);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"v\":1,\"se").unwrap();
    assert!(site.exec("c", "two").args(["--", "true"]).status().unwrap().success());
    assert_eq!(head_by_the_docs_example(&site), text(&site.mentiko(&["audit", "head"]).output().unwrap().stdout));
}

#[test]
fn without_a_disk_the_log_need_not_be_synced() {
    let site = Site::with_two_agents();
    let syncs = || {
        let trace = site.file("trace");
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-e", "trace=fsync,fdatasync", "-o"]).arg(&trace).arg(common::EXEC);
        command.args(["--chain", "c", "--agent", "one", "--", "true"]).env("MENTIKO_INSTANCE", site.path());
        assert!(command.status().unwrap().success());
        std::fs::read_to_string(trace).unwrap().matches("sync(").count()
    };
    assert_eq!(syncs(), 1);
    let path = site.file("instance.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(r#""policy": {"#, r#""policy": {"audit": {"sync": "none"}, "#)).unwrap();
    assert_eq!(syncs(), 0);
    site.verify();
}
