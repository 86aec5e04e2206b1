//! Any text as a chain's definition: whoever reads it with another JSON parser sees that each agent
//! asks for just what it would get; and no refusal shows a credential.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mentiko_exec::policy::{AgentName, Definition, is_reserved, looks_like_credential};
use serde_json::Value;

/// Variable to secret.
type Asked = BTreeMap<String, String>;

fn asked(entry: &Value) -> Asked {
    match entry {
        Value::Null => Asked::new(),
        Value::Array(names) => {
            names.iter().map(|name| (name.as_str().unwrap().into(), name.as_str().unwrap().into())).collect()
        }
        Value::Object(map) => {
            map.iter().map(|(variable, secret)| (variable.clone(), secret.as_str().unwrap().into())).collect()
        }
        other => panic!("taken: {other}"),
    }
}

/// The agents, with what each asks for; `None` where any agent gets the list.
fn agents(definition: &Value) -> Option<BTreeMap<String, Asked>> {
    let step = |step: &Value| (step["agent"].as_str().unwrap().to_owned(), asked(&step["env"]));
    if definition.get("agent").is_some() {
        return Some([step(definition)].into());
    }
    match definition.get("agents")? {
        Value::Array(steps) => Some(steps.iter().map(step).collect()),
        Value::Object(entries) => Some(
            entries
                .iter()
                .map(|(name, entry)| match entry {
                    Value::Array(_) => (name.clone(), asked(entry)),
                    Value::Object(_) => (name.clone(), asked(&entry["env"])),
                    other => panic!("taken: {other}"),
                })
                .collect(),
        ),
        other => panic!("taken: {other}"),
    }
}

fn holds_credential(value: &Value) -> bool {
    match value {
        Value::String(text) => looks_like_credential(text),
        Value::Array(elements) => elements.iter().any(holds_credential),
        Value::Object(members) => {
            members.iter().any(|(name, value)| looks_like_credential(name) || holds_credential(value))
        }
        _ => false,
    }
}

fuzz_target!(|text: &[u8]| {
    let definition = match Definition::parse(Path::new("c.json"), &"c".parse().unwrap(), text) {
        Ok(definition) => definition,
        Err(error) => {
            assert!(!looks_like_credential(&error.to_string()), "the refusal shows it");
            return;
        }
    };
    let value: Value = serde_json::from_slice(text).unwrap();
    assert!(!holds_credential(&value));
    assert!(value.get("chain").is_none_or(|chain| chain == "c"));
    let known = |agent: &AgentName| -> Asked {
        let requests = definition.requests(agent).unwrap();
        requests.iter().map(|request| (request.variable.to_string(), request.secret.to_string())).collect()
    };
    let secrets: BTreeSet<String> = definition.secrets().iter().map(ToString::to_string).collect();
    match agents(&value) {
        Some(expected) => {
            let listed = definition.agents().unwrap();
            assert_eq!(listed.len(), expected.len());
            for (name, requests) in &expected {
                assert_eq!(known(&name.parse().unwrap()), *requests);
            }
            assert!(
                expected.contains_key("not-listed") || definition.requests(&"not-listed".parse().unwrap()).is_none()
            );
        }
        None => assert_eq!(known(&"anyone".parse().unwrap()), asked(&value["secrets"])),
    }
    match value.get("agent") {
        None => assert_eq!(secrets, asked(&value["secrets"]).into_values().collect()),
        Some(_) => assert_eq!(secrets, asked(&value["env"]).into_values().collect()),
    }
    assert!(definition.variables().all(|variable| !is_reserved(variable.as_str())));
});
