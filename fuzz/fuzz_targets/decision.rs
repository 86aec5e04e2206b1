//! The decision against a model of the design's section 5: any definition, any vault.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::vault::no_value;
use mentiko_exec::instance::ApprovalPolicy;
use mentiko_exec::policy::{Decision, Definition, Reason, Scope, SecretName, decide, review};
use mentiko_exec::vault::{State, Vault, Version};
use serde_json::json;

const SECRETS: [&str; 6] = ["A", "B", "C", "D", "E", "F"];
const VARIABLES: [&str; 6] = ["A", "B", "X", "Y", "Z", "_"];
const AGENTS: [&str; 4] = ["one", "two", "three", "four"];
const CHAINS: [&str; 3] = ["c", "d", "e"];

fn pick(list: &[&'static str], number: u8) -> &'static str {
    list[usize::from(number) % list.len()]
}

#[derive(Arbitrary, Debug)]
struct Input {
    form: Form,
    agent: u8,
    kept: Vec<u8>,
    vault: [Stored; 6],
    approved: Approved,
}

/// What the policy asks for, and what a person approved.
#[derive(Arbitrary, Debug)]
enum Approved {
    NotRequired,
    Nothing,
    This,
    Another(Form),
}

#[derive(Arbitrary, Debug)]
enum Form {
    /// The chain's list alone.
    List(Vec<u8>),
    /// And its agents, as an object or as steps.
    Agents { list: Vec<u8>, agents: Vec<(u8, Entry)>, steps: bool },
    /// A step on its own.
    Step(u8, Entry),
}

#[derive(Arbitrary, Debug)]
enum Entry {
    Nothing,
    List(Vec<u8>),
    Map(Vec<(u8, u8)>),
}

#[derive(Arbitrary, Debug)]
enum Stored {
    Absent,
    There {
        /// `None`: all.
        scope: Option<Vec<u8>>,
        /// From version 1 on; only the last that says so is current.
        states: Vec<Held>,
        /// What the run holds.
        pinned: Option<u8>,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Held {
    Current,
    Previous,
    Revoked,
}

/// What an entry asks for, VARIABLE and secret; `None` where a variable stands twice or is reserved.
fn asked(entry: &Entry) -> Option<BTreeMap<&'static str, &'static str>> {
    let pairs: Vec<_> = match entry {
        Entry::Nothing => Vec::new(),
        Entry::List(list) => list.iter().map(|&number| (pick(&SECRETS, number), pick(&SECRETS, number))).collect(),
        Entry::Map(map) => map.iter().map(|&(name, secret)| (pick(&VARIABLES, name), pick(&SECRETS, secret))).collect(),
    };
    let once: BTreeMap<_, _> = pairs.iter().copied().collect();
    (once.len() == pairs.len() && !once.contains_key("_")).then_some(once)
}

fn names(list: &[u8]) -> Vec<&'static str> {
    list.iter().map(|&number| pick(&SECRETS, number)).collect()
}

/// The definition's text, without a check of what is in it.
fn text(form: &Form) -> String {
    let object = |map: &[(u8, u8)]| {
        // By hand, for a map would let no name stand twice.
        let members: Vec<String> = map
            .iter()
            .map(|&(name, secret)| format!("{:?}:{:?}", pick(&VARIABLES, name), pick(&SECRETS, secret)))
            .collect();
        format!("{{{}}}", members.join(","))
    };
    let env = |entry: &Entry| match entry {
        Entry::Nothing => None,
        Entry::List(list) => Some(json!(names(list)).to_string()),
        Entry::Map(map) => Some(object(map)),
    };
    let step = |agent: u8, entry: &Entry| {
        let env = env(entry).map_or(String::new(), |env| format!(",\"env\":{env}"));
        format!("{{\"agent\":{:?}{env},\"prompt\":\"p\"}}", pick(&AGENTS, agent))
    };
    match form {
        Form::List(list) => json!({"chain": "c", "secrets": names(list)}).to_string(),
        Form::Step(agent, entry) => step(*agent, entry),
        Form::Agents { list, agents, steps } => {
            let agents: Vec<String> = agents
                .iter()
                .map(|(agent, entry)| match (steps, entry) {
                    (true, _) => step(*agent, entry),
                    (false, Entry::List(list)) => format!("{:?}:{}", pick(&AGENTS, *agent), json!(names(list))),
                    (false, _) => {
                        let env = env(entry).map_or(String::new(), |env| format!("\"env\":{env}"));
                        format!("{:?}:{{{env}}}", pick(&AGENTS, *agent))
                    }
                })
                .collect();
            let (open, close) = if *steps { ('[', ']') } else { ('{', '}') };
            format!("{{\"secrets\":{},\"agents\":{open}{}{close}}}", json!(names(list)), agents.join(","))
        }
    }
}

/// What the design says of a definition.
#[derive(PartialEq)]
struct Model {
    list: BTreeSet<&'static str>,
    /// `None`: any agent gets the list.
    agents: Option<BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>>,
}

/// `None` where the definition is to be refused.
fn model(form: &Form) -> Option<Model> {
    let set = |list: &[u8]| {
        let set: BTreeSet<_> = names(list).into_iter().collect();
        (set.len() == list.len()).then_some(set)
    };
    Some(match form {
        Form::List(list) => Model { list: set(list)?, agents: None },
        Form::Step(agent, entry) => {
            let asked = asked(entry)?;
            Model { list: asked.values().copied().collect(), agents: Some([(pick(&AGENTS, *agent), asked)].into()) }
        }
        Form::Agents { list, agents, .. } => {
            let mut table = BTreeMap::new();
            for (agent, entry) in agents {
                if table.insert(pick(&AGENTS, *agent), asked(entry)?).is_some() {
                    return None;
                }
            }
            Model { list: set(list)?, agents: Some(table) }
        }
    })
}

fn stored<'v>(vault: &'v [Stored; 6], secret: &str) -> &'v Stored {
    &vault[SECRETS.iter().position(|name| *name == secret).unwrap()]
}

fn in_scope(stored: &Stored) -> bool {
    match stored {
        Stored::Absent => false,
        Stored::There { scope: None, .. } => true,
        Stored::There { scope: Some(chains), .. } => chains.iter().any(|&chain| pick(&CHAINS, chain) == "c"),
    }
}

/// The version that the run gets: the one that it holds and that is not revoked, else the current.
fn usable(stored: &Stored) -> Option<u32> {
    let Stored::There { states, pinned, .. } = stored else { return None };
    let current = states.iter().rposition(|state| *state == Held::Current);
    let number = match pinned {
        Some(0) => return None,
        Some(number) if *states.get(usize::from(*number) - 1)? == Held::Revoked => return None,
        Some(number) => u32::from(*number),
        None => u32::try_from(current? + 1).unwrap(),
    };
    Some(number)
}

fn holds(stored: &Stored) -> bool {
    matches!(stored, Stored::There { pinned: Some(_), .. })
}

/// The reasons are true, whichever of several is told.
fn is_true(reason: &Reason, model: &Model, asked: &BTreeMap<&str, &str>, vault: &[Stored; 6], secret: &str) -> bool {
    let stored = stored(vault, secret);
    match reason {
        Reason::NotInChain => !model.list.contains(secret),
        Reason::NotInAgent => !asked.values().any(|name| *name == secret),
        Reason::Missing => matches!(stored, Stored::Absent),
        Reason::OutOfScope => !in_scope(stored),
        Reason::NoVersion => usable(stored).is_none() && !holds(stored),
        Reason::VersionRevoked => usable(stored).is_none() && holds(stored),
        _ => false,
    }
}

/// As it is read, and as the model takes it; `None` where both refuse it.
fn read(form: &Form) -> Option<(Definition, Model)> {
    let text = text(form);
    match (Definition::parse(Path::new("c.json"), &"c".parse().unwrap(), text.as_bytes()), model(form)) {
        (Ok(definition), Some(model)) => Some((definition, model)),
        (Err(_), None) => None,
        (parsed, model) => panic!("{text}: taken {:?}, to be taken {}", parsed.map(drop), model.is_some()),
    }
}

fuzz_target!(|input: Input| {
    let Input { form, agent, kept, vault, approved } = input;
    let text = text(&form);
    let Some((definition, model)) = read(&form) else { return };
    let (policy, approved) = match &approved {
        Approved::NotRequired => (ApprovalPolicy::NotRequired, None),
        Approved::Nothing => (ApprovalPolicy::Required, None),
        Approved::This => (ApprovalPolicy::Required, Some((definition.canonical(), true))),
        Approved::Another(form) => {
            let Some((other, other_model)) = read(form) else { return };
            (ApprovalPolicy::Required, Some((other.canonical(), other_model == model)))
        }
    };
    let is_approved = policy == ApprovalPolicy::NotRequired || approved.as_ref().is_some_and(|(_, same)| *same);
    let looked_up = || Ok::<_, ()>(approved.map(|(text, _)| text));
    let definition = match review(&definition, policy, looked_up).unwrap() {
        Ok(reviewed) => reviewed,
        Err(unapproved) => {
            assert!(!is_approved, "{text}");
            assert!(!unapproved.lines().is_empty(), "{text}: nothing differs");
            let denials = unapproved.denials(&definition, &pick(&AGENTS, agent).parse().unwrap());
            return assert!(!denials.is_empty() && denials.iter().all(|denial| denial.reason == Reason::NotApproved));
        }
    };
    assert!(is_approved, "{text}");
    let agent = pick(&AGENTS, agent);
    let kept: BTreeSet<&str> = names(&kept).into_iter().collect();
    let facts = |name: &SecretName| {
        let Stored::There { scope, states, pinned } = stored(&vault, name.as_str()) else { return None };
        let mut record = Vault::new_record(name.clone(), 0);
        if let Some(chains) = scope {
            record.scope = Scope::Chains(chains.iter().map(|&chain| pick(&CHAINS, chain).parse().unwrap()).collect());
        }
        let current = states.iter().rposition(|state| *state == Held::Current);
        for (at, held) in states.iter().enumerate() {
            let state = match held {
                Held::Current if Some(at) == current => State::Current,
                Held::Current | Held::Previous => State::Previous,
                Held::Revoked => State::Revoked,
            };
            let number = u32::try_from(at + 1).unwrap();
            record.versions.push(Version { number, state, created: 0, sealed: no_value() });
        }
        Some(record.facts_for(pinned.map(u32::from)))
    };
    let kept_names: Vec<SecretName> = kept.iter().map(|name| name.parse().unwrap()).collect();
    let decision = decide(definition, &agent.parse().unwrap(), &kept_names, facts);

    let asked = match &model.agents {
        None => Some(model.list.iter().map(|name| (*name, *name)).collect()),
        Some(agents) => agents.get(agent).cloned(),
    };
    let Some(asked) = asked else {
        let Decision::Denied(denials) = decision else { panic!("granted to an agent that is not listed") };
        assert!(denials.iter().all(|denial| denial.secret.is_none() && denial.reason == Reason::UnknownAgent));
        return assert_eq!(denials.len(), 1);
    };
    let may = |secret: &str| {
        let stored = stored(&vault, secret);
        model.list.contains(secret) && in_scope(stored) && usable(stored).is_some()
    };
    let mut refused: BTreeSet<&str> = asked.values().copied().filter(|secret| !may(secret)).collect();
    refused.extend(kept.iter().filter(|kept| !asked.values().any(|secret| secret == *kept)));
    match decision {
        Decision::Granted(grants) => {
            assert!(refused.is_empty(), "{text}: granted, and to be refused: {refused:?}");
            assert_eq!(grants.len(), asked.len());
            for grant in grants {
                assert_eq!(asked[grant.variable().as_str()], grant.secret().as_str());
                assert_eq!(usable(stored(&vault, grant.secret().as_str())), Some(grant.version()));
            }
        }
        Decision::Denied(denials) => {
            let denied: BTreeSet<&str> =
                denials.iter().map(|denial| denial.secret.as_ref().unwrap().as_str()).collect();
            assert_eq!(denied, refused, "{text}");
            assert_eq!(denials.len(), refused.len(), "{text}: a secret is refused twice");
            for denial in &denials {
                let secret = denial.secret.as_ref().unwrap().as_str();
                assert!(is_true(&denial.reason, &model, &asked, &vault, secret), "{text}: {denial:?}");
            }
        }
    }
});
