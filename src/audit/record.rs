//! The shape of a line.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

pub(super) use base16ct::lower::encode_string as hex;

use super::{Error, Origin};
use crate::vault::{AuditKey, sha256};

/// What a record tells of, as the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Event(pub(super) &'static str);

impl Event {
    /// A launch asked for a secret.
    pub const SECRET_ACCESS: Self = Self("secret.access");
    /// A launch of an agent to which the chain grants nothing.
    pub const AGENT_START: Self = Self("agent.start");
    /// execve(2) failed after its grants were recorded: the agent never ran.
    pub const LAUNCH_FAILED: Self = Self("launch.failed");
    /// A supervised agent ended.
    pub const AGENT_END: Self = Self("agent.end");
    /// A writer died in the middle of a line; the line before is what it left.
    pub const LOG_RECOVERED: Self = Self("log.recovered");
}

/// How it came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The agent gets the secret.
    Granted,
    /// It does not.
    Denied,
    /// A change by a person or by this program.
    Done,
    /// A launch that came to nothing.
    Failed,
}

/// What a caller says of one event; the log adds time, sequence, origin and chain.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What happened.
    pub event: Event,
    /// How it came out.
    pub outcome: Outcome,
    /// The chain.
    pub chain: Option<&'a str>,
    /// The agent.
    pub agent: Option<&'a str>,
    /// The run.
    pub run: Option<&'a str>,
    /// The secret.
    pub secret: Option<&'a str>,
    /// Its version.
    pub version: Option<u32>,
    /// Why, where something was refused or failed.
    pub reason: Option<&'a str>,
    /// The vault's generation.
    pub generation: Option<u64>,
    /// The base name of argv\[0\]; arguments may hold data.
    pub command: Option<&'a str>,
    /// What keeps the agent from the instance's files.
    pub fence: Option<&'a str>,
    /// What the values lay in.
    pub memory: Option<&'a str>,
    /// The exit status of an agent that ended.
    pub status: Option<u8>,
    /// How long it ran.
    pub milliseconds: Option<u64>,
}

impl Entry<'_> {
    /// An entry that says nothing but what happened.
    pub fn new(event: Event, outcome: Outcome) -> Self {
        Entry {
            event,
            outcome,
            chain: None,
            agent: None,
            run: None,
            secret: None,
            version: None,
            reason: None,
            generation: None,
            command: None,
            fence: None,
            memory: None,
            status: None,
            milliseconds: None,
        }
    }
}

/// A line as it was read back.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(feature = "admin"), allow(dead_code))] // Each must be there for it to be a record.
#[allow(missing_docs)] // The fields are those of docs/access-log.md.
pub struct Record {
    pub v: u8,
    pub seq: u64,
    pub time: String,
    /// As text: a reader passes on events that it does not know.
    pub event: String,
    pub outcome: String,
    pub chain: Option<String>,
    pub agent: Option<String>,
    pub run: Option<String>,
    pub secret: Option<String>,
    pub version: Option<u32>,
    pub reason: Option<String>,
    pub instance: String,
    pub generation: Option<u64>,
    pub host: String,
    pub uid: u32,
    pub pid: i32,
    pub start: Option<u64>,
    pub command: Option<String>,
    pub fence: Option<String>,
    pub memory: Option<String>,
    pub status: Option<u8>,
    pub milliseconds: Option<u64>,
    pub prev: String,
    pub mac: Option<String>,
}

impl Record {
    /// From one line without its newline.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|record: &Self| record.v == 1 && is_time(&record.time))
    }
}

/// Whether the text has the form of our times. Anyone who can write to the log can put there what
/// looks like a record; from a time of another form the next line would take it over, and the name of
/// a segment that no reader looks for.
fn is_time(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00.000000Z";
    let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    text.len() == form.len() && text.bytes().zip(form).all(fits)
}

/// What the next line continues from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The last record's number; 0 where there is none.
    pub(super) seq: u64,
    /// Its time; empty where there is none.
    pub(super) time: String,
    /// SHA-256 of the last line without its newline; zeros where there is none.
    pub(super) hash: [u8; 32],
}

impl Head {
    pub(super) const fn start() -> Self {
        Self { seq: 0, time: String::new(), hash: [0; 32] }
    }

    /// `SEQ:HASH`, as `mentiko audit verify --expect` takes them.
    #[cfg(feature = "admin")]
    pub(super) fn text(&self) -> String {
        format!("{}:{}", self.seq, hex(&self.hash))
    }
}

