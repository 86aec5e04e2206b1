//! instance.json: what an installation consists of. No secret stands in it.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use uuid::Uuid;

use super::{Access, Error, KeySource, Tree, kind_of, read_trusted};

/// One installation, as its instance.json describes it; paths are resolved against its folder.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The folder that instance.json stands in.
    pub folder: PathBuf,
    /// The instance's identifier: part of every key derivation.
    pub id: Uuid,
    /// Where the key comes from.
    pub key: KeySource,
    /// The sealed vault.
    pub vault: PathBuf,
    /// The folder of chain definitions.
    pub chains: PathBuf,
    /// The folder of the access log.
    pub audit: PathBuf,
    /// The folder of sealed pins of running chains.
    pub runs: PathBuf,
    /// What it wants of its launches.
    pub policy: Policy,
}

/// `policy` of instance.json; what it does not say is as in [`Policy::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What a launch does that does not say `--fence`.
    pub fence: Fence,
    /// Whether a definition must have been approved.
    pub approval: ApprovalPolicy,
    /// Whether a record is on stable storage before the agent starts.
    pub audit: AuditSync,
    /// Whether a launch says that a secret it grants is overdue for rotation.
    pub warn_when_due: bool,
    /// After how many hours without an agent and without an access a run is over.
    pub run_idle_hours: u64,
}

impl Default for Policy {
    fn default() -> Self {
        let approval = ApprovalPolicy::NotRequired;
        Self { fence: Fence::Auto, approval, audit: AuditSync::Always, warn_when_due: true, run_idle_hours: 24 }
    }
}

/// `policy.audit.sync` of instance.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSync {
    /// A record is on stable storage before its launch goes on.
    Always,
    /// It is written, no more: for a log on a file system that has no stable storage.
    None,
}

/// Whether a launch is fenced: `--fence`, else `policy.fence` of instance.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum Fence {
    /// As well as this system can; a warning where it can't.
    #[default]
    Auto,
    /// Or refuse.
    Require,
    /// Not at all: for an orchestrator, which launches agents itself.
    Off,
}

/// `policy.require_approval` of instance.json. The discriminants differ in every bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum ApprovalPolicy {
    /// What a definition says counts.
    #[default]
    NotRequired = 0x96e1_3d5a,
    /// It counts if it says what a person approved.
    Required = 0x691e_c2a5,
}

impl Instance {
    /// Reads `folder/instance.json`.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("instance.json");
        let text = match read_trusted(&path, Access::OthersRead) {
            Err(Error::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoInstance { path: folder.to_owned() });
            }
            other => other?,
        };
        let fault = |fault| Error::Syntax { path: path.clone(), fault };
        Self::parse(folder, &text).map_err(fault)
    }

    /// Checks the text of an instance.json that stands in this folder.
    pub(super) fn parse(folder: &Path, text: &[u8]) -> Result<Self, String> {
        Self::from_tree(folder, &Tree::parse(text)?)
    }

    fn from_tree(folder: &Path, tree: &Tree) -> Result<Self, String> {
        known_fields(tree, "", &["version", "instance", "key", "vault", "chains", "audit", "runs", "policy"])?;
        match tree.get("version") {
            Some(Tree::Number(Some(1))) => {}
            Some(_) => return Err("'version' is not 1; this mentiko reads version 1".into()),
            None => return Err("the field 'version' is missing; it must be 1".into()),
        }
        // Of the forms that the crate reads, only the usual one (RFC 9562, section 4) has this length.
        let id = string(tree, "instance")?;
        let id = Uuid::try_parse(id)
            .ok()
            .filter(|_| id.len() == 36)
            .ok_or("'instance' is not a UUID; take it from a backup, for the vault is sealed under it")?;
        let path = |field| string(tree, field).map(|text| folder.join(text));
        Ok(Self {
            folder: folder.to_owned(),
            id,
            key: key_source(folder, tree.get("key").ok_or("the field 'key' is missing")?)?,
            vault: path("vault")?,
            chains: path("chains")?,
            audit: path("audit")?,
            runs: path("runs")?,
            policy: tree.get("policy").map_or(Ok(Policy::default()), Policy::from_tree)?,
        })
    }
}

impl Policy {
    fn from_tree(tree: &Tree) -> Result<Self, String> {
        known_fields(tree, "policy.", &["fence", "require_approval", "audit", "warn_when_due", "run_idle_hours"])?;
        let mut policy = Self::default();
        for (name, value) in tree.members() {
            let fault = |expected: &str| format!("policy.{name} is {expected}");
            let flag = || match value {
                Tree::Bool(flag) => Ok(*flag),
                other => Err(fault(&format!("{}, not true or false", kind_of(other)))),
            };
            match name.as_str() {
                "fence" => {
                    let fence = value.as_str().and_then(|text| Fence::from_str(text, false).ok());
                    policy.fence = fence.ok_or_else(|| fault("none of auto, require, off"))?;
                }
                "require_approval" if flag()? => policy.approval = ApprovalPolicy::Required,
                "require_approval" => policy.approval = ApprovalPolicy::NotRequired,
                "audit" => policy.audit = audit_sync(value).map_err(|expected| fault(&expected))?,
                "warn_when_due" => policy.warn_when_due = flag()?,
                _ => match value {
                    Tree::Number(Some(hours @ 1..=8760)) => policy.run_idle_hours = *hours,
                    _ => return Err(fault("not a number from 1 to 8760")),
                },
            }
        }
        Ok(policy)
    }
}

