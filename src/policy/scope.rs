//! Which chains may use a secret at all, whatever their definitions say.

use std::collections::BTreeSet;

use super::ChainName;

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
