//! The vaults as an independent reader sees them: `tests/vault_reader.py`, written from
//! docs/vault-format.md alone. What the two disagree about is a fault of one of them, or of the
//! document.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "data/vault/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{Site, output_with_input, text};
use kit::{Bad, Good, OwnedKey, hex};
use serde_json::{Value, json};

#[test]
fn the_reader_finds_in_good_vaults_what_was_put_in() {
    for good in Good::all() {
        let output = read(&kit::data(&format!("{}.vault", good.name)), good.instance_id(), &good.key());
        assert!(output.status.success(), "{}: {}", good.name, text(&output.stderr));
        let mut read: Value = serde_json::from_slice(&output.stdout).unwrap();
        for field in ["instance", "key", "passphrase", "recovery"] {
            if let Some(known) = good.truth.get(field) {
                read[field] = known.clone();
            }
        }
        assert_eq!(read, good.truth, "{}", good.name);
    }
}

#[test]
fn the_reader_refuses_bad_vaults() {
    let many = Good::named("good-many");
    for bad in Bad::all() {
        let key = bad.passphrase.clone().map_or_else(|| many.key(), OwnedKey::Passphrase);
        let output = read(&kit::data(&format!("{}.vault", bad.name)), many.instance_id(), &key);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {stderr}", bad.name);
        // Refused, not stumbled over.
        assert!(stderr.starts_with("vault_reader: refused: "), "{}: {stderr}", bad.name);
        assert!(output.stdout.is_empty(), "{}", bad.name);
    }
}

