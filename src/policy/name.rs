//! Names of chains, agents, runs and secrets.
//!
//! They become file names, fields of the log and terminal output, so that anything but a plain
//! name is refused before it is used.

use std::fmt;
use std::str::FromStr;

/// A text that is not a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no name of {kind}: use letters, digits and {marks}, 1 to 128 of them, a letter or digit first", .text.escape_debug())]
pub struct InvalidName {
    text: String,
    kind: &'static str,
    marks: &'static str,
}

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, with `/` inside where `slash` says so.
fn is_name(text: &str, slash: bool) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte) || slash && byte == b'/');
    first && rest && text.len() <= 128 && !text.ends_with('/')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, slash: $slash:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match is_name(text, $slash) {
                    true => Ok(Self(text.to_owned())),
                    false => Err(InvalidName {
                        // Cut: what was typed in a name's place may be anything.
                        text: text.chars().take(40).collect(),
                        kind: $kind,
                        marks: if $slash { "._-/" } else { "._-" },
                    }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a chain: also that of its file, without `.json`.
    ChainName, "a chain", slash: false
);
name!(
    /// The name of an agent of a chain.
    AgentName, "an agent", slash: false
);
name!(
    /// The identifier of one run of a chain.
    RunId, "a run", slash: false
);
name!(
    /// The name of a secret: `/` may stand inside.
    SecretName, "a secret", slash: true
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_taken() {
        for text in ["a", "A1", "content-pipeline", "x.y_z-1", "0198c0de-0000", &"n".repeat(128)] {
            assert_eq!(ChainName::from_str(text).unwrap().as_str(), text);
        }
        assert!(SecretName::from_str("slack/marketing").is_ok());
    }

    #[test]
    fn anything_else_is_refused_and_printed_escaped() {
        for text in ["", ".", "..", "-x", "_x", "a b", "a/b", "a\n", "a\u{1b}[31m", "é", "../x", &"n".repeat(129)] {
            let error = ChainName::from_str(text).unwrap_err().to_string();
            assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error}");
        }
        assert!(SecretName::from_str("/a").is_err());
        assert!(SecretName::from_str("a/").is_err());
    }
}
