//! Approval: whether a definition is the one that a person agreed to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::{AgentName, ChainName, Definition, Denial, Reason, Request, SecretName, VariableName};
use crate::instance::ApprovalPolicy;

/// A definition whose approval was looked at, where the instance asks for one.
///
/// Only [`review`] makes one, and [`super::decide`] takes nothing else: there is no grant without.
#[derive(Clone, Copy, Debug)]
pub struct Reviewed<'d>(&'d Definition);

impl<'d> Reviewed<'d> {
    pub(super) fn definition(self) -> &'d Definition {
        self.0
    }
}

/// A definition that is not what was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unapproved {
    chain: ChainName,
    /// `None` where nothing was ever approved.
    pub(super) differences: Option<Vec<String>>,
}

/// Compares a definition with what was approved, which is looked up only where the policy asks for it.
pub fn review<'d, E>(
    definition: &'d Definition,
    policy: ApprovalPolicy,
    approved: impl FnOnce() -> Result<Option<String>, E>,
) -> Result<Result<Reviewed<'d>, Unapproved>, E> {
    let approved = match policy {
        ApprovalPolicy::NotRequired => return Ok(Ok(Reviewed(definition))),
        ApprovalPolicy::Required => approved()?,
    };
    if approved.as_ref().is_some_and(|approved| *approved == definition.canonical()) {
        return Ok(Ok(Reviewed(definition)));
    }
    let differences = approved.map(|approved| definition.differences(&approved));
    Ok(Err(Unapproved { chain: definition.chain().clone(), differences }))
}

impl Unapproved {
    /// One denial for each secret that the agent asks for, or one without.
    pub fn denials(&self, definition: &Definition, agent: &AgentName) -> Vec<Denial> {
        let denial = |secret| Denial { secret, reason: Reason::NotApproved };
        match definition.requests(agent) {
            None | Some([]) => vec![denial(None)],
            Some(requests) => {
                let mut refused = BTreeSet::new();
                let once = requests.iter().filter(|request| refused.insert(&request.secret));
                once.map(|request| denial(Some(request.secret.clone()))).collect()
            }
        }
    }
}

impl fmt::Display for Unapproved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = &self.chain;
        match self.differences.as_deref() {
            None => write!(f, "chain '{chain}' was never approved")?,
            Some([one]) => write!(f, "chain '{chain}' differs from what was approved: {one}")?,
            Some([one, two]) => write!(f, "chain '{chain}' differs from what was approved: {one}; {two}")?,
            Some([one, two, more @ ..]) => {
                write!(f, "chain '{chain}' differs from what was approved: {one}; {two} (and {} more)", more.len())?;
            }
            Some([]) => write!(f, "chain '{chain}' differs from what was approved")?,
        }
        write!(f, "; see 'mentiko chain show {chain}', then 'mentiko chain approve {chain}'")
    }
}

impl Definition {
    /// A text that two definitions share if and only if they grant the same: a definition itself,
    /// with nothing in it but ours, in order. Names need no escapes in JSON.
    pub fn canonical(&self) -> String {
        let list = |texts: Vec<String>| texts.join(",");
        let secrets = list(self.secrets().iter().map(|name| format!("\"{name}\"")).collect());
        let Some(agents) = self.agents() else { return format!("{{\"secrets\":[{secrets}]}}") };
        let entry = |(agent, requests): (&AgentName, &Vec<Request>)| {
            let env = requests.iter().map(|Request { variable, secret }| format!("\"{variable}\":\"{secret}\""));
            format!("\"{agent}\":{{\"env\":{{{}}}}}", list(env.collect()))
        };
        let agents = list(agents.iter().map(entry).collect());
        format!("{{\"secrets\":[{secrets}],\"agents\":{{{agents}}}}}")
    }

    /// What it grants that another, in its canonical text, does not, and the other way: a line each.
    pub fn differences(&self, before: &str) -> Vec<String> {
        match Self::parse(Path::new("what was approved"), self.chain(), before.as_bytes()) {
            Ok(before) => differences(&Granted::of(&before), &Granted::of(self)),
            Err(error) => vec![format!("what was approved can't be read by this version: {error}")],
        }
    }
}

/// What a definition grants, as it is compared.
pub(super) struct Granted<'d> {
    secrets: &'d BTreeSet<SecretName>,
    /// By `agent 'NAME'`, or `any agent`.
    pub(super) agents: BTreeMap<String, BTreeMap<&'d VariableName, &'d SecretName>>,
}

