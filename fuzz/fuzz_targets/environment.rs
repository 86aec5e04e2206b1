//! The agent's environment against a model: any caller's environment, any secrets, any grants.
//! Everything between is real: the vault's sealing, the decision, the record in the log.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mentiko_exec::audit::{Event, Outcome};
use mentiko_exec::fuzzing::launch::{arguments, inherited, variables};
use mentiko_exec::instance::Instance;
use mentiko_exec::launch::{Environment, Site};
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::{Decision, Definition, SecretName, decide};
use mentiko_exec::vault::{Contents, Vault};
use mentiko_exec_fuzz::{KEY, arena, instance, reviewed, secret};
use serde_json::json;

const SECRETS: [&str; 6] = ["A", "B", "API_KEY", "a/b", "x.y", "Z"];
const VARIABLES: [&str; 6] = ["A", "B", "API_KEY", "X", "_y", "A_FILE"];
const NAMES: [&str; 16] = [
    "A", "B", "API_KEY", "X", "_y", "PATH", "HOME", "LC_ALL", "LD_PRELOAD", "MENTIKO_RUN_ID", "MENTIKO_X", "TERM",
    "a/b", "x.y", "A_FILE", "MENTIKO_CHAIN",
];

#[derive(Arbitrary, Debug)]
struct Input {
    caller: Vec<(Name, Vec<u8>)>,
    /// The values of the secrets that are in the vault.
    values: [Option<Vec<u8>>; 6],
    /// VARIABLE and secret, for this agent and for another.
    requests: Vec<(u8, u8)>,
    others: Vec<(u8, u8)>,
    clean: bool,
    keep: Vec<u8>,
    file: bool,
}

#[derive(Arbitrary, Debug)]
enum Name {
    Known(u8),
    Other(Vec<u8>),
}

