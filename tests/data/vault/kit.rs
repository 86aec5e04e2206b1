//! The committed vaults: which there are, what is said of them beside them, how they are read
//! through the library as a launch reads them.
#![allow(
    dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mentiko_exec::instance::{ApprovalPolicy, Fence, Instance, InstanceKey, KeySource, Policy, Uuid};
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::{AgentName, Decision, Definition, SecretName, decide, review};
use mentiko_exec::vault::{Contents, Error, Vault};
use serde_json::Value;

/// The chain that reads them: one of those that `good.vault` names in its scopes.
pub const CHAIN: &str = "content";

pub type Values = BTreeMap<String, Vec<u8>>;

pub fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vault").join(file)
}

/// The names of the files `PREFIX*.SUFFIX`, without the suffix.
fn names(prefix: &str, suffix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(data("")).unwrap();
    let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files
        .filter(|file| file.starts_with(prefix))
        .filter_map(|file| file.strip_suffix(suffix).map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// A vault, what opens it, and all that is in it.
pub struct Good {
    pub name: String,
    pub truth: Value,
}

impl Good {
    pub fn all() -> Vec<Self> {
        let all: Vec<Self> = names("good", ".vault").iter().map(|name| Self::named(name)).collect();
        assert!(all.len() >= 5, "the committed vaults are missing");
        all
    }

    pub fn named(name: &str) -> Self {
        let truth = serde_json::from_slice(&std::fs::read(data(&format!("{name}.json"))).unwrap()).unwrap();
        Self { name: name.to_owned(), truth }
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(data(&format!("{}.vault", self.name))).unwrap()
    }

    pub fn instance_id(&self) -> &str {
        self.truth["instance"].as_str().unwrap()
    }

    /// What a vault of this one's instance is opened with.
    pub fn key(&self) -> OwnedKey {
        let field = |name: &str| self.truth[name].as_str();
        match (field("passphrase"), field("recovery")) {
            (Some(passphrase), _) => OwnedKey::Passphrase(passphrase.to_owned()),
            (_, Some(recovery)) => OwnedKey::Recovery(unhex(recovery).try_into().unwrap()),
            _ => OwnedKey::Bytes(unhex(field("key").unwrap()).try_into().unwrap()),
        }
    }

    pub fn secrets(&self) -> &serde_json::Map<String, Value> {
        self.truth["secrets"].as_object().unwrap()
    }

    /// What an agent that asks for everything gets: the current versions that are in scope.
    pub fn granted(&self) -> Values {
        let in_scope = |scope: &Value| scope.as_array().is_none_or(|chains| chains.contains(&CHAIN.into()));
        let usable = self.secrets().iter().filter(|(_, secret)| in_scope(&secret["scope"]));
        usable
            .filter_map(|(name, secret)| {
                let versions = secret["versions"].as_array().unwrap();
                let current = versions.iter().find(|version| version["state"] == "current")?;
                Some((name.clone(), unhex(current["value"].as_str().unwrap())))
            })
            .collect()
    }
}

/// A vault with one fault.
pub struct Bad {
    pub name: String,
    /// At which step of docs/vault-format.md it is found.
    pub step: Step,
    /// Part of the message.
    pub error: String,
    /// In the place of the key of `good.json`.
    pub passphrase: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Header and slots.
    Open,
    /// A bucket, by whoever looks for a name in it.
    Lookup,
    /// A value, by whoever opens it.
    Value,
    /// Only by a reader of all buckets: whoever looks for a name gets what is right.
    All,
}

impl Bad {
    pub fn all() -> Vec<Self> {
        let named = names("bad-", ".expected");
        assert_eq!(named, names("bad-", ".vault"), "a bad vault and its outcome belong together");
        assert!(named.len() >= 20, "the committed vaults are missing");
        named.iter().map(|name| Self::named(name)).collect()
    }

    fn named(name: &str) -> Self {
        let text = std::fs::read_to_string(data(&format!("{name}.expected"))).unwrap();
        let field =
            |field: &str| text.lines().find_map(|line| line.strip_prefix(field)).map(|rest| rest.trim().to_owned());
        let step = match field("step:").as_deref() {
            Some("open") => Step::Open,
            Some("lookup") => Step::Lookup,
            Some("value") => Step::Value,
            Some("all") => Step::All,
            other => panic!("{name}: step {other:?}"),
        };
        assert!(field("fault:").is_some(), "{name}");
        Self { name: name.to_owned(), step, error: field("error:").unwrap(), passphrase: field("passphrase:") }
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(data(&format!("{}.vault", self.name))).unwrap()
    }
}

pub enum OwnedKey {
    Bytes([u8; 32]),
    Passphrase(String),
    Recovery([u8; 20]),
}

impl OwnedKey {
    pub fn key(&self) -> InstanceKey<'_> {
        match self {
            Self::Bytes(bytes) => InstanceKey::Bytes(bytes),
            Self::Passphrase(text) => InstanceKey::Passphrase(text.as_bytes()),
            Self::Recovery(bytes) => InstanceKey::Recovery(bytes),
        }
    }
}

/// An instance of this id in a folder. Its vault is `folder/vault`.
pub fn instance(folder: &Path, id: &str) -> Instance {
    Instance {
        folder: folder.to_owned(),
        id: Uuid::parse_str(id).unwrap(),
        key: KeySource::Passphrase,
        vault: folder.join("vault"),
        chains: folder.join("chains"),
        audit: folder.join("audit"),
        runs: folder.join("runs"),
        policy: Policy { fence: Fence::Off, ..Policy::default() },
    }
}

/// Puts a vault in place with a mode that the reader accepts: git keeps no such modes.
pub fn put(instance: &Instance, bytes: &[u8]) {
    let _ = std::fs::remove_file(&instance.vault);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&instance.vault).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}

pub fn names_of<'a>(names: impl IntoIterator<Item = &'a String>) -> BTreeSet<SecretName> {
    names.into_iter().map(|name| name.parse().unwrap()).collect()
}

/// Opens what an agent gets that asks for all of these records: out of scope and revoked ones are
/// left out first, for one of them would refuse the launch.
pub fn open_granted(vault: &Vault<'_>, contents: &Contents, arena: &Arena) -> Result<Values, Error> {
    let chain = CHAIN.parse().unwrap();
    let usable = contents.values().filter(|record| record.scope.includes(&chain) && record.current().is_some());
    let names: Vec<&str> = usable.map(|record| record.name.as_str()).collect();
    let env: Vec<String> = names.iter().enumerate().map(|(at, name)| format!(r#""V{at:04}": "{name}""#)).collect();
    let text = format!(
        r#"{{"secrets": {}, "agents": {{"a": {{"env": {{{}}}}}}}}}"#,
        serde_json::to_string(&names).unwrap(),
        env.join(",")
    );
    let definition = Definition::parse(Path::new("content.json"), &chain, text.as_bytes()).unwrap();
    let agent: AgentName = "a".parse().unwrap();
    let facts = |name: &SecretName| contents.get(name).map(mentiko_exec::vault::Record::facts);
    let looked_up = || Ok::<_, std::convert::Infallible>(None);
    let Ok(reviewed) = review(&definition, ApprovalPolicy::NotRequired, looked_up);
    let Decision::Granted(grants) = decide(reviewed.unwrap(), &agent, &[], facts) else { panic!("denied") };
    let mut values = Values::new();
    for grant in grants {
        let record = &contents[grant.secret()];
        let secret = vault.open_secret(grant, record, arena)?;
        values.insert(secret.name().to_string(), secret.value().to_vec());
    }
    Ok(values)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
