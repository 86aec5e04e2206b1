//! Which chains may use a secret at all, whatever their definitions say.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::{ChainName, InvalidName};

/// A secret's scope: kept with it in the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every chain.
    All,
    /// These chains; with none, no chain.
    Chains(BTreeSet<ChainName>),
}

impl Scope {
    /// Whether the chain is within it.
    pub fn includes(&self, chain: &ChainName) -> bool {
        match self {
            Self::All => true,
            Self::Chains(chains) => chains.contains(chain),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_includes_what_it_names() {
        let chain = |name: &str| name.parse::<ChainName>().unwrap();
        let scope: Scope = "a, b".parse().unwrap();
        assert!(scope.includes(&chain("a")) && scope.includes(&chain("b")) && !scope.includes(&chain("c")));
        assert_eq!("all".parse(), Ok(Scope::All));
        assert!(Scope::All.includes(&chain("c")));
        assert_eq!(scope.to_string(), "a,b");
        assert!("".parse::<Scope>().is_err());
        assert!("a,,b".parse::<Scope>().is_err());
    }
}
