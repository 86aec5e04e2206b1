//! Names of chains, agents, runs and secrets.
//!
//! They become file names, fields of the log and terminal output, so that anything but a plain
//! name is refused before it is used.

/// A text that is not a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no name of {kind}: use letters, digits and {marks}, 1 to 128 of them, a letter or digit first", .text.escape_debug())]
pub struct InvalidName {
    text: String,
    kind: &'static str,
    marks: &'static str,
}

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`; `marks` are those of `._-/` that may stand inside.
fn check(text: &str, kind: &'static str, marks: &'static str) -> Result<(), InvalidName> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || marks.as_bytes().contains(&byte);
    let is_name = text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(is_inner)
        && text.len() <= 128
        && !text.ends_with('/');
    match is_name {
        true => Ok(()),
        // Cut: what was typed in a name's place may be anything.
        false => Err(InvalidName { text: text.chars().take(40).collect(), kind, marks }),
    }
}

/// A type of texts of which each was checked.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $error:ty, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(super) use checked_text;

checked_text!(
    /// The name of a chain: also that of its file, without `.json`.
    ChainName, InvalidName, |text| check(text, "a chain", "._-")
);
checked_text!(
    /// The name of an agent of a chain.
    AgentName, InvalidName, |text| check(text, "an agent", "._-")
);
checked_text!(
    /// The identifier of one run of a chain.
    RunId, InvalidName, |text| check(text, "a run", "._-")
);
checked_text!(
    /// The name of a secret: `/` may stand inside.
    SecretName, InvalidName, |text| check(text, "a secret", "._-/")
);

#[cfg(test)]
mod tests {
    use std::str::FromStr;

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
