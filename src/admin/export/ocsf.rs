//! Open Cybersecurity Schema Framework 1. docs/siem.md argues the classes.

use serde_json::{Value, json};

use super::meaning::{Level, Noun, Verb, level, message, noun, succeeded, verb};
use super::{Entry, long};
use crate::audit::Record;

/// The first version that has all these classes; later ones of 1 take the same events.
const VERSION: &str = "1.4.0";

/// Number and name of a category and of a class in it.
struct Class {
    category: (u32, &'static str),
    class: (u32, &'static str),
}

/// Attributes of other classes and profiles than the event's are null here, and so left out.
pub(super) fn event(entry: &Entry<'_>) -> Value {
    let record = entry.record;
    let (noun, verb) = (noun(record), verb(record));
    let Class { category, class } = class(noun);
    let activity = activity(noun, verb);
    let (status, severity) = (status(succeeded(record)), severity(level(record)));
    let is_log = noun == Noun::Log;
    json!({
        "category_uid": category.0,
        "category_name": category.1,
        "class_uid": class.0,
        "class_name": class.1,
        "activity_id": activity.0,
        "activity_name": activity.1.unwrap_or(&record.event),
        "type_uid": class.0 * 100 + activity.0,
        "time": entry.time().as_millisecond(),
        "message": message(record),
        "severity_id": severity.0,
        "severity": severity.1,
        "status_id": status.0,
        "status": status.1,
        "status_code": record.outcome,
        "status_detail": record.reason,
        "duration": record.milliseconds.map(long),
        "device": {"hostname": record.host, "type_id": 0, "type": "Unknown"},
        "actor": actor(record, noun),
        "observables": observables(record, noun),
        "metadata": metadata(entry),
        "raw_data": entry.original,
        "unmapped": rest(record),
        // Entity Management.
        "entity": entity(record, noun),
        // Process Activity.
        "process": (noun == Noun::Agent).then(|| json!({"pid": record.pid, "name": record.command})),
        "exit_code": record.status.filter(|_| noun == Noun::Agent),
        // Application Lifecycle.
        "app": (noun == Noun::Run).then(|| json!({"name": record.chain.as_deref().unwrap_or("run"), "uid": record.run})),
        // Event Log Activity.
        "log_name": is_log.then_some("access"),
        "log_provider": is_log.then_some("mentiko-exec"),
        "log_type_id": is_log.then_some(2),
        "log_type": is_log.then_some("Application"),
        // The profile Security Control: what was decided, by which chain's definition.
        "action_id": decision(record, (1, 2)),
        "action": decision(record, ("Allowed", "Denied")),
        "disposition_id": decision(record, (1, 2)),
        "disposition": decision(record, ("Allowed", "Blocked")),
        "policy": record.chain.as_ref().filter(|_| is_decision(record)).map(|chain| json!({"name": chain})),
    })
}

fn class(noun: Noun) -> Class {
    const IAM: (u32, &str) = (3, "Identity & Access Management");
    const SYSTEM: (u32, &str) = (1, "System Activity");
    match noun {
        Noun::Secret | Noun::Key | Noun::Chain | Noun::Instance => {
            Class { category: IAM, class: (3004, "Entity Management") }
        }
        Noun::Agent => Class { category: SYSTEM, class: (1007, "Process Activity") },
        Noun::Log => Class { category: SYSTEM, class: (1008, "Event Log Activity") },
        Noun::Run => Class { category: (6, "Application Activity"), class: (6002, "Application Lifecycle") },
        Noun::Other => Class { category: (0, "Uncategorized"), class: (0, "Base Event") },
    }
}

/// Number and name within the class. What has none is `Other`, named by the event itself.
fn activity(noun: Noun, verb: Verb) -> (u32, Option<&'static str>) {
    match (noun, verb) {
        (Noun::Agent, Verb::Start) => (1, Some("Launch")),
        (Noun::Agent, Verb::End) => (2, Some("Terminate")),
        (Noun::Run, Verb::Start) => (3, Some("Start")),
        (Noun::Run, Verb::End) => (4, Some("Stop")),
        (Noun::Log, Verb::Delete) => (2, Some("Delete")),
        (Noun::Agent | Noun::Run | Noun::Log | Noun::Other, _) => (99, None),
        (_, Verb::Create) => (1, Some("Create")),
        (_, Verb::Read) => (2, Some("Read")),
        (_, Verb::Update) => (3, Some("Update")),
        (_, Verb::Delete) => (4, Some("Delete")),
        (_, Verb::Enable) => (8, Some("Enable")),
        (_, Verb::Disable) => (9, Some("Disable")),
        (_, Verb::Start | Verb::End | Verb::Other) => (99, None),
    }
}

fn status(succeeded: Option<bool>) -> (u32, &'static str) {
    match succeeded {
        Some(true) => (1, "Success"),
        Some(false) => (2, "Failure"),
        None => (0, "Unknown"),
    }
}

fn severity(level: Level) -> (u32, &'static str) {
    match level {
        Level::Informational => (1, "Informational"),
        Level::Low => (2, "Low"),
        Level::Medium => (3, "Medium"),
    }
}

/// What was acted on, in the class Entity Management. A denial that came before any secret is one
/// of the vault.
fn entity(record: &Record, noun: Noun) -> Option<Value> {
    let entity = match (noun, &record.secret, &record.chain) {
        (Noun::Secret, Some(secret), _) => {
            let version = record.version.map(|version| version.to_string());
            json!({"type_id": 99, "type": "Secret", "name": secret, "version": version})
        }
        (Noun::Key, ..) => json!({"type_id": 99, "type": "Key", "name": "key", "uid": record.instance}),
        // The chain's definition is the policy that says which agent may have what.
        (Noun::Chain, _, Some(chain)) => {
            json!({"type_id": 5, "type": "Policy", "name": chain, "policy": {"name": chain}})
        }
        (Noun::Secret | Noun::Chain | Noun::Instance, ..) => {
            json!({"type_id": 99, "type": "Vault", "name": "vault", "uid": record.instance})
        }
        (Noun::Agent | Noun::Run | Noun::Log | Noun::Other, ..) => return None,
    };
    Some(entity)
}

fn actor(record: &Record, noun: Noun) -> Value {
    // In Process Activity the process is what is acted on.
    let process = match noun {
        Noun::Agent => Value::Null,
        _ => json!({"pid": record.pid, "name": record.command}),
    };
    json!({"app_name": record.agent, "user": {"uid": record.uid.to_string()}, "process": process})
}

fn observables(record: &Record, noun: Noun) -> Value {
    let host = json!({"name": "device.hostname", "type_id": 1, "type": "Hostname", "value": record.host});
    let Some(command) = &record.command else { return json!([host]) };
    let place = if noun == Noun::Agent { "process.name" } else { "actor.process.name" };
    json!([host, {"name": place, "type_id": 9, "type": "Process Name", "value": command}])
}

fn metadata(entry: &Entry<'_>) -> Value {
    let record = entry.record;
    let profiles: &[&str] = if is_decision(record) { &["host", "security_control"] } else { &["host"] };
    json!({
        "version": VERSION,
        "profiles": profiles,
        "product": {"name": "mentiko-exec", "vendor_name": "Mentiko", "version": env!("CARGO_PKG_VERSION")},
        "log_name": "access",
        "log_provider": "mentiko-exec",
        "log_version": record.v.to_string(),
        "event_code": record.event,
        "uid": entry.id(),
        "sequence": long(record.seq),
        "original_time": record.time,
        "correlation_uid": record.run,
    })
}

/// Whether the policy said yes or no to something.
fn is_decision(record: &Record) -> bool {
    decision(record, ((), ())).is_some()
}

/// One of these where something was granted, the other where it was denied.
fn decision<T>(record: &Record, (granted, denied): (T, T)) -> Option<T> {
    match record.outcome.as_str() {
        "granted" => Some(granted),
        "denied" => Some(denied),
        _ => None,
    }
}

/// What OCSF has no attribute for, under the names of docs/access-log.md; chain, agent and run
/// among it in every class, so that one query finds them.
fn rest(record: &Record) -> Value {
    json!({
        "chain": record.chain,
        "agent": record.agent,
        "run": record.run,
        "instance": record.instance,
        "generation": record.generation.map(long),
        "start": record.start.map(long),
        "fence": record.fence,
        "memory": record.memory,
        "prev": record.prev,
        "mac": record.mac,
    })
}