impl<'d> Granted<'d> {
    pub(super) fn of(definition: &'d Definition) -> Self {
        let mut agents: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (agent, requests) in definition.entries() {
            let name = agent.map_or("any agent".into(), |agent| format!("agent '{agent}'"));
            agents.entry(name).or_default().extend(requests.iter().map(|one| (&one.variable, &one.secret)));
        }
        Self { secrets: definition.secrets(), agents }
    }
}

pub(super) fn named(variable: &VariableName, secret: &SecretName) -> String {
    match variable.as_str() == secret.as_str() {
        true => secret.to_string(),
        false => format!("{secret} as {variable}"),
    }
}

/// What agents gain comes first: it is what a reader must not miss.
fn differences(before: &Granted<'_>, after: &Granted<'_>) -> Vec<String> {
    let nothing = BTreeMap::new();
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    for (agent, env) in &after.agents {
        let known = before.agents.get(agent);
        if known.is_none() && env.is_empty() {
            gained.push(format!("{agent} is new and gets nothing"));
        }
        for (variable, secret) in env {
            let now = named(variable, secret);
            match known.unwrap_or(&nothing).get(variable) {
                Some(old) if old == secret => {}
                Some(old) => gained.push(format!("{agent} now gets {now} instead of {old}")),
                None if known.is_none() => gained.push(format!("{agent} is new and gets {now}")),
                None => gained.push(format!("{agent} now gets {now}")),
            }
        }
    }
    for (agent, env) in &before.agents {
        match after.agents.get(agent) {
            None => lost.push(format!("{agent} is gone")),
            Some(now) => lost.extend(
                env.iter()
                    .filter(|(variable, _)| !now.contains_key(*variable))
                    .map(|(variable, secret)| format!("{agent} no longer gets {}", named(variable, secret))),
            ),
        }
    }
    let new = after.secrets.difference(before.secrets).map(|name| format!("'{name}' is new in the chain's list"));
    let gone = before.secrets.difference(after.secrets).map(|name| format!("'{name}' is gone from the chain's list"));
    gained.into_iter().chain(new).chain(lost).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn definition(text: &str) -> Definition {
        Definition::parse(Path::new("c.json"), &"c".parse().unwrap(), text.as_bytes()).unwrap()
    }

    const APPROVED: &str = r#"{"secrets": ["B", "A"], "agents": {"two": {"env": {"Y": "B", "X": "A"}}, "one": ["A"]}}"#;

    #[test]
    fn the_canonical_text_is_that_of_every_definition_which_grants_the_same() {
        let canonical = definition(APPROVED).canonical();
        assert_eq!(
            canonical,
            r#"{"secrets":["A","B"],"agents":{"one":{"env":{"A":"A"}},"two":{"env":{"X":"A","Y":"B"}}}}"#
        );
        for same in [
            canonical.as_str(),
            r#"{ "chain":"c", "agents": [{"agent":"one","env":["A"],"prompt":"x"},
                {"env":{"X":"A","Y":"B"},"agent":"two"}], "schedule": "daily", "secrets":["A","B"]}"#,
        ] {
            assert_eq!(definition(same).canonical(), canonical, "{same}");
            assert_eq!(definition(same).differences(&canonical), [""; 0], "{same}");
        }
        assert_eq!(definition(r#"{"secrets":["B","A"]}"#).canonical(), r#"{"secrets":["A","B"]}"#);
        let step = definition(r#"{"agent":"r","env":{"V":"a/b"}}"#).canonical();
        assert_eq!(step, r#"{"secrets":["a/b"],"agents":{"r":{"env":{"V":"a/b"}}}}"#);
        let none = definition(r#"{"secrets":[],"agents":{}}"#).canonical();
        assert_ne!(none, definition(r#"{"secrets":[]}"#).canonical(), "no agent is not any agent");
    }

    #[test]
    fn differences_are_told_agent_by_agent_gains_first() {
        let approved = definition(APPROVED).canonical();
        for (text, expected) in [
            (
                r#"{"secrets":["A","B"],"agents":{"one":["A","B"],"two":{"env":{"X":"A","Y":"B"}}}}"#,
                &["agent 'one' now gets B"][..],
            ),
            (
                r#"{"secrets":["A","B"],"agents":{"one":{"env":{"A":"B"}},"two":{"env":{"X":"A","Y":"B"}}}}"#,
                &["agent 'one' now gets B as A instead of A"],
            ),
            (
                r#"{"secrets":["A","B"],"agents":{"one":[],"two":{"env":{"X":"A","Z":"B"}}}}"#,
                &["agent 'two' now gets B as Z", "agent 'one' no longer gets A", "agent 'two' no longer gets B as Y"],
            ),
            (
                r#"{"secrets":["A","B","C"],"agents":{"one":["A"],"two":{"env":{"X":"A","Y":"B"}}}}"#,
                &["'C' is new in the chain's list"],
            ),
            (
                r#"{"secrets":["A"],"agents":{"one":["A"],"three":["A"],"four":[]}}"#,
                &[
                    "agent 'four' is new and gets nothing", "agent 'three' is new and gets A", "agent 'two' is gone",
                    "'B' is gone from the chain's list",
                ],
            ),
            (
                r#"{"secrets":["A","B"]}"#,
                &[
                    "any agent is new and gets A", "any agent is new and gets B", "agent 'one' is gone",
                    "agent 'two' is gone",
                ],
            ),
        ] {
            assert_eq!(definition(text).differences(&approved), expected, "{text}");
        }
        // Whatever differs is told.
        assert!(definition(APPROVED).differences("{").first().unwrap().contains("can't be read"));
    }

    fn reviewed(text: &str, approved: Option<&str>) -> Result<(), String> {
        let definition = definition(text);
        let looked_up = || Ok::<_, Infallible>(approved.map(str::to_owned));
        let Ok(reviewed) = review(&definition, ApprovalPolicy::Required, looked_up);
        reviewed.map(|_| ()).map_err(|unapproved| unapproved.to_string())
    }

    #[test]
    fn only_what_was_approved_passes_where_approval_is_required() {
        let approved = definition(APPROVED).canonical();
        assert_eq!(reviewed(APPROVED, Some(&approved)), Ok(()));
        let mend = "see 'mentiko chain show c', then 'mentiko chain approve c'";
        assert_eq!(reviewed(APPROVED, None), Err(format!("chain 'c' was never approved; {mend}")));
        let wider = r#"{"secrets":["A","B"],"agents":{"one":["A","B"],"two":{"env":{"X":"A","Y":"B"}}}}"#;
        let differs = "chain 'c' differs from what was approved";
        assert_eq!(reviewed(wider, Some(&approved)), Err(format!("{differs}: agent 'one' now gets B; {mend}")));
        let other = r#"{"secrets":["A","B"],"agents":{}}"#;
        let both = "agent 'one' is gone; agent 'two' is gone";
        assert_eq!(reviewed(other, Some(&approved)), Err(format!("{differs}: {both}; {mend}")));
        // Not the same bytes, though nothing is told to differ: still refused.
        assert!(reviewed(APPROVED, Some(APPROVED)).is_err());
    }

    #[test]
    fn a_refusal_has_a_denial_for_each_secret_and_a_line_for_each_difference() {
        let definition = definition(r#"{"secrets":["A","B"],"agents":{"one":["A","B"],"none":[]}}"#);
        let refused = |approved: Option<&str>| {
            let looked_up = || Ok::<_, Infallible>(approved.map(str::to_owned));
            let Ok(reviewed) = review(&definition, ApprovalPolicy::Required, looked_up);
            reviewed.unwrap_err()
        };
        assert_eq!(refused(None).lines(), ["it was never approved"]);
        assert_eq!(refused(Some(r#"{"secrets":["A","B"],"agents":{"one":["A","B"]}}"#)).lines().len(), 1);
        for (agent, secrets) in [("one", &[Some("A"), Some("B")][..]), ("none", &[None]), ("absent", &[None])] {
            let denials = refused(None).denials(&definition, &agent.parse().unwrap());
            let denied: Vec<_> =
                denials.iter().map(|denial| denial.secret.as_ref().map(|name| name.as_str())).collect();
            assert_eq!(denied, secrets, "{agent}");
            assert!(denials.iter().all(|denial| denial.reason == Reason::NotApproved));
        }
        assert_eq!(definition.grants(), ["agent 'none' gets nothing", "agent 'one' gets A", "agent 'one' gets B"]);
        // Under two variables it is refused once.
        let twice = self::definition(r#"{"secrets":["A"],"agents":{"one":{"env":{"X":"A","Y":"A"}}}}"#);
        assert_eq!(refused(None).denials(&twice, &"one".parse().unwrap()).len(), 1);
    }

    #[test]
    fn nothing_is_looked_up_where_no_approval_is_required() {
        let definition = definition(APPROVED);
        let looked_up = || Err("looked up");
        assert!(review(&definition, ApprovalPolicy::NotRequired, looked_up).unwrap().is_ok());
        assert_eq!(review(&definition, ApprovalPolicy::Required, looked_up).unwrap_err(), "looked up");
    }
}
