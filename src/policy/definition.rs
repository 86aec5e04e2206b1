//! Chain definitions: which secrets a chain needs, and how they are split among its agents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{AgentName, ChainName, Error, SecretName, VariableName, looks_like_credential};
use crate::instance::{self, Access, Tree, kind_of, read_trusted};

/// One secret that an agent asks for, and the variable that is to hold it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The variable in the agent's environment.
    pub variable: VariableName,
    /// The secret in the vault.
    pub secret: SecretName,
}

/// A chain definition that was read from a trusted file and is well formed.
///
/// There is no other way to make one than [`Definition::open`] and [`Definition::parse`].
#[derive(Clone, Debug)]
pub struct Definition {
    chain: ChainName,
    path: PathBuf,
    secrets: BTreeSet<SecretName>,
    agents: Agents,
    #[cfg_attr(not(feature = "admin"), allow(dead_code))]
    pub(super) warnings: Vec<String>,
}

#[derive(Clone, Debug)]
enum Agents {
    /// No `agents` at all: every agent gets the chain's whole list.
    Any(Vec<Request>),
    /// These, and no others.
    Listed(BTreeMap<AgentName, Vec<Request>>),
}

/// The fields that are ours; all others belong to the orchestrator.
const TOP_FIELDS: &[&str] = &["chain", "secrets", "agents", "agent", "env"];

/// The file that defines a chain.
pub fn path_of(chains: &Path, chain: &ChainName) -> PathBuf {
    chains.join(format!("{chain}.json"))
}

