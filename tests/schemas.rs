//! The JSON Schemas of docs/schema, held against what the programs take and print, by a validator
//! that is not ours: Python's jsonschema.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Site, chmod, output_with_input, text};
use serde_json::{Value, json};

/// Reads [schema, document] pairs; prints for each the first fault, or null.
const VALIDATOR: &str = r#"
import json, sys
from jsonschema import Draft202012Validator as Validator

def fault(pair):
    with open(pair["schema"], encoding="utf-8") as file:
        schema = json.load(file)
    Validator.check_schema(schema)
    errors = sorted(Validator(schema).iter_errors(pair["document"]), key=str)
    return errors[0].json_path + ": " + errors[0].message if errors else None

json.dump([fault(pair) for pair in json.load(sys.stdin)], sys.stdout)
"#;

/// For each pair of a schema in docs/schema and a document, the fault that the validator finds.
fn faults(pairs: &[(&str, Value)]) -> Vec<Option<String>> {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let pairs: Vec<Value> = pairs
        .iter()
        .map(|(schema, document)| json!({"schema": schemas.join(format!("{schema}.json")), "document": document}))
        .collect();
    // Not the first python3 of PATH, which may have no packages of the system's.
    let mut python = Command::new("/usr/bin/python3");
    let output = output_with_input(python.args(["-c", VALIDATOR]), Value::from(pairs).to_string().as_bytes());
    let error = text(&output.stderr);
    assert!(output.status.success(), "this test needs jsonschema (Debian: python3-jsonschema)\n{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A file of tests/data that is good, or bad for a reason.
struct Case {
    path: PathBuf,
    text: String,
    /// What our own check says, in part.
    fault: Option<String>,
    /// Why the schema can't see it.
    beyond: Option<String>,
}

fn cases(folder: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        let field = |name: &str| expected.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let is_good = path.file_name().unwrap().to_str().unwrap().starts_with("good-");
        let case = Case {
            text: std::fs::read_to_string(&path).unwrap(),
            fault: field("fault: "),
            beyond: field("beyond the schema: "),
            path,
        };
        assert_eq!(case.fault.is_none(), is_good, "{}", case.path.display());
        found.push(case);
    }
    assert!(found.len() > 20);
    found
}

/// The schema refuses what the program refuses, but for what no schema can see, and nothing else.
fn schema_agrees(schema: &str, cases: &[Case]) {
    // Of keys that stand twice, a parser of JSON keeps one.
    let documents: Vec<(&str, Value)> =
        cases.iter().map(|case| (schema, serde_json::from_str(&case.text).unwrap())).collect();
    for (case, fault) in cases.iter().zip(faults(&documents)) {
        let expected = case.fault.is_some() && case.beyond.is_none();
        assert_eq!(fault.is_some(), expected, "{}: {fault:?}", case.path.display());
    }
}

/// What our own check says is what is expected of the case.
fn check_agrees(case: &Case, output: &Output) {
    let said = text(&output.stdout) + &text(&output.stderr);
    match &case.fault {
        None => assert!(output.status.success(), "{}: {said}", case.path.display()),
        Some(fault) => {
            assert!(!output.status.success() && said.contains(fault), "{}: {said}", case.path.display());
        }
    }
}

#[test]
fn definitions_are_judged_alike_by_the_schema_and_by_chain_check() {
    let cases = cases("definitions");
    schema_agrees("chain", &cases);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.json");
    for case in &cases {
        std::fs::write(&file, &case.text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mentiko"));
        // Without an instance the form alone is checked.
        command.args(["chain", "check"]).arg(&file).env("MENTIKO_INSTANCE", "/nonexistent");
        check_agrees(case, &command.output().unwrap());
    }
}

#[test]
fn configurations_are_judged_alike_by_the_schema_and_by_the_program() {
    let cases = cases("instances");
    schema_agrees("instance", &cases);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("chains")).unwrap();
    let file = folder.path().join("instance.json");
    for case in &cases {
        std::fs::write(&file, &case.text).unwrap();
        chmod(&file, 0o600);
        // Opens nothing but the configuration.
        let mut command = Command::new(env!("CARGO_BIN_EXE_mentiko"));
        command.args(["chain", "list"]).env("MENTIKO_INSTANCE", folder.path());
        check_agrees(case, &command.output().unwrap());
    }
}

#[test]
fn what_init_writes_and_the_documents_show_is_valid() {
    let site = Site::new();
    let written = serde_json::from_str(&std::fs::read_to_string(site.file("instance.json")).unwrap()).unwrap();
    let mut documents = vec![("instance", written)];
    for (page, schema) in [("mentiko-chain.5", "chain"), ("mentiko-instance.5", "instance")] {
        let page = std::fs::read_to_string(Path::new("docs/man").join(page)).unwrap().replace("\\-", "-");
        let examples = page.split(".nf\n").skip(1).map(|rest| rest.split(".fi\n").next().unwrap());
        documents.extend(examples.map(|example| (schema, serde_json::from_str(example).expect(example))));
    }
    let readme = std::fs::read_to_string("README.md").unwrap();
    let example = readme.split("    { \"chain\"").nth(1).unwrap().split("\n\n").next().unwrap();
    documents.push(("chain", serde_json::from_str(&format!("{{ \"chain\"{example}")).unwrap()));
    assert_eq!(documents.len(), 6);
    for ((_, document), fault) in documents.iter().zip(faults(&documents)) {
        assert_eq!(fault, None, "{document}");
    }
}

/// An instance in which each command that prints JSON has something of everything to say.
fn eventful() -> Site {
    let site = Site::new().unfenced();
    let set = |name: &str, options: &[&str]| assert!(site.set_with(name, options, b"value-of-it").status.success());
    set("A", &["--scope", "c,d", "--rotate-every", "1d", "--note", "a note"]);
    set("A", &[]);
    set("B", &[]);
    set("C", &["--scope", "other", "--rotate-every", "quarterly"]);
    site.chain(
        "c",
        r#"{"secrets": ["A", "B", "C", "GONE"],
                        "agents": {"one": ["A"], "two": {"env": {"X": "B"}}, "three": ["C", "GONE"], "four": ["D"]}}"#,
    );
    site.chain("d", r#"{"secrets": ["A"]}"#);
    site.chain("broken", "{");
    for (chain, agent, options) in [("c", "one", ""), ("c", "three", ""), ("d", "any", "--supervise"), ("c", "no", "")]
    {
        let mut command = site.exec(chain, agent);
        command.args((!options.is_empty()).then_some(options)).args(["--", "true"]).output().unwrap();
    }
    std::fs::create_dir(site.file("leaks")).unwrap();
    std::fs::write(site.file("leaks/plain"), "a\nvalue-of-it\n").unwrap();
    std::fs::write(site.file("leaks/encoded"), b"\0dmFsdWUtb2YtaXQ=").unwrap();
    assert!(site.mentiko(&["secret", "scope", "B", "c"]).output().unwrap().status.success());
    let mut command = std::process::Command::new("sh");
    let script = format!("exec {} key add --passphrase --new-passphrase-fd 3 3<&0", env!("CARGO_BIN_EXE_mentiko"));
    command.args(["-c", &script]).env("MENTIKO_INSTANCE", site.path());
    assert!(output_with_input(&mut command, b"a long passphrase").status.success());
    site
}

/// What each command with `--json` is asked.
const ASKED: &[(&str, &[&str])] = &[
    ("audit-query", &["audit", "query"]),
    ("audit-report", &["audit", "report"]),
    ("chain-list", &["chain", "list"]),
    ("chain-show", &["chain", "show", "c"]),
    ("chain-show", &["chain", "show", "d"]),
    ("doctor", &["doctor"]),
    ("due", &["due", "--within", "9999d"]),
    ("exposure", &["exposure", "A"]),
    ("key-list", &["key", "list"]),
    ("run-list", &["run", "list"]),
    ("scan", &["scan", "leaks"]),
    ("secret-list", &["secret", "list"]),
    ("secret-show", &["secret", "show", "A"]),
    ("secret-show", &["secret", "show", "B"]),
    // What changes the others comes last.
    ("secret-rotate", &["secret", "rotate", "B", "--revoke-only"]),
    ("secret-rotate", &["secret", "rotate", "A", "--emergency", "--terminate"]),
];

#[test]
fn everything_that_is_printed_as_json_is_as_its_schema_says() {
    let site = eventful();
    // A holder that still runs, in a run that began before.
    let run = site.mentiko(&["run", "start", "d"]).output().unwrap();
    let mut agent = site.exec("c", "one");
    agent.env("MENTIKO_RUN_ID", text(&run.stdout).trim());
    let mut agent = agent.args(["--", "sleep", "60"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut documents = Vec::new();
    for _ in 0..500 {
        if site.accesses().last().unwrap()["command"] == "sleep" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for (schema, words) in ASKED {
        let output =
            output_with_input(site.mentiko(words).current_dir(site.path()).arg("--json"), b"another-value-of-it");
        let printed = text(&output.stdout);
        // 1 says that something was found.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{words:?}: {}", text(&output.stderr));
        let schema = format!("output/{schema}");
        // Lines, each a document, or one document.
        match serde_json::from_str::<Value>(&printed) {
            Ok(document) => documents.push((schema, document)),
            Err(_) => {
                documents.extend(printed.lines().map(|line| (schema.clone(), serde_json::from_str(line).unwrap())))
            }
        }
    }
    // By SIGTERM, in the emergency.
    let ended = agent.try_wait().unwrap().or_else(|| {
        std::thread::sleep(std::time::Duration::from_secs(1));
        agent.try_wait().unwrap()
    });
    agent.kill().unwrap();
    assert!(ended.is_some(), "the agent still runs");
    let documents: Vec<(&str, Value)> =
        documents.iter().map(|(schema, document)| (schema.as_str(), document.clone())).collect();
    for ((schema, document), fault) in documents.iter().zip(faults(&documents)) {
        assert_eq!(fault, None, "{schema}: {document:#}");
    }
    every_field_was_seen(&documents);

    let mut asked: Vec<String> = ASKED.iter().map(|(schema, _)| format!("{schema}.json")).collect();
    asked.sort();
    asked.dedup();
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/output")).unwrap();
    let mut files: Vec<String> = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(asked, files);
}

/// A schema of nothing but nulls and empty lists would prove little: each list had an element.
fn every_field_was_seen(documents: &[(&str, Value)]) {
    let of = |schema: &'static str| documents.iter().filter(move |(of, _)| *of == schema).map(|(_, document)| document);
    for schema in [
        "output/chain-list", "output/chain-show", "output/due", "output/key-list", "output/run-list", "output/scan",
        "output/secret-list",
    ] {
        assert!(of(schema).all(|document| !document.as_array().unwrap().is_empty()), "{schema}");
    }
    assert!(of("output/audit-query").count() > 8);
    assert!(of("output/exposure").any(|document| {
        document["holders"].as_array().unwrap().iter().any(|holder| !holder["running"].as_array().unwrap().is_empty())
    }));
}
