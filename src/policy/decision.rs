//! The decision for one launch: which secrets, or why none.

use std::collections::BTreeSet;
use std::fmt;

use super::{AgentName, ChainName, Definition, Request, Reviewed, Scope, SecretName, VariableName};

/// What the vault says of a secret, once it has been authenticated.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The chains that may use it.
    pub scope: Scope,
    /// The version that this run would get; `None` where there is none that may be used.
    pub version: Option<u32>,
    /// Whether the run holds a version already, and may get no other.
    pub pinned: bool,
}

/// Leave to open one version of one secret for one variable of one launch.
///
/// Only [`decide`] makes one. It has no Clone: it is used up by opening.
#[derive(Debug)]
pub struct Grant {
    variable: VariableName,
    secret: SecretName,
    version: u32,
}

impl Grant {
    /// The variable that is to hold it.
    pub fn variable(&self) -> &VariableName {
        &self.variable
    }

    /// The secret.
    pub fn secret(&self) -> &SecretName {
        &self.secret
    }

    /// The version.
    pub fn version(&self) -> u32 {
        self.version
    }
}

/// The refusal of one secret, or of the launch as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The secret; `None` where it did not come to that.
    pub secret: Option<SecretName>,
    /// Why.
    pub reason: Reason,
}

/// Why a secret is refused; its text is the `reason` of the access record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No definition of that name.
    UnknownChain,
    /// The definition is not the one that was approved.
    NotApproved,
    /// The definition does not list the agent.
    UnknownAgent,
    /// The agent names it, the chain's list does not.
    NotInChain,
    /// It was asked for, and the agent's entry does not name it.
    NotInAgent,
    /// Its scope does not include the chain.
    OutOfScope,
    /// There is no such secret.
    Missing,
    /// All its versions are revoked.
    NoVersion,
    /// The version that the run holds is revoked, or gone.
    VersionRevoked,
    /// The launch failed before it came to a decision: configuration, key, command.
    Failed(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownChain => "unknown chain",
            Self::NotApproved => "definition not approved",
            Self::UnknownAgent => "agent not in chain",
            Self::NotInChain => "secret not in chain",
            Self::NotInAgent => "secret not granted to agent",
            Self::OutOfScope => "chain out of scope",
            Self::Missing => "secret not in vault",
            Self::NoVersion => "no usable version",
            Self::VersionRevoked => "version revoked",
            Self::Failed(text) => text,
        })
    }
}

/// All granted, or at least one denied. The discriminants differ in every bit, so that no single
/// fault of memory turns the one into the other.
#[derive(Debug)]
#[repr(u32)]
pub enum Decision {
    /// The launch may open these.
    Granted(Vec<Grant>) = 0x5c8a_7b31,
    /// The launch is refused as a whole; one for each refused secret, at least one.
    Denied(Vec<Denial>) = 0xa375_84ce,
}

/// Decides a launch. `kept` are secrets that the caller asked to pass on by `--keep` although the
/// agent may not have them; `facts` looks a secret up in the authenticated vault.
///
/// Granted if and only if the definition, approved where that is asked for, lists the agent, the chain's list holds each secret that
/// the agent names, each is in the vault, in scope, and has a usable version.
pub fn decide(
    definition: Reviewed<'_>,
    agent: &AgentName,
    kept: &[SecretName],
    facts: impl Fn(&SecretName) -> Option<Facts>,
) -> Decision {
    let definition = definition.definition();
    let Some(requests) = definition.requests(agent) else {
        return Decision::Denied(vec![Denial { secret: None, reason: Reason::UnknownAgent }]);
    };
    let (mut grants, mut denials) = (Vec::new(), Vec::new());
    // A secret may stand under several variables; its refusal is one.
    let mut refused = BTreeSet::new();
    for Request { variable, secret } in requests {
        match judge(definition, secret, &facts) {
            Ok(version) => grants.push(Grant { variable: variable.clone(), secret: secret.clone(), version }),
            Err(reason) if refused.insert(secret) => denials.push(Denial { secret: Some(secret.clone()), reason }),
            Err(_) => {}
        }
    }
    let is_asked_for = |secret: &SecretName| requests.iter().any(|request| request.secret == *secret);
    for secret in kept.iter().filter(|&kept| !is_asked_for(kept) && refused.insert(kept)) {
        let reason = match definition.secrets().contains(secret) {
            true => Reason::NotInAgent,
            false => Reason::NotInChain,
        };
        denials.push(Denial { secret: Some(secret.clone()), reason });
    }
    match denials.is_empty() {
        true => Decision::Granted(grants),
        false => Decision::Denied(denials),
    }
}