impl Definition {
    /// Reads and checks the definition of a chain in this folder.
    pub fn open(chains: &Path, chain: &ChainName) -> Result<Self, Error> {
        let path = path_of(chains, chain);
        match read_trusted(&path, Access::OthersRead) {
            Ok(text) => Self::parse(&path, chain, &text),
            Err(instance::Error::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::UnknownChain { chain: chain.clone(), path })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Checks the text of a definition. `path` stands in messages only.
    pub fn parse(path: &Path, chain: &ChainName, text: &[u8]) -> Result<Self, Error> {
        Tree::parse(text)
            .and_then(|tree| Self::from_tree(path, chain, &tree))
            .map_err(|fault| Error::Definition { path: path.to_owned(), fault: without_values(fault) })
    }

    fn from_tree(path: &Path, chain: &ChainName, tree: &Tree) -> Result<Self, String> {
        let Tree::Object(members) = tree else {
            return Err(format!("the definition is {}, not an object", kind_of(tree)));
        };
        refuse_values(tree)?;
        match tree.get("chain") {
            None => {}
            Some(Tree::String(name)) if name == chain.as_str() => {}
            Some(Tree::String(name)) => {
                let name = name.escape_debug();
                return Err(format!("'chain' is '{name}', but the file is named for '{chain}'; make them equal"));
            }
            Some(other) => return Err(format!("'chain' is {}, not a string", kind_of(other))),
        }
        let warnings = near_misses(members, TOP_FIELDS, "");
        let (secrets, agents) = match tree.get("agent") {
            Some(_) => from_step(tree)?,
            None => from_lists(tree, &warnings)?,
        };
        Ok(Self { chain: chain.clone(), path: path.to_owned(), secrets, agents, warnings })
    }

    /// The chain that it defines.
    pub fn chain(&self) -> &ChainName {
        &self.chain
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The chain's list of secrets.
    pub fn secrets(&self) -> &BTreeSet<SecretName> {
        &self.secrets
    }

    /// What the agent asks for; `None` for an agent that the definition does not list.
    pub fn requests(&self, agent: &AgentName) -> Option<&[Request]> {
        match &self.agents {
            Agents::Any(requests) => Some(requests),
            Agents::Listed(agents) => agents.get(agent).map(Vec::as_slice),
        }
    }

    /// The listed agents with what they ask for; `None` where any agent gets the chain's list.
    pub fn agents(&self) -> Option<&BTreeMap<AgentName, Vec<Request>>> {
        match &self.agents {
            Agents::Any(_) => None,
            Agents::Listed(agents) => Some(agents),
        }
    }

    /// Each agent with what it asks for; one entry without a name where any agent gets the chain's list.
    pub fn entries(&self) -> Vec<(Option<&AgentName>, &[Request])> {
        match &self.agents {
            Agents::Any(requests) => vec![(None, requests)],
            Agents::Listed(agents) => agents.iter().map(|(name, requests)| (Some(name), requests.as_slice())).collect(),
        }
    }

    /// The variables that the definition fills for some agent; one for several may come several times.
    pub fn variables(&self) -> impl Iterator<Item = &VariableName> {
        self.entries().into_iter().flat_map(|(_, requests)| requests).map(|request| &request.variable)
    }
}

/// The chain's list, and how it is split.
fn from_lists(tree: &Tree, warnings: &[String]) -> Result<(BTreeSet<SecretName>, Agents), String> {
    if tree.get("env").is_some() {
        return Err("'env' stands at the top without 'agent'; put it into the agent's entry".into());
    }
    let listed = tree.get("secrets").ok_or_else(|| match warnings {
        [] => "the field 'secrets' is missing: list the secrets that the chain needs".into(),
        some => some.join("; "),
    })?;
    let secrets = secret_list(listed)?;
    match tree.get("agents") {
        // A misspelled `agents` must not hand the whole list to every agent.
        None if !warnings.is_empty() => Err(warnings.join("; ")),
        None => Ok((secrets, Agents::Any(requests(listed, "secrets")?))),
        Some(agents) => Ok((secrets, Agents::Listed(agent_table(agents)?))),
    }
}

/// The step form on its own: what its one agent names is the chain's list.
fn from_step(tree: &Tree) -> Result<(BTreeSet<SecretName>, Agents), String> {
    if let Some(field) = ["agents", "secrets"].into_iter().find(|field| tree.get(field).is_some()) {
        return Err(format!("'agent' and '{field}' both stand at the top; keep one of the two forms"));
    }
    let (name, requests) = step(tree, "")?;
    let mut secrets = BTreeSet::new();
    secrets.extend(requests.iter().map(|request| request.secret.clone()));
    Ok((secrets, Agents::Listed(BTreeMap::from([(name, requests)]))))
}

fn agent_table(tree: &Tree) -> Result<BTreeMap<AgentName, Vec<Request>>, String> {
    let entry = |(name, entry): &(String, Tree)| {
        Ok((name.parse().map_err(|error| format!("agents: {error}"))?, entry_of(name, entry)?))
    };
    let entries: Vec<(AgentName, Vec<Request>)> = match tree {
        Tree::Object(members) => members.iter().map(entry).collect::<Result<_, String>>()?,
        Tree::Array(steps) => {
            let step = |(at, tree)| step(tree, &format!("agents[{at}]: "));
            steps.iter().enumerate().map(step).collect::<Result<_, _>>()?
        }
        other => return Err(format!("'agents' is {}, neither an object nor an array", kind_of(other))),
    };
    let mut table = BTreeMap::new();
    for (name, requests) in entries {
        if table.contains_key(&name) {
            return Err(format!("agents: '{name}' stands twice; give it one entry with all it needs"));
        }
        table.insert(name, requests);
    }
    Ok(table)
}

/// An agent's entry in the object form: a list, or an object with `env`.
fn entry_of(name: &str, entry: &Tree) -> Result<Vec<Request>, String> {
    let name = name.escape_debug();
    match entry {
        Tree::Array(_) => requests(entry, &format!("agents.{name}")),
        Tree::Object(members) => {
            if let Some(warning) = near_misses(members, &["env"], &format!("agents.{name}.")).pop() {
                return Err(warning);
            }
            entry.get("env").map_or(Ok(Vec::new()), |env| requests(env, &format!("agents.{name}.env")))
        }
        other => Err(format!("agents.{name} is {}, neither a list nor an object", kind_of(other))),
    }
}

/// A step: `{"agent": NAME, "env": ...}` with whatever the orchestrator adds.
fn step(tree: &Tree, place: &str) -> Result<(AgentName, Vec<Request>), String> {
    let name = match tree.get("agent") {
        Some(Tree::String(name)) => name.parse().map_err(|error| format!("{place}{error}"))?,
        Some(other) => return Err(format!("{place}'agent' is {}, not a string", kind_of(other))),
        None => return Err(format!("{place}the field 'agent' is missing")),
    };
    let requests = tree.get("env").map_or(Ok(Vec::new()), |env| requests(env, &format!("{place}env")))?;
    Ok((name, requests))
}

/// A list names secrets that become variables of the same name; a map gives VARIABLE: secret.
fn requests(tree: &Tree, place: &str) -> Result<Vec<Request>, String> {
    let named: Vec<(String, Option<&str>, &Tree)> = match tree {
        Tree::Array(secrets) => {
            secrets.iter().enumerate().map(|(at, secret)| (format!("{place}[{at}]"), None, secret)).collect()
        }
        Tree::Object(members) => {
            let place = |variable: &str| format!("{place}.{}", variable.escape_debug());
            members.iter().map(|(variable, secret)| (place(variable), Some(variable.as_str()), secret)).collect()
        }
        other => return Err(format!("'{place}' is {}, not a list of secrets", kind_of(other))),
    };
    let mut requests = BTreeMap::new();
    for (at, variable, secret) in named {
        let secret = secret_name(secret, &at)?;
        let variable = variable.unwrap_or(secret.as_str());
        let variable: VariableName = variable.parse().map_err(|error| format!("{at}: {error}"))?;
        if requests.contains_key(&variable) {
            return Err(format!("{place}: '{variable}' stands twice; keep one"));
        }
        requests.insert(variable, secret);
    }
    Ok(requests.into_iter().map(|(variable, secret)| Request { variable, secret }).collect())
}

fn secret_list(tree: &Tree) -> Result<BTreeSet<SecretName>, String> {
    let Tree::Array(elements) = tree else {
        return Err(format!("'secrets' is {}, not a list of secrets", kind_of(tree)));
    };
    let mut set = BTreeSet::new();
    for (at, element) in elements.iter().enumerate() {
        if let Some(name) = set.replace(secret_name(element, &format!("secrets[{at}]"))?) {
            return Err(format!("secrets: '{name}' stands twice; keep one"));
        }
    }
    Ok(set)
}

fn secret_name(tree: &Tree, place: &str) -> Result<SecretName, String> {
    let name = tree.as_str().ok_or_else(|| format!("{place} is {}, not a string", kind_of(tree)))?;
    name.parse().map_err(|error| format!("{place}: {error}"))
}

/// A definition holds names. What looks like a value is refused, and not shown.
fn refuse_values(tree: &Tree) -> Result<(), String> {
    match tree.strings().into_iter().any(looks_like_credential) {
        false => Ok(()),
        true => Err(LOOKS_LIKE_VALUE.into()),
    }
}

const LOOKS_LIKE_VALUE: &str =
    "a text in it looks like a credential; store it with 'mentiko secret set' and name it here";

/// A fault that was found before [`refuse_values`] could look: it may show a text of the definition.
fn without_values(fault: String) -> String {
    match looks_like_credential(&fault) {
        true => LOOKS_LIKE_VALUE.into(),
        false => fault,
    }
}

/// Members whose names are one slip away from a field of ours.
fn near_misses(members: &[(String, Tree)], fields: &[&str], place: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, _) in members.iter().filter(|(name, _)| !fields.contains(&name.as_str())) {
        let near = |field: &&&str| is_near(&name.to_ascii_lowercase(), field);
        if let Some(field) = fields.iter().find(near) {
            found.push(format!("unknown field '{place}{}'; did you mean '{field}'?", name.escape_debug()));
        }
    }
    found
}

/// One slip away: case, a plural, two letters swapped, or (in words of 5 letters and more) one letter
/// missing, added or another; two such slips in words of 7 and more.
fn is_near(name: &str, field: &str) -> bool {
    let swapped = || {
        let count = |word: &str, letter| word.chars().filter(|&one| one == letter).count();
        name.len() == field.len() && field.chars().all(|letter| count(name, letter) == count(field, letter))
    };
    let allowed = match field.len() {
        ..=4 => return name == field || name == format!("{field}s") || swapped(),
        5..=6 => 1,
        _ => 2,
    };
    name.chars().count() <= 16 && strsim::osa_distance(name, field) <= allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(text: &str) -> Result<Definition, String> {
        Definition::parse(Path::new("chains/c.json"), &"c".parse().unwrap(), text.as_bytes())
            .map_err(|error| error.to_string())
    }

    fn asked(definition: &Definition, agent: &str) -> Option<Vec<String>> {
        let requests = definition.requests(&agent.parse().unwrap())?;
        Some(requests.iter().map(|request| format!("{}={}", request.variable, request.secret)).collect())
    }

    #[test]
    fn lists_and_maps_split_the_secrets() {
        let definition = definition(
            r#"{ "chain": "c", "secrets": ["OPENAI_API_KEY", "SLACK"], "description": "x",
                 "agents": { "researcher": ["OPENAI_API_KEY"],
                             "publisher": {"env": {"SLACK_WEBHOOK": "slack/marketing"}, "prompt": "post"},
                             "logger": {"command": "tee"} } }"#,
        )
        .unwrap();
        assert_eq!(asked(&definition, "researcher").unwrap(), ["OPENAI_API_KEY=OPENAI_API_KEY"]);
        assert_eq!(asked(&definition, "publisher").unwrap(), ["SLACK_WEBHOOK=slack/marketing"]);
        assert_eq!(asked(&definition, "logger").unwrap(), Vec::<String>::new());
        assert_eq!(asked(&definition, "other"), None);
        let variables: BTreeSet<&str> = definition.variables().map(VariableName::as_str).collect();
        assert_eq!(variables, ["OPENAI_API_KEY", "SLACK_WEBHOOK"].into());
        assert!(definition.warnings().is_empty());
    }

    #[test]
    fn steps_are_accepted_alone_and_in_an_array() {
        let alone = definition(r#"{"agent": "r", "env": ["K"], "prompt": "..."}"#).unwrap();
        assert_eq!(asked(&alone, "r").unwrap(), ["K=K"]);
        assert!(alone.secrets().contains(&"K".parse().unwrap()));
        let array = definition(
            r#"{"secrets": ["K"], "agents": [{"agent": "r", "env": ["K"]}, {"agent": "p", "prompt": "x"}]}"#,
        )
        .unwrap();
        assert_eq!(asked(&array, "r").unwrap(), ["K=K"]);
        assert_eq!(asked(&array, "p").unwrap(), Vec::<String>::new());
        assert_eq!(array.agents().unwrap().keys().map(AgentName::as_str).collect::<Vec<_>>(), ["p", "r"]);
        assert!(array.agents().is_some());
    }

    #[test]
    fn a_chain_without_a_file_is_unknown_and_one_that_can_not_be_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let open = |chain: &str| Definition::open(folder.path(), &chain.parse().unwrap());
        std::fs::write(folder.path().join("c.json"), r#"{"secrets": []}"#).unwrap();
        std::fs::create_dir(folder.path().join("folder.json")).unwrap();
        assert_eq!(open("c").unwrap().path(), folder.path().join("c.json"));
        assert!(matches!(open("absent"), Err(Error::UnknownChain { chain, .. }) if chain.as_str() == "absent"));
        assert!(matches!(open("folder"), Err(Error::Instance(_))));
        let below_a_file = Definition::open(&folder.path().join("c.json"), &"c".parse().unwrap());
        assert!(matches!(below_a_file, Err(Error::Instance(instance::Error::File { .. }))));
    }

    #[test]
    fn without_agents_each_gets_the_list() {
        let definition = definition(r#"{"secrets": ["A", "B"]}"#).unwrap();
        assert_eq!(asked(&definition, "anyone").unwrap(), ["A=A", "B=B"]);
        assert!(matches!(definition.entries()[..], [(None, [_, _])]));
        assert!(definition.agents().is_none());
    }

    #[test]
    fn faults_are_named() {
        for (text, part) in [
            ("[]", "is an array, not an object"),
            (r#"{"chain":"d","secrets":[]}"#, "named for 'c'"),
            (r#"{"chain":1,"secrets":[]}"#, "'chain' is a number"),
            (r#"{}"#, "'secrets' is missing"),
            (r#"{"secerts":["A"]}"#, "did you mean 'secrets'"),
            (r#"{"secret":["A"]}"#, "did you mean 'secrets'"),
            (r#"{"secrets":["A"],"agnets":{"r":["A"]}}"#, "did you mean 'agents'"),
            (r#"{"secrets":["A"],"Agents":{"r":["A"]}}"#, "did you mean 'agents'"),
            (r#"{"secrets":["A"],"agents":{"r":{"evn":["A"]}}}"#, "did you mean 'env'"),
            (r#"{"secrets":["A"],"agents":{"r":{"envs":["A"]}}}"#, "did you mean 'env'"),
            (r#"{"secrets":{"A":"a"}}"#, "not a list of secrets"),
            (r#"{"secrets":["A","A"]}"#, "stands twice"),
            (r#"{"secrets":["A"],"agents":{"r":["A"],"r":[]}}"#, "stands twice"),
            (r#"{"secrets":["A"],"agents":[{"agent":"r"},{"agent":"r"}]}"#, "'r' stands twice"),
            (r#"{"secrets":["A"],"agents":{"r":["A","A"]}}"#, "agents.r: 'A' stands twice"),
            (r#"{"secrets":["A"],"agents":[{"env":["A"]}]}"#, "agents[0]: the field 'agent' is missing"),
            (r#"{"secrets":["A"],"agents":{"a b":[]}}"#, "'a b' is no name"),
            (r#"{"secrets":["A"],"agents":"r"}"#, "neither an object nor an array"),
            (r#"{"secrets":["A"],"agents":{"r":"A"}}"#, "agents.r is a string"),
            (r#"{"secrets":["A"],"agents":{"r":[1]}}"#, "agents.r[0] is a number"),
            (r#"{"secrets":["A"],"agents":{"r":{"env":{"LD_PRELOAD":"A"}}}}"#, "agents.r.env.LD_PRELOAD"),
            (r#"{"secrets":["LD_PRELOAD"]}"#, "can't be set from a secret"),
            (r#"{"secrets":["slack/marketing"]}"#, "can't be a variable"),
            (r#"{"agent":"r","agents":{}}"#, "keep one of the two forms"),
            (r#"{"env":["A"],"secrets":["A"]}"#, "'env' stands at the top"),
            (r#"{"secrets":["A"],"prompt":"use sk-proj-4f9aK2mQx81LzP0aYtR7"}"#, "looks like a credential"),
            // Found by fuzzing: JSON is refused before its texts are looked at.
            (r#"{"sk-proj-4f9aK2mQx81LzP0aYtR7":1,"sk-proj-4f9aK2mQx81LzP0aYtR7":2}"#, "looks like a credential"),
        ] {
            let error = definition(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("4f9aK2mQx"), "{error}");
            assert!(error.starts_with("chains/c.json: "), "{error}");
        }
    }

    #[test]
    fn a_slip_that_widens_nothing_is_a_warning() {
        let definition = definition(r#"{"secrets":["A"],"agents":{"r":["A"]},"secret":["A"]}"#).unwrap();
        assert_eq!(definition.warnings(), ["unknown field 'secret'; did you mean 'secrets'?"]);
    }

    #[test]
    fn the_orchestrators_fields_are_left_alone() {
        let definition = definition(
            r#"{"secrets":["A"],"agents":{"r":["A"]},"command":"x","schedule":"daily","prompt":"p","end":1,"events":2,"environment":3}"#,
        )
        .unwrap();
        assert!(definition.warnings().is_empty(), "{:?}", definition.warnings());
    }
}