fn audit_sync(tree: &Tree) -> Result<AuditSync, String> {
    let Tree::Object(members) = tree else { return Err(format!("{}, not an object", kind_of(tree))) };
    match members.as_slice() {
        [] => Ok(AuditSync::Always),
        [(name, Tree::String(text))] if name == "sync" && text == "always" => Ok(AuditSync::Always),
        [(name, Tree::String(text))] if name == "sync" && text == "none" => Ok(AuditSync::None),
        _ => Err(r#"none of {"sync": "always"}, {"sync": "none"}"#.into()),
    }
}

fn key_source(folder: &Path, tree: &Tree) -> Result<KeySource, String> {
    let text = |field| string(tree, field).map_err(|fault| format!("key: {fault}"));
    match text("source")? {
        "file" => {
            known_fields(tree, "key.", &["source", "path"])?;
            Ok(KeySource::File(folder.join(text("path")?)))
        }
        "systemd-credential" => {
            known_fields(tree, "key.", &["source", "name"])?;
            let name = text("name")?;
            match name.contains('/') || name.starts_with('.') {
                true => Err("key.name is not the name of a credential".into()),
                false => Ok(KeySource::SystemdCredential(name.to_owned())),
            }
        }
        "command" => {
            known_fields(tree, "key.", &["source", "argv"])?;
            let argv: Option<Vec<String>> = match tree.get("argv") {
                Some(Tree::Array(words)) => words.iter().map(|word| word.as_str().map(str::to_owned)).collect(),
                _ => None,
            };
            // A search of PATH would let the caller choose the program that sees the key.
            argv.filter(|argv| argv.first().is_some_and(|program| program.starts_with('/')))
                .map(KeySource::Command)
                .ok_or_else(|| "key.argv is not a list of strings that begins with an absolute path".into())
        }
        "passphrase" => known_fields(tree, "key.", &["source"]).map(|()| KeySource::Passphrase),
        _ => Err("key.source is none of file, systemd-credential, command, passphrase".into()),
    }
}

fn string<'a>(tree: &'a Tree, field: &str) -> Result<&'a str, String> {
    match tree.get(field) {
        Some(Tree::String(text)) if !text.is_empty() => Ok(text),
        Some(Tree::String(_)) => Err(format!("'{field}' is empty")),
        Some(other) => Err(format!("'{field}' is {}, not a string", kind_of(other))),
        None => Err(format!("the field '{field}' is missing")),
    }
}