/// The decision for one secret of a chain: the version that a launch would get, or why none.
pub fn judge(
    definition: &Definition,
    secret: &SecretName,
    facts: impl Fn(&SecretName) -> Option<Facts>,
) -> Result<u32, Reason> {
    if !definition.secrets().contains(secret) {
        return Err(Reason::NotInChain);
    }
    let facts = facts(secret).ok_or(Reason::Missing)?;
    if !facts.scope.includes(definition.chain()) {
        return Err(Reason::OutOfScope);
    }
    facts.version.ok_or(if facts.pinned { Reason::VersionRevoked } else { Reason::NoVersion })
}

/// The one line for people about a refusal, with the mend in it.
pub(super) fn explain(denial: &Denial, chain: &ChainName, agent: &AgentName, path: &str, agents: &str) -> String {
    let Some(secret) = &denial.secret else {
        return match denial.reason {
            Reason::UnknownAgent => format!("chain '{chain}' has no agent '{agent}' ({path}); agents: {agents}"),
            _ => format!("chain '{chain}', agent '{agent}': {}", denial.reason),
        };
    };
    match &denial.reason {
        Reason::NotInChain => format!("secret '{secret}' is not in the list of chain '{chain}' ({path}: secrets)"),
        Reason::NotInAgent => {
            format!("secret '{secret}' is not granted to agent '{agent}' of chain '{chain}' ({path})")
        }
        Reason::OutOfScope => {
            format!(
                "secret '{secret}' is out of scope for chain '{chain}'; widen it with 'mentiko secret scope {secret} ...'"
            )
        }
        Reason::Missing => {
            format!("secret '{secret}' is not in the vault; store it with 'mentiko secret set {secret}'")
        }
        Reason::NoVersion => {
            format!("secret '{secret}' has no usable version; store one with 'mentiko secret set {secret}'")
        }
        Reason::VersionRevoked => {
            format!("secret '{secret}': version revoked: the one that this run holds may not be used any more")
        }
        other => format!("secret '{secret}': {other}"),
    }
}

