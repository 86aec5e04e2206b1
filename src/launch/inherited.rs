//! The caller's environment, and what of it the agent may see.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Arguments;
use crate::instance::KeySource;
use crate::policy::{Definition, SecretName, is_reserved};
use crate::vault::Contents;

/// The caller's variables, each name once, before the vault has been asked about them.
#[derive(Debug)]
pub struct Inherited {
    variables: Vec<(OsString, OsString)>,
    keep: Vec<String>,
}

/// What `--clean-env` starts from, beside LC_*.
const CLEAN: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TZ", "TMPDIR"];

impl Inherited {
    /// The environment of this process, without the wrapper's own variables and without those that
    /// the chain fills with secrets, for whichever agent.
    pub fn of_this_process(arguments: &Arguments, definition: &Definition, key: &KeySource) -> Self {
        let hides = matches!(key, KeySource::SystemdCredential(_));
        let all = std::env::vars_os().filter(|(name, _)| !hides || name != "CREDENTIALS_DIRECTORY").collect();
        Self::from(all, arguments, definition)
    }

    pub(super) fn from(all: Vec<(OsString, OsString)>, arguments: &Arguments, definition: &Definition) -> Self {
        let is_clean = |name: &[u8]| {
            CLEAN.iter().any(|clean| clean.as_bytes() == name)
                || name.starts_with(b"LC_")
                || arguments.keep.iter().any(|keep| keep.as_bytes() == name)
        };
        let mut taken = BTreeSet::new();
        taken.extend(definition.variables().map(|variable| variable.as_str().as_bytes().to_vec()));
        let variables = all
            .into_iter()
            .filter(|(name, _)| {
                let name = name.as_bytes();
                !name.starts_with(b"MENTIKO_")
                    && (!arguments.clean_env || is_clean(name))
                    && taken.insert(name.to_vec())
            })
            .collect();
        Self { variables, keep: arguments.keep.clone() }
    }

    /// The variables whose names could be those of secrets, and what `--keep` names: the vault is
    /// to be asked about them. No secret has a reserved name.
    pub fn suspects(&self) -> BTreeSet<SecretName> {
        let inherited = self.variables.iter().filter_map(|(name, _)| name.to_str());
        let kept = self.keep.iter().map(String::as_str);
        let names = inherited.chain(kept).filter(|name| !is_reserved(name));
        let mut suspects = BTreeSet::new();
        suspects.extend(names.filter_map(|name| name.parse::<SecretName>().ok()));
        suspects
    }

    /// What the caller wants to pass on by `--keep` although it is a secret of the vault.
    pub fn kept_secrets(&self, contents: &Contents) -> Vec<SecretName> {
        self.keep.iter().filter_map(|name| name.parse().ok()).filter(|name| contents.contains_key(name)).collect()
    }

    /// The variables that name no secret of the vault, as `NAME=value`.
    pub fn without_secrets(self, contents: &Contents) -> Vec<CString> {
        let is_secret = |name: &OsString| {
            name.to_str()
                .and_then(|name| name.parse().ok())
                .is_some_and(|name: SecretName| contents.contains_key(&name))
        };
        self.variables
            .into_iter()
            .filter(|(name, _)| !is_secret(name))
            .filter_map(|(name, value)| {
                let mut text = name.into_vec();
                text.push(b'=');
                text.extend_from_slice(value.as_bytes());
                CString::new(text).ok()
            })
            .collect()
    }
}

/// The name in `NAME=value`.
pub(super) fn name_of(assignment: &CStr) -> &[u8] {
    assignment.to_bytes().split(|&byte| byte == b'=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Vault;
    use clap::Parser;
    use std::path::Path;

    fn left(options: &[&str], variables: &[&str], secrets: &[&str]) -> Vec<String> {
        let words = ["mentiko-exec", "--chain", "c", "--agent", "a"].iter().chain(options).chain(&["true"]);
        let arguments = Arguments::try_parse_from(words).unwrap();
        let text = br#"{"secrets":["GRANTED"],"agents":{"a":[],"b":{"env":{"FILLED":"GRANTED"}}}}"#;
        let definition = Definition::parse(Path::new("c.json"), &"c".parse().unwrap(), text).unwrap();
        let variables = variables
            .iter()
            .map(|variable| variable.split_once('=').map(|(name, value)| (name.into(), value.into())).unwrap())
            .collect();
        let contents: Contents = secrets
            .iter()
            .map(|name| name.parse().unwrap())
            .map(|name: SecretName| (name.clone(), Vault::new_record(name, 0)))
            .collect();
        let inherited = Inherited::from(variables, &arguments, &definition);
        let left = inherited.without_secrets(&contents);
        left.into_iter().map(|text| text.into_string().unwrap()).collect()
    }

    #[test]
    fn secrets_of_the_vault_and_variables_of_the_chain_are_taken_out() {
        let variables = ["A=1", "SECRET=2", "FILLED=3", "MENTIKO_RUN_ID=4", "PATH=/bin", "B="];
        assert_eq!(left(&[], &variables, &["SECRET", "OTHER"]), ["A=1", "PATH=/bin", "B="]);
    }

    #[test]
    fn duplicates_never_pass() {
        assert_eq!(left(&[], &["A=1", "A=2", "B=1"], &[]), ["A=1", "B=1"]);
    }

    #[test]
    fn a_clean_environment_has_the_named_ones_only() {
        let variables = ["A=1", "PATH=/bin", "LC_ALL=C", "TERM=x", "LANGUAGE=de", "KEPT=1", "HOME=/h"];
        assert_eq!(left(&["--clean-env"], &variables, &[]), ["PATH=/bin", "LC_ALL=C", "TERM=x", "HOME=/h"]);
        assert_eq!(left(&["--clean-env", "--keep", "KEPT"], &["KEPT=1", "A=1"], &[]), ["KEPT=1"]);
        assert_eq!(left(&["--clean-env", "--keep", "KEPT"], &["KEPT=1", "A=1"], &["KEPT"]), Vec::<String>::new());
    }
}