fn known_fields(tree: &Tree, prefix: &str, known: &[&str]) -> Result<(), String> {
    let Tree::Object(members) = tree else {
        let what = if prefix.is_empty() { "the file" } else { prefix.trim_end_matches('.') };
        return Err(format!("{what} is {}, not an object", kind_of(tree)));
    };
    match members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let name = name.escape_debug();
            Err(format!("unknown field '{prefix}{name}'; known: {}", known.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c0de-0000-7000-8000-000000000001";

    fn instance(text: &str) -> Result<Instance, String> {
        Instance::parse(Path::new("/i"), text.as_bytes())
    }

    fn with_key(key: &str) -> String {
        format!(
            r#"{{"version":1,"instance":"{ID}","key":{key},"vault":"vault","chains":"chains","audit":"/log","runs":"runs"}}"#
        )
    }

    #[test]
    fn paths_are_resolved_against_the_folder() {
        let instance = instance(&with_key(r#"{"source":"file","path":"instance.key"}"#)).unwrap();
        assert_eq!(instance.vault, Path::new("/i/vault"));
        assert_eq!(instance.audit, Path::new("/log"));
        assert_eq!(instance.key, KeySource::File("/i/instance.key".into()));
        assert_eq!(instance.id.to_string(), ID);
        assert_eq!(instance.policy.run_idle_hours, 24);
    }

    #[test]
    fn what_the_policy_does_not_say_is_as_by_default() {
        let good = with_key(r#"{"source":"passphrase"}"#);
        let policy = |text: &str| instance(&good.replace("\"runs\":", &format!("{text}\"runs\":"))).unwrap().policy;
        let default = Policy {
            fence: Fence::Auto,
            approval: ApprovalPolicy::NotRequired,
            audit: AuditSync::Always,
            warn_when_due: true,
            run_idle_hours: 24,
        };
        assert_eq!(policy(""), default);
        assert_eq!(policy("\"policy\":{},"), default);
        assert_eq!(policy("\"policy\":{\"fence\":\"off\"},"), Policy { fence: Fence::Off, ..default });
        assert_eq!(policy("\"policy\":{\"warn_when_due\":false},"), Policy { warn_when_due: false, ..default });
    }

    #[test]
    fn approval_is_required_only_where_it_says_so() {
        let good = with_key(r#"{"source":"passphrase"}"#);
        for (policy, expected) in [
            (r#"{}"#, ApprovalPolicy::NotRequired),
            (r#"{"require_approval":false}"#, ApprovalPolicy::NotRequired),
            (r#"{"require_approval":true}"#, ApprovalPolicy::Required),
        ] {
            let text = good.replace("\"runs\":", &format!("\"policy\":{policy},\"runs\":"));
            assert_eq!(instance(&text).unwrap().policy.approval, expected);
        }
        assert_eq!(instance(&good).unwrap().policy.approval, ApprovalPolicy::NotRequired);
    }

    #[test]
    fn each_source_has_its_own_fields() {
        assert!(instance(&with_key(r#"{"source":"passphrase"}"#)).is_ok());
        assert!(instance(&with_key(r#"{"source":"command","argv":["/usr/bin/pass","show","k"]}"#)).is_ok());
        assert!(instance(&with_key(r#"{"source":"systemd-credential","name":"mentiko"}"#)).is_ok());
        for (key, part) in [
            (r#"{"source":"file"}"#, "'path' is missing"),
            (r#"{"source":"file","path":"k","argv":[]}"#, "unknown field 'key.argv'"),
            (r#"{"source":"command","argv":[]}"#, "key.argv"),
            (r#"{"source":"command","argv":[1]}"#, "key.argv"),
            (r#"{"source":"command","argv":["pass"]}"#, "key.argv"),
            (r#"{"source":"systemd-credential","name":"../k"}"#, "key.name"),
            (r#"{"source":"tpm"}"#, "key.source is none of"),
            (r#""file""#, "'source' is missing"),
        ] {
            let error = instance(&with_key(key)).unwrap_err();
            assert!(error.contains(part), "{key}: {error}");
        }
    }

    #[test]
    fn the_identifier_has_one_form() {
        let good = with_key(r#"{"source":"passphrase"}"#);
        assert_eq!(instance(&good.replace(ID, &ID.to_uppercase())).unwrap().id, instance(&good).unwrap().id);
        let simple = ID.replace('-', "");
        for other in
            [format!("{{{ID}}}"), format!("urn:uuid:{ID}"), simple.clone(), format!("{simple}0000"), "x".into()]
        {
            let error = instance(&good.replace(ID, &other)).unwrap_err();
            assert!(error.contains("'instance' is not a UUID"), "{other}: {error}");
        }
    }

    #[test]
    fn unknown_and_missing_fields_are_named() {
        let good = with_key(r#"{"source":"passphrase"}"#);
        for (text, part) in [
            (good.replace("\"runs\":", "\"rusn\":"), "unknown field 'rusn'"),
            (good.replace(",\"runs\":\"runs\"", ""), "'runs' is missing"),
            (good.replace("\"runs\":", "\"policy\":{\"fence\":\"on\"},\"runs\":"), "policy.fence is none of"),
            (
                good.replace("\"runs\":", "\"policy\":{\"require_approval\":\"true\"},\"runs\":"),
                "policy.require_approval is a string, not true or false",
            ),
            (good.replace("\"runs\":", "\"policy\":{\"run_idle_hours\":0},\"runs\":"), "policy.run_idle_hours is not"),
            (
                good.replace("\"runs\":", "\"policy\":{\"run_idle_hours\":8761},\"runs\":"),
                "policy.run_idle_hours is not",
            ),
            (
                good.replace("\"runs\":", "\"policy\":{\"run_idle_hours\":\"1d\"},\"runs\":"),
                "policy.run_idle_hours is not",
            ),
            (good.replace("\"runs\":", "\"policy\":{\"fense\":\"auto\"},\"runs\":"), "unknown field 'policy.fense'"),
            (
                good.replace("\"runs\":", "\"policy\":{\"warn_when_due\":\"no\"},\"runs\":"),
                "policy.warn_when_due is a string, not true or false",
            ),
            (
                good.replace("\"runs\":", "\"policy\":{\"audit\":{\"sync\":true}},\"runs\":"),
                "policy.audit is none of {\"sync\": \"always\"}",
            ),
            (
                good.replace("\"runs\":", "\"policy\":{\"audit\":{\"sink\":\"none\"}},\"runs\":"),
                "policy.audit is none of",
            ),
            (good.replace("\"runs\":", "\"policy\":{\"audit\":\"none\"},\"runs\":"), "policy.audit is a string"),
            (good.replace("\"runs\":", "\"policy\":[],\"runs\":"), "policy is an array, not an object"),
            (good.replace("\"version\":1", "\"version\":2"), "'version' is not 1"),
            (good.replace(ID, "1"), "'instance' is not a UUID"),
            (good.replace("\"vault\":\"vault\"", "\"vault\":7"), "'vault' is a number"),
        ] {
            let error = instance(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
