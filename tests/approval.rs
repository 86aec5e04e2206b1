//! Approval of chain definitions: who may edit a file can't widen what it grants.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::process::Command;

use common::{Site, text};
use serde_json::Value;

/// An instance whose policy requires approval, with chain `c` of [`Site::with_two_agents`].
fn strict() -> Site {
    let site = Site::with_two_agents().unfenced();
    site.set_policy("require_approval", true);
    site
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn approve(site: &Site) -> String {
    let (code, stdout, stderr) = run(&mut site.mentiko(&["chain", "approve", "c", "--yes"]));
    assert_eq!(code, Some(0), "{stderr}");
    stdout
}

/// The one line with which a launch of the agent is refused; nothing runs.
fn refused(site: &Site, agent: &str) -> String {
    let marker = site.file("marker");
    let (code, stdout, stderr) = run(site.exec("c", agent).args(["--", "touch"]).arg(&marker));
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(77), "", 1), "{stderr}");
    assert!(!marker.exists());
    stderr
}

fn starts(site: &Site, agent: &str) {
    let (code, _, stderr) = run(site.exec("c", agent).args(["--", "true"]));
    assert_eq!(code, Some(0), "{stderr}");
}

const MEND: &str = "see 'mentiko chain show c', then 'mentiko chain approve c'";

#[test]
fn what_was_never_approved_is_refused_recorded_and_can_be_approved() {
    let site = strict();
    assert_eq!(refused(&site, "one"), format!("mentiko-exec: chain 'c' was never approved; {MEND}\n"));
    let record = site.accesses().pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]), (&"denied".into(), &"definition not approved".into()));
    assert_eq!((&record["secret"], record["mac"].is_string()), (&"A".into(), true));
    let (code, stdout, stderr) = run(&mut site.mentiko(&["run", "start", "c"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("was never approved") && stderr.ends_with("; no run was begun\n"), "{stderr}");
    // Nobody is there to answer.
    let (code, stdout, stderr) = run(&mut site.mentiko(&["chain", "approve", "c"]));
    assert_eq!(code, Some(1));
    assert!(stdout.contains("agent 'one' gets A\n") && stdout.contains("agent 'two' gets B\n"), "{stdout}");
    assert!(stderr.contains("nothing was approved; say --yes"), "{stderr}");
    refused(&site, "one");
    assert!(approve(&site).ends_with("approved chain 'c'\n"));
    let event = site.log().pop().unwrap();
    assert_eq!((&event["event"], &event["outcome"]), (&"chain.approve".into(), &"done".into()));
    assert_eq!(event["chain"], "c");
    starts(&site, "one");
    starts(&site, "two");
    let again = run(&mut site.mentiko(&["chain", "approve", "c"]));
    assert_eq!(again, (Some(0), "chain 'c' is approved as it stands; nothing was changed\n".into(), String::new()));
    site.verify();
}

#[test]
fn a_definition_that_changed_is_refused_with_its_difference_until_it_is_approved_again() {
    let site = strict();
    approve(&site);
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": ["A", "B"], "two": ["B"]}}"#);
    let differs = "mentiko-exec: chain 'c' differs from what was approved";
    assert_eq!(refused(&site, "one"), format!("{differs}: agent 'one' now gets B; {MEND}\n"));
    // All of it is refused, and each secret is on record.
    refused(&site, "two");
    let denied: Vec<_> = site.accesses().iter().map(|record| record["secret"].clone()).collect();
    assert_eq!(denied, ["A", "B", "B"]);
    let (code, stdout, _) = run(&mut site.mentiko(&["chain", "show", "c"]));
    assert_eq!(code, Some(0));
    assert!(stdout.contains("denied: definition not approved"), "{stdout}");
    assert!(stdout.contains("not approved as it stands") && stdout.contains("  agent 'one' now gets B\n"), "{stdout}");
    let (_, stdout, _) = run(&mut site.mentiko(&["chain", "show", "c", "--json"]));
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    assert!(rows.iter().all(|row| row["state"] == "denied: definition not approved"), "{stdout}");
    let (code, stdout, _) = run(&mut site.mentiko(&["chain", "check"]));
    assert_eq!(code, Some(1));
    assert!(stdout.ends_with("c.json: not approved: agent 'one' now gets B\n"), "{stdout}");
    // A dry run says the same, and records nothing.
    let before = site.log().len();
    let (code, _, stderr) = run(site.exec("c", "one").args(["--dry-run", "--", "true"]));
    assert!(code == Some(77) && stderr.contains("now gets B"), "{stderr}");
    assert_eq!(site.log().len(), before);
    let shown = approve(&site);
    assert!(shown.contains("since it was approved") && shown.contains("  agent 'one' now gets B\n"), "{shown}");
    starts(&site, "one");
    assert_eq!(run(&mut site.mentiko(&["chain", "check"])).0, Some(0));
    // Less than was approved is another definition too.
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": ["A"]}}"#);
    let less = "agent 'two' is gone; agent 'one' no longer gets B";
    let stderr = refused(&site, "one");
    assert!(less.split("; ").all(|part| stderr.contains(part)), "{stderr}");
    site.verify();
}

#[test]
fn order_blanks_and_the_orchestrators_fields_do_not_matter() {
    let site = strict();
    approve(&site);
    site.chain(
        "c",
        r#"{ "agents": [ {"agent": "two", "env": {"B": "B"}, "prompt": "post"},
                         {"prompt": "x", "agent": "one", "env": ["A"]} ],
             "schedule": "daily",
             "secrets": ["B", "A"] }"#,
    );
    starts(&site, "one");
    starts(&site, "two");
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": {"env": {"X": "A"}}, "two": ["B"]}}"#);
    let stderr = refused(&site, "one");
    assert!(stderr.contains("agent 'one' now gets A as X; agent 'one' no longer gets A"), "{stderr}");
    // The chain's own name counts: an approval is of one chain.
    site.chain("d", r#"{"secrets": ["A", "B"], "agents": {"one": ["A"], "two": ["B"]}}"#);
    let (code, _, stderr) = run(site.exec("d", "one").args(["--", "true"]));
    assert!(code == Some(77) && stderr.contains("chain 'd' was never approved"), "{stderr}");
}

#[test]
fn approvals_outlive_other_changes_and_count_only_where_the_policy_asks() {
    let site = strict();
    approve(&site);
    site.set("C", "value-of-c");
    let (code, ..) = run(&mut site.mentiko(&["key", "add", "--recovery"]));
    assert_eq!(code, Some(0));
    starts(&site, "one");
    // Without the policy, a definition counts as it stands; that it was approved once is still shown.
    let path = site.file("instance.json");
    let configuration = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, configuration.replace(r#""require_approval":true"#, r#""require_approval":false"#)).unwrap();
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": ["A", "B"]}}"#);
    starts(&site, "one");
    let (_, stdout, _) = run(&mut site.mentiko(&["chain", "show", "c"]));
    assert!(stdout.contains("granted") && stdout.contains("agent 'one' now gets B"), "{stdout}");
    assert_eq!(run(&mut site.mentiko(&["chain", "check"])).0, Some(0));
}

#[test]
fn a_damaged_ledger_refuses_the_launch_where_approval_is_required() {
    let site = strict();
    approve(&site);
    let path = site.file("vault");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (code, _, stderr) = run(site.exec("c", "one").args(["--", "true"]));
    assert!(code == Some(125) && stderr.contains("the vault is damaged: the ledger"), "{stderr}");
}
