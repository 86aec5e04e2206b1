//! What is written: content, place, mode, exit status.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use mentiko_exec::audit::Outcome;
use serde_json::json;

use crate::common::{Site, chmod, text};
use crate::{access, append, forge, json as json_of, report, used};

#[test]
fn json_says_who_had_what_and_what_was_not_used() {
    let site = used();
    let said = json_of(&site, &[]);
    assert_eq!((&said["granted"], &said["denied"], &said["stored"]), (&json!(3), &json!(2), &json!(3)));
    let names = |list: &str| -> Vec<String> {
        said[list].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(names("secrets"), ["A", "B", "MISSING"]);
    assert_eq!(names("never_used"), ["C"]);
    let a = &said["secrets"][0];
    assert_eq!((&a["granted"], &a["in_vault"]), (&json!(2), &json!(true)));
    assert_eq!(
        a["chains"],
        json!([{"chain": "c", "granted": 1, "denied": 0}, {"chain": "other", "granted": 1, "denied": 0}])
    );
    assert_eq!(a["bars"][0]["granted"], 2);
    let holder = &a["exposure"][0];
    assert_eq!(
        (&holder["agent"], &holder["version"], &holder["runs"], &holder["accesses"]),
        (&json!("one"), &json!(1), &json!(1), &json!(1))
    );
    assert_eq!(said["secrets"][2]["in_vault"], false);
    let reasons: Vec<&str> =
        said["denials"].as_array().unwrap().iter().map(|denial| denial["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["secret not in vault", "agent not in chain"]);
    let head = site.mentiko(&["audit", "head"]).output().unwrap();
    assert_eq!(said["log"]["head"].as_str().unwrap(), text(&head.stdout).trim());
    assert_eq!(said["log"]["verifies"], true);
}

#[test]
fn bounds_of_time_are_kept() {
    let site = used();
    let tomorrow = json_of(&site, &["--since", "2999-01-01"]);
    assert_eq!((&tomorrow["records"], &tomorrow["never_used"].as_array().unwrap().len()), (&json!(0), &3));
    let all = json_of(&site, &["--since", "1h", "--until", "now"]);
    assert_eq!(all["granted"], 3);
}

#[test]
fn what_is_due_is_the_same_as_due_says() {
    let site = used();
    let set = site.mentiko(&["secret", "schedule", "B", "7d"]).output().unwrap();
    assert!(set.status.success());
    let due = site.mentiko(&["due", "--within", "30d", "--json"]).output().unwrap();
    let due: serde_json::Value = serde_json::from_slice(&due.stdout).unwrap();
    assert_eq!(due.as_array().unwrap().len(), 1);
    assert_eq!(json_of(&site, &[])["due"], due);
}

#[test]
fn the_file_is_its_owners_alone_and_is_replaced_whole() {
    let site = used();
    let path = site.file("report.html");
    std::fs::write(&path, "old").unwrap();
    chmod(&path, 0o644);
    let before = std::fs::metadata(&path).unwrap().ino();
    let (path, status) = report(&site, &[]);
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((status, found.permissions().mode() & 0o7777), (Some(0), 0o600));
    assert_ne!(found.ino(), before);
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.ends_with("</html>") && !page.contains("value-of-"), "{page}");
    // Nothing is left beside it, and a name without a folder is one in the working folder.
    let output = site.mentiko(&["audit", "report", "--html", "here.html"]).current_dir(site.path()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(site.file("here.html").exists());
    let left = std::fs::read_dir(site.path()).unwrap().filter(|entry| text_of(entry).contains(".tmp")).count();
    assert_eq!(left, 0);
}

fn text_of(entry: &std::io::Result<std::fs::DirEntry>) -> String {
    entry.as_ref().unwrap().file_name().to_string_lossy().into_owned()
}

#[test]
fn only_a_plain_file_is_replaced() {
    let site = used();
    let refused = |path: &str, fault: &str| {
        let output = site.mentiko(&["audit", "report", "--html", path]).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
        assert!(error.contains(fault), "{error}");
    };
    symlink(site.file("instance.json"), site.file("link")).unwrap();
    for path in [site.path().to_owned(), site.file("link"), "/dev/null".into()] {
        refused(path.to_str().unwrap(), "is no plain file");
    }
    refused("/no/such/folder/report.html", "/no/such/folder/report.html");
    refused("/", "");
    assert!(std::fs::metadata("/dev/null").unwrap().rdev() != 0);
}

#[test]
fn the_key_is_needed_and_one_of_the_forms() {
    let site = used();
    std::fs::rename(site.file("instance.key"), site.file("elsewhere")).unwrap();
    let output = site.mentiko(&["audit", "report", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("instance.key") && output.stdout.is_empty());
    let output = site.mentiko(&["audit", "report"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--html"), "{}", text(&output.stderr));
}

#[test]
fn a_log_that_does_not_verify_is_told_of_first() {
    let site = used();
    forge(&site, |line| line["secret"] = json!("FORGED"));
    let (path, status) = report(&site, &[]);
    assert_eq!(status, Some(1));
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page.contains("What follows can't be trusted: the log does not verify: "), "{page}");
    assert!(page.find("can't be trusted").unwrap() < page.find("FORGED").unwrap());
    let said = json_of(&site, &[]);
    assert!(said["log"]["head"].is_null() && said["log"]["fault"].as_str().unwrap().contains("its MAC is wrong"));
}

#[test]
fn a_vault_that_was_rolled_back_is_told_of() {
    let site = Site::new();
    site.set("A", "value-of-a-4711");
    let old = std::fs::read(site.file("vault")).unwrap();
    site.set("B", "value-of-b-0815");
    std::fs::write(site.file("vault"), old).unwrap();
    let fault = json_of(&site, &[])["log"]["fault"].clone();
    assert!(fault.as_str().unwrap().starts_with("the vault was rolled back"), "{fault}");
}

#[test]
fn exposure_says_what_the_command_of_that_name_says() {
    let site = used();
    append(&site, &[access(Outcome::Granted, "A", "c"), access(Outcome::Granted, "A", "c")]);
    let output = site.mentiko(&["exposure", "A", "--json"]).output().unwrap();
    let alone: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = json_of(&site, &[]);
    let together = said["secrets"][0]["exposure"].as_array().unwrap();
    let total =
        |holders: &[serde_json::Value]| holders.iter().map(|holder| holder["accesses"].as_u64().unwrap()).sum::<u64>();
    assert_eq!((total(together), alone["accesses"].as_u64().unwrap()), (4, 4));
    // This process wrote the last two, and still runs.
    let pid = json!([std::process::id()]);
    assert!(together.iter().any(|holder| holder["running"] == pid), "{together:?}");
    assert!(alone["holders"].as_array().unwrap().iter().any(|holder| holder["running"] == pid));
}
