//! instance.json: what an installation consists of. No secret stands in it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Access, Error, KeySource, Tree, kind_of, read_trusted};

/// 128 bits in the usual text form (RFC 9562, section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// From its bytes, most significant first.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, most significant first.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From 8-4-4-4-12 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        let number = u128::from_str_radix(&text.replace('-', ""), 16).ok()?;
        well_formed.then_some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

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
    /// What a launch does that does not say `--fence`.
    pub fence: FencePolicy,
    /// After how many hours without an agent and without an access a run is over.
    pub run_idle_hours: u64,
}

/// What `policy.run_idle_hours` is where nothing else is said.
pub const RUN_IDLE_HOURS: u64 = 24;

/// `policy.fence` of instance.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FencePolicy {
    /// As well as the system can.
    #[default]
    Auto,
    /// Or not at all.
    Require,
    /// Without.
    Off,
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
        let tree = Tree::parse(&text).map_err(fault)?;
        Self::from_tree(folder, &tree).map_err(fault)
    }

    fn from_tree(folder: &Path, tree: &Tree) -> Result<Self, String> {
        known_fields(tree, "", &["version", "instance", "key", "vault", "chains", "audit", "runs", "policy"])?;
        match tree.get("version") {
            Some(Tree::Number(Some(1))) => {}
            Some(_) => return Err("'version' is not 1; this mentiko reads version 1".into()),
            None => return Err("the field 'version' is missing; it must be 1".into()),
        }
        let id = Uuid::parse(string(tree, "instance")?)
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
            fence: tree.get("policy").map_or(Ok(FencePolicy::default()), fence_policy)?,
            run_idle_hours: tree.get("policy").map_or(Ok(RUN_IDLE_HOURS), run_idle_hours)?,
        })
    }
}

fn fence_policy(policy: &Tree) -> Result<FencePolicy, String> {
    known_fields(policy, "policy.", &["fence", "run_idle_hours"])?;
    match policy.get("fence").map(Tree::as_str) {
        None | Some(Some("auto")) => Ok(FencePolicy::Auto),
        Some(Some("require")) => Ok(FencePolicy::Require),
        Some(Some("off")) => Ok(FencePolicy::Off),
        Some(_) => Err("policy.fence is none of auto, require, off".into()),
    }
}

fn run_idle_hours(policy: &Tree) -> Result<u64, String> {
    match policy.get("run_idle_hours") {
        None => Ok(RUN_IDLE_HOURS),
        Some(Tree::Number(Some(hours @ 1..=8760))) => Ok(*hours),
        Some(_) => Err("policy.run_idle_hours is not a number from 1 to 8760".into()),
    }
}

fn key_source(folder: &Path, tree: &Tree) -> Result<KeySource, String> {
    let within = |fault: String| format!("key: {fault}");
    let source = string(tree, "source").map_err(within)?;
    let fields: &[&str] = match source {
        "file" => &["source", "path"],
        "systemd-credential" => &["source", "name"],
        "command" => &["source", "argv"],
        "passphrase" => &["source"],
        _ => return Err("key.source is none of file, systemd-credential, command, passphrase".into()),
    };
    known_fields(tree, "key.", fields)?;
    match source {
        "file" => Ok(KeySource::File(folder.join(string(tree, "path").map_err(within)?))),
        "systemd-credential" => {
            let name = string(tree, "name").map_err(within)?;
            match name.is_empty() || name.contains('/') || name.starts_with('.') {
                true => Err("key.name is not the name of a credential".into()),
                false => Ok(KeySource::SystemdCredential(name.to_owned())),
            }
        }
        "command" => {
            let argv: Option<Vec<String>> = match tree.get("argv") {
                Some(Tree::Array(words)) => words.iter().map(|word| word.as_str().map(str::to_owned)).collect(),
                _ => None,
            };
            // A search of PATH would let the caller choose the program that sees the key.
            argv.filter(|argv| argv.first().is_some_and(|program| program.starts_with('/')))
                .map(KeySource::Command)
                .ok_or_else(|| "key.argv is not a list of strings that begins with an absolute path".into())
        }
        _ => Ok(KeySource::Passphrase),
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
        Instance::from_tree(Path::new("/i"), &Tree::parse(text.as_bytes()).unwrap())
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
        assert_eq!(instance.run_idle_hours, 24);
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
    fn unknown_and_missing_fields_are_named() {
        let good = with_key(r#"{"source":"passphrase"}"#);
        for (text, part) in [
            (good.replace("\"runs\":", "\"rusn\":"), "unknown field 'rusn'"),
            (good.replace(",\"runs\":\"runs\"", ""), "'runs' is missing"),
            (good.replace("\"runs\":", "\"policy\":{\"fence\":\"on\"},\"runs\":"), "policy.fence is none of"),
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
            (good.replace("\"version\":1", "\"version\":2"), "'version' is not 1"),
            (good.replace(ID, "1"), "'instance' is not a UUID"),
            (good.replace("\"vault\":\"vault\"", "\"vault\":7"), "'vault' is a number"),
        ] {
            let error = instance(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
