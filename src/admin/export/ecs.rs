//! Elastic Common Schema 8.

use serde_json::{Value, json};

use super::meaning::{Level, Noun, Verb, level, message, noun, succeeded, verb};
use super::{Entry, long};

/// The version whose fields these are; later ones of 8 and 9 have them too.
const VERSION: &str = "8.11.0";

pub(super) fn event(entry: &Entry<'_>) -> Value {
    let record = entry.record;
    json!({
        "@timestamp": format!("{:.6}", entry.time()),
        "ecs": {"version": VERSION},
        "message": message(record),
        "event": {
            "kind": "event",
            "category": category(noun(record)).map(|category| [category]),
            "type": [kind(noun(record), verb(record))],
            "action": record.event,
            "outcome": outcome(succeeded(record)),
            "reason": record.reason,
            "severity": severity(level(record)),
            "sequence": long(record.seq),
            "module": "mentiko",
            "dataset": "mentiko.access",
            "provider": "mentiko-exec",
            "duration": record.milliseconds.map(|milliseconds| long(milliseconds.saturating_mul(1_000_000))),
            "id": entry.id(),
            "hash": entry.hash,
            "original": entry.original,
        },
        "host": {"hostname": record.host},
        "related": {"hosts": [record.host]},
        "user": {"id": record.uid.to_string()},
        "process": {"pid": record.pid, "name": record.command, "exit_code": record.status},
        "mentiko": rest(entry),
    })
}

/// What ECS has no field for, under the names of docs/access-log.md.
fn rest(entry: &Entry<'_>) -> Value {
    let record = entry.record;
    json!({
        "outcome": record.outcome,
        "chain": record.chain,
        "agent": record.agent,
        "run": record.run,
        "secret": record.secret,
        "version": record.version,
        "instance": record.instance,
        "generation": record.generation.map(long),
        "start": record.start.map(long),
        "fence": record.fence,
        "memory": record.memory,
        "prev": record.prev,
        "mac": record.mac,
    })
}

/// Secrets, keys and chains are the configuration of agents: the one category that knows reading,
/// making, changing and removing alike.
fn category(noun: Noun) -> Option<&'static str> {
    match noun {
        Noun::Secret | Noun::Key | Noun::Chain | Noun::Instance => Some("configuration"),
        Noun::Agent | Noun::Run => Some("process"),
        Noun::Log => Some("file"),
        Noun::Other => None,
    }
}

/// Each is among those that ECS expects in the category.
fn kind(noun: Noun, verb: Verb) -> &'static str {
    match (noun, verb) {
        (_, Verb::Read) => "access",
        (_, Verb::Create) => "creation",
        (_, Verb::Update | Verb::Enable | Verb::Disable) => "change",
        (_, Verb::Delete) => "deletion",
        (_, Verb::Start) => "start",
        (_, Verb::End) => "end",
        (Noun::Log, Verb::Other) => "change",
        (_, Verb::Other) => "info",
    }
}

fn outcome(succeeded: Option<bool>) -> &'static str {
    match succeeded {
        Some(true) => "success",
        Some(false) => "failure",
        None => "unknown",
    }
}

/// The scale of CEF, so that one rule reads both.
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::Informational => 1,
        Level::Low => 3,
        Level::Medium => 6,
    }
}
