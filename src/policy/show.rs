//! What only people read and write: a definition line by line, a scope as text.

use std::fmt;
use std::str::FromStr;

use super::approval::{Granted, named};
use super::{ChainName, Definition, InvalidName, Scope, Unapproved};

impl Unapproved {
    /// Everything that differs, a line each.
    pub fn lines(&self) -> Vec<String> {
        self.differences.clone().unwrap_or_else(|| vec!["it was never approved".into()])
    }
}

impl Definition {
    /// All that it grants, a line each.
    pub fn grants(&self) -> Vec<String> {
        let all = Granted::of(self);
        let lines = all.agents.iter().flat_map(|(agent, env)| match env.is_empty() {
            true => vec![format!("{agent} gets nothing")],
            false => env.iter().map(|(variable, secret)| format!("{agent} gets {}", named(variable, secret))).collect(),
        });
        lines.collect()
    }

    /// Fields that look like misspelled ones of ours.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl FromStr for Scope {
    type Err = InvalidName;

    /// `all`, or names with commas between.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "all" => Ok(Self::All),
            _ => text.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(Self::Chains),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Chains(chains) => {
                let names: Vec<&str> = chains.iter().map(ChainName::as_str).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}