/// Writes one line, newline included, and moves the head on.
pub(super) fn write_line(
    out: &mut Vec<u8>,
    entry: &Entry<'_>,
    head: &mut Head,
    origin: &Origin,
    instance: &str,
    key: Option<AuditKey<'_>>,
) -> Result<(), Error> {
    let start = out.len();
    let seq = head.seq.saturating_add(1);
    let mut json = serde_json::Serializer::new(&mut *out);
    let mut line = json.serialize_map(None)?;
    line.serialize_entry("v", &1)?;
    line.serialize_entry("seq", &seq)?;
    line.serialize_entry("time", &head.time)?;
    line.serialize_entry("event", &entry.event)?;
    line.serialize_entry("outcome", &entry.outcome)?;
    line.serialize_entry("chain", &entry.chain)?;
    line.serialize_entry("agent", &entry.agent)?;
    line.serialize_entry("run", &entry.run)?;
    line.serialize_entry("secret", &entry.secret)?;
    line.serialize_entry("version", &entry.version)?;
    line.serialize_entry("reason", &entry.reason)?;
    line.serialize_entry("instance", instance)?;
    line.serialize_entry("generation", &entry.generation)?;
    line.serialize_entry("host", &origin.host)?;
    line.serialize_entry("uid", &origin.uid)?;
    line.serialize_entry("pid", &origin.pid)?;
    line.serialize_entry("start", &origin.start)?;
    line.serialize_entry("command", &entry.command)?;
    line.serialize_entry("fence", &entry.fence)?;
    line.serialize_entry("memory", &entry.memory)?;
    if let Some(status) = entry.status {
        line.serialize_entry("status", &status)?;
    }
    if let Some(milliseconds) = entry.milliseconds {
        line.serialize_entry("milliseconds", &milliseconds)?;
    }
    line.serialize_entry("prev", &hex(&head.hash))?;
    // Not ended: the MAC covers every byte before its own field.
    let mac = key.map(|key| hex(&key.mac(out.get(start..).unwrap_or_default())));
    out.extend_from_slice(MAC_FIELD);
    match mac {
        Some(mac) => out.extend_from_slice(format!("\"{mac}\"}}").as_bytes()),
        None => out.extend_from_slice(b"null}"),
    }
    head.seq = seq;
    head.hash = sha256(out.get(start..).unwrap_or_default());
    out.push(b'\n');
    Ok(())
}

const MAC_FIELD: &[u8] = b",\"mac\":";

/// The part of a line that its MAC covers, and the MAC; `None` in the second place for `null`.
#[cfg(feature = "admin")]
pub(super) fn split_mac(line: &[u8]) -> Option<(&[u8], Option<[u8; 32]>)> {
    if let Some(covered) = line.strip_suffix(b"null}") {
        return covered.strip_suffix(MAC_FIELD).map(|covered| (covered, None));
    }
    let rest = line.strip_suffix(b"\"}")?;
    let (rest, digits) = rest.split_last_chunk::<64>()?;
    let covered = rest.strip_suffix(b"\"")?.strip_suffix(MAC_FIELD)?;
    Some((covered, Some(unhex(digits)?)))
}

/// 64 lowercase digits; others are refused, so that a hash has one text only.
#[cfg(feature = "admin")]
pub(super) fn unhex(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    base16ct::lower::decode(digits, &mut bytes).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_splits_into_what_its_mac_covers_and_the_mac() {
        let mut out = Vec::new();
        let mut head = Head { time: "2026-03-07T09:15:02.482113Z".into(), ..Head::start() };
        let entry = Entry { command: Some("a\"b\n"), ..Entry::new(Event::SECRET_ACCESS, Outcome::Denied) };
        write_line(&mut out, &entry, &mut head, &Origin::of_this_process(), "i", None).unwrap();
        let line = out.strip_suffix(b"\n").unwrap();
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 0);
        let record = Record::parse(line).unwrap();
        assert_eq!((record.seq, record.command.as_deref(), record.mac), (1, Some("a\"b\n"), None));
        let (covered, mac) = split_mac(line).unwrap();
        assert!(covered.ends_with(b"00\"") && mac.is_none());
        assert_eq!(head.hash, sha256(line));
        assert!(split_mac(b"{}").is_none());
    }

    #[test]
    fn only_times_of_our_form_are_times() {
        assert!(is_time("2026-03-07T09:15:02.482113Z"));
        assert!(is_time(&format!("{:.6}", jiff::Timestamp::now())));
        for text in
            ["", "2026-03-07T09:15:02Z", "2026-03-07T09:15:02.482113+", "x/../..-07T09:15:02.482113Z", "zzzz-zz"]
        {
            assert!(!is_time(text), "{text}");
        }
    }

    #[test]
    fn hexadecimal_digits_round_trip() {
        let bytes: [u8; 32] = std::array::from_fn(|at| (at * 9) as u8);
        assert_eq!(unhex(hex(&bytes).as_bytes()), Some(bytes));
        assert_eq!(unhex(hex(&bytes).to_uppercase().as_bytes()), None);
    }
}