#[test]
fn the_reader_finds_what_mentiko_stores() {
    let site = Site::new();
    let all_bytes: Vec<u8> = (1..=255).collect();
    let longest = vec![b'z'; 131_000];
    let store = |name: &str, options: &[&str], value: &[u8]| {
        let output = site.set_with(name, options, value);
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let note = "Für «Märkte», 鍵 🔑";
    store("PLAIN", &[], b"v");
    store("SCOPED", &["--scope", "b,a", "--rotate-every", "30d", "--note", note], b"one");
    store("SCOPED", &[], "zwei £".as_bytes());
    store("SCOPED", &["--rotate-every", "quarterly"], b"three");
    store("slack/marketing.x-1", &["--scope", "all", "--rotate-every", "yearly"], b" blanks and\nlines ");
    store("BYTES", &["--rotate-every", "monthly"], &all_bytes);
    store("LONGEST", &[], &longest);
    store("GONE", &[], b"removed again");
    assert!(site.mentiko(&["secret", "remove", "GONE", "--yes"]).output().unwrap().status.success());
    for at in 0..30 {
        store(&format!("MANY_{at}"), &[], format!("many-{at}").as_bytes());
    }
    let instance: Value = serde_json::from_slice(&std::fs::read(site.file("instance.json")).unwrap()).unwrap();
    let key = OwnedKey::Bytes(std::fs::read(site.file("instance.key")).unwrap().try_into().unwrap());
    let output = read(&site.file("vault"), instance["instance"].as_str().unwrap(), &key);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    // `mentiko init`, 38 values stored, one removed.
    assert_eq!((&read["generation"], &read["buckets"]), (&json!(40), &json!(4)));
    let secrets = read["secrets"].as_object().unwrap();
    assert_eq!(secrets.len(), 35);
    let has = |name: &str, scope: Value, rotation: Value, note: &str, values: &[(&str, &[u8])]| {
        let found = &secrets[name];
        assert_eq!((&found["scope"], &found["rotation"], &found["note"]), (&scope, &rotation, &json!(note)), "{name}");
        let versions: Vec<Value> = values
            .iter()
            .zip(1..)
            .zip(found["versions"].as_array().unwrap())
            .map(|(((state, value), number), found)| {
                let created = found["created"].as_u64().unwrap();
                assert!((1_700_000_000..5_000_000_000).contains(&created), "{name}");
                json!({"version": number, "state": state, "created": created, "value": hex(value)})
            })
            .collect();
        assert_eq!(found["versions"], Value::from(versions), "{name}");
    };
    has("PLAIN", Value::Null, Value::Null, "", &[("current", b"v")]);
    let versions: [(&str, &[u8]); 3] = [("previous", b"one"), ("previous", "zwei £".as_bytes()), ("current", b"three")];
    has("SCOPED", json!(["a", "b"]), json!("quarterly"), note, &versions);
    has("slack/marketing.x-1", Value::Null, json!("yearly"), "", &[("current", b" blanks and\nlines ")]);
    has("BYTES", Value::Null, json!("monthly"), "", &[("current", &all_bytes)]);
    has("LONGEST", Value::Null, Value::Null, "", &[("current", &longest)]);
    for at in 0..30 {
        has(&format!("MANY_{at}"), Value::Null, Value::Null, "", &[("current", format!("many-{at}").as_bytes())]);
    }
}

#[test]
fn a_retired_or_revoked_value_leaves_no_byte() {
    let site = Site::new();
    let mentiko = |arguments: &[&str], input: &[u8]| {
        let output = output_with_input(&mut site.mentiko(arguments), input);
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let find = |sealed: &str| {
        let found = look(&site, "sealed", &[]);
        found["buckets"].as_array().unwrap().iter().any(|bucket| bucket.as_str().unwrap().contains(sealed))
    };
    let sealed = |version: &str| look(&site, "sealed", &[])["sealed"][version].as_str().unwrap_or_default().to_owned();
    site.set("A", "the first value, to be retired");
    let first = sealed("A:1");
    mentiko(&["secret", "rotate", "A"], b"the second value, to be revoked");
    let second = sealed("A:2");
    assert!(first.len() == 2 * (30 + 16) && find(&first) && find(&second));
    mentiko(&["secret", "retire", "A"], b"");
    assert!(!find(&first) && find(&second));
    mentiko(&["secret", "rotate", "A", "--emergency"], b"the third value");
    assert!(!find(&first) && !find(&second) && find(&sealed("A:3")));
    mentiko(&["secret", "rotate", "A", "--revoke-only"], b"");
    let versions = look(&site, "key", &[])["secrets"]["A"]["versions"].clone();
    let state =
        |version: &Value| (version["version"].as_u64().unwrap(), version["state"].clone(), version["value"].clone());
    let states: Vec<_> = versions.as_array().unwrap().iter().map(state).collect();
    assert_eq!(states, [(2, json!("revoked"), Value::Null), (3, json!("revoked"), Value::Null)]);
    // A vault with such versions is searched for values all the same.
    site.chain("c", r#"{"secrets": ["A"], "description": ""}"#);
    let output = site.mentiko(&["chain", "check"]).output().unwrap();
    assert!(!text(&output.stderr).contains("damaged"), "{}", text(&output.stderr));
}

#[test]
fn the_reader_finds_the_pins_of_a_run() {
    let site = Site::with_two_agents().unfenced();
    site.set("B", "value-of-b-again");
    let started = site.mentiko(&["run", "start", "c"]).output().unwrap();
    let run = text(&started.stdout).trim().to_owned();
    assert!(started.status.success(), "{}", text(&started.stderr));
    let file = |run: &str| site.file(&format!("runs/{run}.run"));
    let pins = look(&site, "key", &[file(&run)]);
    assert_eq!((&pins["chain"], &pins["versions"], &pins["run"]), (&json!("c"), &json!({"A": 1, "B": 2}), &json!(run)));
    // What launches pin, one after the other.
    for (agent, versions) in [("one", json!({"A": 1})), ("two", json!({"A": 1, "B": 2}))] {
        assert!(site.exec("c", agent).args(["--run-id", "x.1", "--", "true"]).status().unwrap().success());
        let pins = look(&site, "key", &[file("x.1")]);
        assert_eq!((&pins["versions"], &pins["run"]), (&versions, &json!("x.1")));
        assert!((1_700_000_000..5_000_000_000).contains(&pins["created"].as_u64().unwrap()));
    }
    // Another run's are not this one's.
    std::fs::copy(file("x.1"), file("y")).unwrap();
    let output = run_on(&site, "key", &[file("y")]);
    assert!(text(&output.stderr).starts_with("vault_reader: refused: "), "{}", text(&output.stderr));
}

/// What the reader says of an instance's vault.
fn look(site: &Site, kind: &str, pins: &[PathBuf]) -> Value {
    let output = run_on(site, kind, pins);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn run_on(site: &Site, kind: &str, pins: &[PathBuf]) -> Output {
    let instance: Value = serde_json::from_slice(&std::fs::read(site.file("instance.json")).unwrap()).unwrap();
    let key = hex(&std::fs::read(site.file("instance.key")).unwrap());
    run_with(&site.file("vault"), instance["instance"].as_str().unwrap(), kind, key.as_bytes(), pins)
}

/// The table of test vectors is about the committed file, and says what the reader derives.
#[test]
fn the_document_states_the_keys_of_the_committed_vault() {
    let good = Good::named("good");
    let OwnedKey::Bytes(key) = good.key() else { panic!("good.vault has a key") };
    let output = run(&kit::data("good.vault"), good.instance_id(), "keys", hex(&key).as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut derived: Value = serde_json::from_slice(&output.stdout).unwrap();
    derived["instance id"] = good.instance_id().replace('-', "").into();
    derived["instance key"] = hex(&key).into();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/vault-format.md");
    let document = std::fs::read_to_string(path).unwrap();
    for (name, value) in derived.as_object().unwrap() {
        let row = format!("| {name} | `{}` |", value.as_str().unwrap());
        assert!(document.contains(&row), "docs/vault-format.md lacks: {row}");
    }
}

fn read(vault: &Path, instance: &str, key: &OwnedKey) -> Output {
    match key {
        OwnedKey::Bytes(key) => run(vault, instance, "key", hex(key).as_bytes()),
        OwnedKey::Passphrase(passphrase) => run(vault, instance, "passphrase", passphrase.as_bytes()),
        OwnedKey::Recovery(key) => run(vault, instance, "recovery", hex(key).as_bytes()),
    }
}

fn run(vault: &Path, instance: &str, kind: &str, input: &[u8]) -> Output {
    run_with(vault, instance, kind, input, &[])
}

fn run_with(vault: &Path, instance: &str, kind: &str, input: &[u8], pins: &[PathBuf]) -> Output {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vault_reader.py");
    let mut command = python().command();
    output_with_input(command.arg(reader).arg(vault).args([instance, kind]).args(pins), input)
}

/// A Python that has `cryptography`.
struct Python {
    program: PathBuf,
    /// Where its packages are, if that is not a virtual environment of its own.
    packages: Option<PathBuf>,
}

impl Python {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // `-I` would ignore PYTHONPATH; what the caller has there is overridden all the same.
        command.env_remove("PYTHONHOME").env_remove("PYTHONPATH").env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(packages) = &self.packages {
            command.env("PYTHONPATH", packages);
        }
        command
    }

    fn is_ready(&self) -> bool {
        let argon2 = "import cryptography.hazmat.primitives.kdf.argon2";
        self.command().args(["-c", argon2]).output().is_ok_and(|output| output.status.success())
    }
}

/// Prepared once; the packages stay for the next run.
fn python() -> &'static Python {
    static PYTHON: OnceLock<Python> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let mut failures = Vec::new();
        let user = nix::unistd::geteuid();
        let fallback = std::env::temp_dir().join(format!("mentiko-vault-reader-{user}"));
        for folder in [Path::new(env!("CARGO_TARGET_TMPDIR")).join("vault-reader"), fallback] {
            if let Err(error) = own_folder(&folder) {
                failures.push(format!("{}: {error}", folder.display()));
                continue;
            }
            for program in ["python3", "/usr/bin/python3"] {
                for prepare in [with_environment, with_packages] {
                    match prepare(program, &folder) {
                        Ok(python) => return python,
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
        panic!(
            "this test needs Python 3.10 or later with 'cryptography' 44 or later, from pip or the network:\n{}",
            failures.join("\n")
        );
    })
}

/// A folder that this user may fill; one that another made is not to be run from.
fn own_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    match std::fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = folder.symlink_metadata()?;
    match metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(std::io::Error::other("it belongs to somebody else")),
    }
}

/// The usual way: `python3 -m venv`.
fn with_environment(program: &str, folder: &Path) -> Result<Python, String> {
    let folder = folder.join("environment");
    let python = Python { program: folder.join("bin/python"), packages: None };
    if !python.is_ready() {
        succeed(Command::new(program).args(["-m", "venv", "--clear"]).arg(&folder))?;
        succeed(python.command().args(["-m", "pip", "install", "--quiet", "cryptography>=44"]))?;
    }
    ready(python)
}

/// Where there is pip, but no venv: Debian has them in packages of their own.
fn with_packages(program: &str, folder: &Path) -> Result<Python, String> {
    let folder = folder.join("packages");
    let python = Python { program: program.into(), packages: Some(folder.clone()) };
    if !python.is_ready() {
        let mut pip = Command::new(program);
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]).arg(&folder).arg("cryptography>=44");
        succeed(&mut pip)?;
    }
    ready(python)
}

fn ready(python: Python) -> Result<Python, String> {
    match python.is_ready() {
        true => Ok(python),
        false => Err(format!("{}: it has no cryptography with Argon2id", python.program.display())),
    }
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let why = match command.output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => text(&output.stderr),
        Err(error) => error.to_string(),
    };
    Err(format!("{command:?}: {}", why.trim().lines().last().unwrap_or("failed")))
}