fn pick(list: &[&'static str], number: u8) -> &'static str {
    list[usize::from(number) % list.len()]
}

fn map(requests: &[(u8, u8)]) -> BTreeMap<&'static str, &'static str> {
    requests.iter().map(|&(variable, secret)| (pick(&VARIABLES, variable), pick(&SECRETS, secret))).collect()
}

struct Ground {
    instance: Instance,
    vault: Vault<'static>,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let instance = instance();
    let vault = Vault::open(&instance, KEY, arena()).unwrap();
    Ground { instance, vault }
});

/// The last record alone matters; the log is not to fill the memory.
fn keep_the_log_short(instance: &Instance) {
    for entry in std::fs::read_dir(&instance.audit).unwrap().map(Result::unwrap) {
        if entry.metadata().unwrap().len() > 1 << 20 {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

fuzz_target!(|input: Input| {
    let Ground { instance, vault } = &*GROUND;
    keep_the_log_short(instance);
    let keep: Vec<&str> = input.keep.iter().map(|&number| pick(&NAMES, number)).collect();
    let mut words: Vec<String> =
        ["mentiko-exec", "--chain=c", "--agent=one", "--run-id=r", "--fence=off"].map(Into::into).into();
    words.push(format!("--instance={}", instance.folder.display()));
    words.extend(keep.iter().map(|name| format!("--keep={name}")));
    words.extend(input.clean.then(|| "--clean-env".into()));
    words.extend(input.file.then(|| "--deliver=file".into()));
    words.push("true".into());
    let arguments = arguments(&words).unwrap();

    let (asked, others) = (map(&input.requests), map(&input.others));
    let text = json!({"secrets": SECRETS, "agents": {"one": {"env": asked}, "two": {"env": others}}}).to_string();
    let definition = Definition::parse(Path::new("c.json"), &"c".parse().unwrap(), text.as_bytes()).unwrap();
    let mut values: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut contents = Contents::new();
    for (name, value) in SECRETS.into_iter().zip(input.values) {
        let Some(mut value) = value.filter(|value| !value.is_empty()) else { continue };
        value.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'0');
        contents.insert(name.parse().unwrap(), secret(vault, name, &value));
        values.insert(name, value);
    }
    let clean_bytes = |bytes: Vec<u8>| bytes.into_iter().filter(|byte| ![0, b'='].contains(byte)).collect::<Vec<u8>>();
    let caller: Vec<(Vec<u8>, Vec<u8>)> = input
        .caller
        .into_iter()
        .map(|(name, value)| match name {
            Name::Known(number) => (pick(&NAMES, number).into(), clean_bytes(value)),
            Name::Other(bytes) => (clean_bytes(bytes), clean_bytes(value)),
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();

    // What the wrapper does, step by step.
    let all = caller.iter().map(|(name, value)| (OsString::from_vec(name.clone()), OsString::from_vec(value.clone())));
    let inherited = inherited(all.collect(), &arguments, &definition);
    let mut names = inherited.suspects();
    names.extend(asked.values().map(|name| name.parse::<SecretName>().unwrap()));
    contents.retain(|name, _| names.contains(name));
    let kept = inherited.kept_secrets(&contents);
    let facts = |name: &SecretName| contents.get(name).map(|record| record.facts());
    let decision = decide(reviewed(&definition), &"one".parse().unwrap(), &kept, facts);
    let is_asked = |secret: &str| asked.values().any(|name| *name == secret);
    let may = asked.values().all(|name| values.contains_key(name))
        && keep.iter().all(|name| !values.contains_key(name) || is_asked(name));
    let grants = match decision {
        Decision::Granted(grants) => grants,
        Decision::Denied(_) => return assert!(!may),
    };
    assert!(may);
    let arena = Arena::new().unwrap();
    let site = Site::open(arguments).unwrap();
    let open = |grant: mentiko_exec::policy::Grant| {
        let record = &contents[grant.secret()];
        vault.open_secret(grant, record, &arena).unwrap()
    };
    let secrets: Vec<_> = grants.into_iter().map(open).collect();
    let entry = site.entry(Event::SECRET_ACCESS, Outcome::Granted, arena.protection());
    let recorded = site.log.grant(&entry, &secrets, &vault.log_key()).unwrap();
    let environment = Environment::build(&site, inherited, &contents, secrets, &recorded).unwrap();
    let found: Vec<Vec<u8>> = variables(&environment).into_iter().map(|text| text.into_bytes()).collect();

    // What the design says.
    let filled: BTreeSet<&str> = asked.keys().chain(others.keys()).copied().collect();
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (name, value) in caller {
        let text = std::str::from_utf8(&name).unwrap_or_default();
        let base = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TZ", "TMPDIR"];
        let is_clean = base.contains(&text) || name.starts_with(b"LC_") || keep.contains(&text);
        if !values.contains_key(text)
            && !filled.contains(text)
            && !text.starts_with("MENTIKO_")
            && (!input.clean || is_clean)
            && !name.starts_with(b"MENTIKO_")
        {
            expected.entry(name).or_insert(value);
        }
    }
    for (name, value) in [("MENTIKO_CHAIN", "c"), ("MENTIKO_AGENT", "one"), ("MENTIKO_RUN_ID", "r")] {
        expected.insert(name.into(), value.into());
    }
    for (variable, secret) in &asked {
        match input.file {
            false => expected.insert((*variable).into(), values[secret].clone()),
            true => expected.insert(format!("{variable}_FILE").into_bytes(), b"/proc/self/fd/N".to_vec()),
        };
    }
    let mut seen = BTreeMap::new();
    for text in &found {
        let at = text.iter().position(|&byte| byte == b'=').unwrap();
        let (name, mut value) = (text[..at].to_vec(), text[at + 1..].to_vec());
        if input.file && value.starts_with(b"/proc/self/fd/") && expected.get(&name).is_some_and(|v| v.ends_with(b"/N"))
        {
            value = b"/proc/self/fd/N".to_vec();
        }
        assert!(seen.insert(name, value).is_none(), "a name stands twice");
    }
    assert_eq!(seen, expected);
});
