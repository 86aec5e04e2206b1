//! ArcSight Common Event Format, version 0 of its header, keys of its dictionary.

use super::ecs::severity;
use super::meaning::{level, message, succeeded, title};
use super::{Entry, long};
use crate::audit::Record;

pub(super) fn line(entry: &Entry<'_>) -> String {
    let record = entry.record;
    let mut line = "CEF:0".to_owned();
    let version = env!("CARGO_PKG_VERSION");
    for field in ["Mentiko", "mentiko-exec", version, &signature(record), title(record)] {
        line.push('|');
        // No field of the header may be empty.
        let field = if field.is_empty() { "-" } else { field };
        escape(&mut line, cut(field, 512), Place::Header);
    }
    line += &format!("|{}|rt={}", severity(level(record)), entry.time().as_millisecond());
    for (key, value, limit) in extension(entry) {
        // A key without a value is as good as none.
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        line += &format!(" {key}=");
        escape(&mut line, cut(&value, limit), Place::Extension);
    }
    line
}

/// What rules tell events apart by. Granted and denied are two.
fn signature(record: &Record) -> String {
    match record.outcome.as_str() {
        outcome @ ("granted" | "denied") => format!("{}.{outcome}", record.event),
        _ => record.event.clone(),
    }
}

type Pair = (&'static str, Option<String>, usize);

/// Keys, values, and how long the dictionary lets each be.
fn extension(entry: &Entry<'_>) -> Vec<Pair> {
    let record = entry.record;
    let outcome = succeeded(record).map(|succeeded| if succeeded { "success" } else { "failure" });
    let mut pairs = vec![
        ("externalId", Some(record.seq.to_string()), 40),
        ("act", Some(record.event.clone()), 63),
        ("outcome", Some(outcome.unwrap_or("unknown").to_owned()), 63),
        ("reason", record.reason.clone(), 1023),
        ("msg", Some(message(record)), 1023),
        ("dvchost", Some(record.host.clone()), 100),
        ("shost", Some(record.host.clone()), 1023),
        ("suid", Some(record.uid.to_string()), 1023),
        ("spid", Some(record.pid.to_string()), 20),
        ("sproc", record.command.clone(), 1023),
    ];
    for (key, label_key, label, value) in custom(entry) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            pairs.push((label_key, Some(label.to_owned()), 1023));
            pairs.push((key, Some(value), 1023));
        }
    }
    pairs
}

/// The keys that each product names itself: key, its label's key, the label, the value.
fn custom(entry: &Entry<'_>) -> [(&'static str, &'static str, &'static str, Option<String>); 13] {
    let record = entry.record;
    let number = |number: Option<u64>| number.map(|number| long(number).to_string());
    [
        ("cs1", "cs1Label", "secret", record.secret.clone()),
        ("cs2", "cs2Label", "chain", record.chain.clone()),
        ("cs3", "cs3Label", "agent", record.agent.clone()),
        ("cs4", "cs4Label", "run", record.run.clone()),
        ("cs5", "cs5Label", "instance", Some(record.instance.clone())),
        ("cs6", "cs6Label", "record", Some(entry.id())),
        ("cn1", "cn1Label", "version", number(record.version.map(u64::from))),
        ("cn2", "cn2Label", "generation", number(record.generation)),
        ("cn3", "cn3Label", "status", number(record.status.map(u64::from))),
        ("flexString1", "flexString1Label", "fence", record.fence.clone()),
        ("flexString2", "flexString2Label", "memory", record.memory.clone()),
        ("flexNumber1", "flexNumber1Label", "start", number(record.start)),
        ("flexNumber2", "flexNumber2Label", "milliseconds", number(record.milliseconds)),
    ]
}

/// So many characters of the text at most.
fn cut(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Extension,
}

/// CEF has escapes for few characters. The other controls, and what ends a line for some reader,
/// are written as Rust writes them, `\u{2028}`, with the backslash escaped as any other.
fn escape(out: &mut String, text: &str, place: Place) {
    for c in text.chars() {
        match (c, place) {
            ('\\', _) => out.push_str("\\\\"),
            ('|', Place::Header) => out.push_str("\\|"),
            ('=', Place::Extension) => out.push_str("\\="),
            ('\n', Place::Extension) => out.push_str("\\n"),
            ('\r', Place::Extension) => out.push_str("\\r"),
            (c, _) if steers(c) => out.push_str(&format!("\\\\u{{{:x}}}", u32::from(c))),
            (c, _) => out.push(c),
        }
    }
}

/// Controls, line and paragraph separators, marks of direction.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
