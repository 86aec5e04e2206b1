//! What an event is about and what became of it, whatever the format.
//!
//! Taken from the two parts of an event's name, so that events of later versions find their place:
//! one that is unknown altogether is `Other`, and passed on all the same.

use crate::audit::Record;

/// What was acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noun {
    Secret,
    Key,
    Chain,
    Instance,
    Agent,
    Run,
    Log,
    Other,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Create,
    Update,
    Delete,
    Enable,
    Disable,
    Start,
    End,
    Other,
}

/// How much attention it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Informational,
    Low,
    Medium,
}

pub(super) fn noun(record: &Record) -> Noun {
    match parts(record).0 {
        "secret" => Noun::Secret,
        "key" => Noun::Key,
        "chain" => Noun::Chain,
        "instance" => Noun::Instance,
        "agent" | "launch" => Noun::Agent,
        "run" => Noun::Run,
        "log" => Noun::Log,
        _ => Noun::Other,
    }
}

pub(super) fn verb(record: &Record) -> Verb {
    match parts(record) {
        ("secret", "access") => Verb::Read,
        ("secret", "set") if record.version == Some(1) => Verb::Create,
        ("secret", "set" | "scope" | "schedule" | "rotate") | ("key", "rotate") => Verb::Update,
        ("instance", "init") | ("key", "add") => Verb::Create,
        ("secret" | "key" | "chain", "remove") | ("log", "pruned") => Verb::Delete,
        ("secret", "revoke" | "retire") => Verb::Disable,
        ("chain", "approve") => Verb::Enable,
        ("agent" | "run", "start") | ("launch", "failed") => Verb::Start,
        ("agent" | "run", "end") => Verb::End,
        _ => Verb::Other,
    }
}

fn parts(record: &Record) -> (&str, &str) {
    record.event.split_once('.').unwrap_or((&record.event, ""))
}

/// `Some(true)` where it came to what was asked, `None` where the outcome is unknown.
pub(super) fn succeeded(record: &Record) -> Option<bool> {
    match record.outcome.as_str() {
        "granted" | "done" => Some(true),
        "denied" | "failed" => Some(false),
        _ => None,
    }
}

/// Denials, and whatever shortens or repairs the log, are looked at by a person; changes of who may
/// have what are worth a line in a report.
pub(super) fn level(record: &Record) -> Level {
    match (record.outcome.as_str(), noun(record), verb(record)) {
        ("denied", ..) | (_, Noun::Log, _) => Level::Medium,
        ("granted", ..) | ("done", Noun::Secret, Verb::Create) => Level::Informational,
        ("done", Noun::Agent | Noun::Run | Noun::Instance, _) => Level::Informational,
        _ => Level::Low,
    }
}

/// What the event is called. One that is unknown is called as it calls itself.
pub(super) fn title(record: &Record) -> &str {
    match (record.event.as_str(), record.outcome.as_str()) {
        ("secret.access", "granted") => "Secret access granted",
        ("secret.access", "denied") => "Secret access denied",
        ("secret.set", _) => "Secret value stored",
        ("secret.rotate", _) => "Secret rotated",
        ("secret.revoke", _) => "Secret version revoked",
        ("secret.retire", _) => "Secret version retired",
        ("secret.remove", _) => "Secret removed",
        ("secret.scope", _) => "Secret scope changed",
        ("secret.schedule", _) => "Secret rotation schedule changed",
        ("agent.start", _) => "Agent started without secrets",
        ("agent.end", _) => "Agent ended",
        ("launch.failed", _) => "Launch failed after its grants",
        ("run.start", _) => "Run started",
        ("run.end", _) => "Run ended",
        ("chain.approve", _) => "Chain definition approved",
        ("key.add", _) => "Key slot added",
        ("key.remove", _) => "Key slot removed",
        ("key.rotate", _) => "Instance key rotated",
        ("instance.init", _) => "Instance made",
        ("log.recovered", _) => "Access log recovered from an unfinished line",
        ("log.pruned", _) => "Access log pruned",
        (event, _) => event,
    }
}

/// One sentence for a person who reads a list of events.
pub(super) fn message(record: &Record) -> String {
    let mut text = title(record).to_owned();
    if let Some(secret) = &record.secret {
        text += &format!(": {secret}");
    }
    if let Some(version) = record.version {
        text += &format!(" version {version}");
    }
    match (&record.chain, &record.agent) {
        (Some(chain), Some(agent)) => text += &format!(" ({chain}/{agent})"),
        (Some(name), None) | (None, Some(name)) => text += &format!(" ({name})"),
        (None, None) => {}
    }
    if let Some(reason) = &record.reason {
        text += &format!(": {reason}");
    }
    text
}