impl Definition {
    /// One line about the refusals of a launch: the first, and how many more there are.
    pub fn explain(&self, agent: &AgentName, denials: &[Denial]) -> String {
        let agents = match self.agents() {
            Some(agents) => agents.keys().map(AgentName::as_str).collect::<Vec<_>>().join(", "),
            None => "any".into(),
        };
        let path = self.path().display().to_string();
        let first = denials.first().map(|denial| explain(denial, self.chain(), agent, &path, &agents));
        match (first, denials.len()) {
            (None, _) => "denied".into(),
            (Some(first), 1) => first,
            (Some(first), count) => format!("{first} (and {} more)", count - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::review;
    use super::*;
    use crate::instance::ApprovalPolicy;
    use std::path::Path;

    const TEXT: &str = r#"{"secrets": ["A", "B", "GONE", "NARROW", "REVOKED", "HELD"],
        "agents": {"ok": ["A"], "two": {"env": {"X": "A", "Y": "B"}}, "stray": ["A", "STRAY"], "gone": ["GONE"],
                   "narrow": ["NARROW"], "revoked": ["REVOKED"], "held": ["HELD"], "many": ["A", "GONE", "NARROW"], "none": [],
                   "twice": {"env": {"X": "GONE", "Y": "A", "Z": "GONE"}}}}"#;

    type Granted = Vec<(String, String, u32)>;
    type Denied = Vec<(Option<String>, Reason)>;

    fn decide_for(agent: &str, kept: &[&str]) -> Result<Granted, Denied> {
        let definition = Definition::parse(Path::new("c.json"), &"c".parse().unwrap(), TEXT.as_bytes()).unwrap();
        let kept: Vec<SecretName> = kept.iter().map(|name| name.parse().unwrap()).collect();
        let facts = |name: &SecretName| match name.as_str() {
            "A" | "STRAY" => Some(Facts { scope: Scope::All, version: Some(3), pinned: false }),
            "B" => Some(Facts { scope: "b,c".parse().unwrap(), version: Some(1), pinned: false }),
            "NARROW" => Some(Facts { scope: "other".parse().unwrap(), version: Some(1), pinned: false }),
            "REVOKED" => Some(Facts { scope: Scope::All, version: None, pinned: false }),
            "HELD" => Some(Facts { scope: Scope::All, version: None, pinned: true }),
            _ => None,
        };
        let looked_up = || Ok::<_, std::convert::Infallible>(None);
        let Ok(reviewed) = review(&definition, ApprovalPolicy::NotRequired, looked_up);
        match decide(reviewed.unwrap(), &agent.parse().unwrap(), &kept, facts) {
            Decision::Granted(grants) => Ok(grants
                .iter()
                .map(|grant| (grant.variable().to_string(), grant.secret().to_string(), grant.version()))
                .collect()),
            Decision::Denied(denials) => {
                Err(denials.into_iter().map(|d| (d.secret.map(|name| name.to_string()), d.reason)).collect())
            }
        }
    }

    #[test]
    fn granted_is_exactly_what_the_agent_names() {
        assert_eq!(decide_for("ok", &[]).unwrap(), [("A".into(), "A".into(), 3)]);
        assert_eq!(decide_for("two", &[]).unwrap(), [("X".into(), "A".into(), 3), ("Y".into(), "B".into(), 1)]);
        assert_eq!(decide_for("none", &[]).unwrap(), []);
    }

    #[test]
    fn each_condition_alone_denies() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(decide_for("absent", &[]).unwrap_err(), [(None, Reason::UnknownAgent)]);
        assert_eq!(decide_for("stray", &[]).unwrap_err(), [(some("STRAY"), Reason::NotInChain)]);
        assert_eq!(decide_for("gone", &[]).unwrap_err(), [(some("GONE"), Reason::Missing)]);
        assert_eq!(decide_for("narrow", &[]).unwrap_err(), [(some("NARROW"), Reason::OutOfScope)]);
        assert_eq!(decide_for("revoked", &[]).unwrap_err(), [(some("REVOKED"), Reason::NoVersion)]);
        assert_eq!(decide_for("held", &[]).unwrap_err(), [(some("HELD"), Reason::VersionRevoked)]);
        assert_eq!(
            decide_for("twice", &["B", "B"]).unwrap_err(),
            [(some("GONE"), Reason::Missing), (some("B"), Reason::NotInAgent)]
        );
        assert_eq!(
            decide_for("many", &[]).unwrap_err(),
            [(some("GONE"), Reason::Missing), (some("NARROW"), Reason::OutOfScope)]
        );
    }

    #[test]
    fn a_refusal_names_the_first_and_how_many_more() {
        let definition = |text: &str| Definition::parse(Path::new("c.json"), &"c".parse().unwrap(), text.as_bytes());
        let agent: AgentName = "x".parse().unwrap();
        let denial = |secret: Option<&str>, reason| Denial { secret: secret.map(|name| name.parse().unwrap()), reason };
        let listed = definition(r#"{"secrets": ["A"], "agents": {"one": ["A"], "two": []}}"#).unwrap();
        let explain = |secret, reason| listed.explain(&agent, &[denial(secret, reason)]);
        for (secret, reason, part) in [
            (None, Reason::UnknownAgent, "chain 'c' has no agent 'x' (c.json); agents: one, two"),
            (None, Reason::UnknownChain, "chain 'c', agent 'x': unknown chain"),
            (Some("A"), Reason::NotInChain, "secret 'A' is not in the list of chain 'c' (c.json: secrets)"),
            (Some("A"), Reason::NotInAgent, "secret 'A' is not granted to agent 'x' of chain 'c' (c.json)"),
            (Some("A"), Reason::OutOfScope, "'mentiko secret scope A ...'"),
            (Some("A"), Reason::Missing, "secret 'A' is not in the vault; store it with 'mentiko secret set A'"),
            (Some("A"), Reason::NoVersion, "secret 'A' has no usable version; store one with"),
            (Some("A"), Reason::VersionRevoked, "secret 'A': version revoked: "),
            (Some("A"), Reason::Failed("too long".into()), "secret 'A': too long"),
        ] {
            let text = explain(secret, reason.clone());
            assert!(text.contains(part) && !text.contains("more)"), "{reason:?}: {text}");
        }
        let anyone = definition(r#"{"secrets": ["A"]}"#).unwrap();
        let denials = ["A", "B", "C"].map(|name| denial(Some(name), Reason::Missing));
        assert!(anyone.explain(&agent, &denials).starts_with("secret 'A' is not in the vault"));
        assert!(anyone.explain(&agent, &denials).ends_with(" (and 2 more)"));
        assert_eq!(anyone.explain(&agent, &[]), "denied");
    }

    #[test]
    fn keeping_a_secret_that_is_not_the_agents_is_denied() {
        assert!(decide_for("ok", &["A"]).is_ok());
        assert_eq!(decide_for("ok", &["B"]).unwrap_err(), [(Some("B".into()), Reason::NotInAgent)]);
        assert_eq!(decide_for("ok", &["STRAY"]).unwrap_err(), [(Some("STRAY".into()), Reason::NotInChain)]);
    }
}
