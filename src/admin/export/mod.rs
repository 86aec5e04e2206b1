//! `mentiko audit export`: the access log in the words of a SIEM. docs/siem.md says which format
//! is for whom, and why each event became what it became.
//!
//! The log's files are not trusted here: whoever may have changed them, what comes out is one line
//! a record, well-formed, and holds a text as data only. `mentiko audit verify` tells whether they
//! are true.

mod cef;
mod ecs;
mod meaning;
mod ocsf;

use std::borrow::Cow;
use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use super::query::times;
use super::{Common, Error, context, say};
use crate::audit::{Filter, Record, follow, search};
use crate::instance::Instance;
use crate::vault::sha256;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The lines themselves, Elastic Common Schema, Open Cybersecurity Schema Framework, or Common Event Format
    #[arg(long, value_enum)]
    format: Format,
    /// From this date (UTC) or time on, or since so long ago: 2h, 7d, yesterday
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time, or to the end of this date
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Go on with records as they are written; those that are there only with --since
    #[arg(long, conflicts_with = "until")]
    follow: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Format {
    Jsonl,
    Ecs,
    Ocsf,
    Cef,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    each_line(&instance, arguments, |line| {
        write(&mut out, arguments.format, line)?;
        // Whoever reads along waits for this line, not for a full buffer.
        if arguments.follow { out.flush() } else { Ok(()) }
    })?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Each line that was asked for, newline included, oldest first.
fn each_line(
    instance: &Instance,
    arguments: &Arguments,
    mut found: impl FnMut(&[u8]) -> std::io::Result<()> + Send,
) -> Result<(), Error> {
    let (since, until) = times(arguments.since.as_deref(), arguments.until.as_deref())?;
    let filter = Filter { since, until, ..Filter::default() };
    let found = |line: &[u8]| -> Result<(), Error> { Ok(found(line)?) };
    match arguments.follow {
        true => follow(&instance.audit, &filter, found),
        false => search(&instance.audit, &filter, found),
    }
}

/// Writes what becomes of one line of the log, newline included.
fn write(out: &mut impl Write, format: Format, line: &[u8]) -> std::io::Result<()> {
    let event = match format {
        Format::Jsonl => return out.write_all(line),
        Format::Ecs => |entry: &Entry<'_>| json_line(ecs::event(entry)),
        Format::Ocsf => |entry: &Entry<'_>| json_line(ocsf::event(entry)),
        Format::Cef => cef::line,
    };
    let Some(record) = Record::parse(line) else {
        say(
            "a line of the log has the form of a record and is none, and was left out; 'mentiko audit verify' says which",
        );
        return Ok(());
    };
    out.write_all(event(&Entry::new(line, &record)).as_bytes())?;
    out.write_all(b"\n")
}

/// A record, and what the formats say of it beside its fields.
struct Entry<'a> {
    record: &'a Record,
    /// The line without its newline: the evidence, which hash and MAC cover to the byte.
    original: Cow<'a, str>,
    /// Its hash, as the next line's `prev` has it.
    hash: String,
}

impl<'a> Entry<'a> {
    fn new(line: &'a [u8], record: &'a Record) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let hash = base16ct::lower::encode_string(&sha256(line));
        Self { record, original: String::from_utf8_lossy(line), hash }
    }

    /// `SEQ:HASH`: no other line has it, and `mentiko audit verify --expect` takes it.
    fn id(&self) -> String {
        format!("{}:{}", self.record.seq, self.hash)
    }

    /// When it happened. A time that no clock of a writer can have said becomes the epoch: a
    /// record that a SIEM refuses for its time would be one that nobody sees.
    fn time(&self) -> Timestamp {
        let time = self.record.time.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        time.max(Timestamp::UNIX_EPOCH)
    }
}

/// A number as SIEMs store it: 64 bits with a sign. The log's own never come near.
fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The value in one line of ASCII, without what is null. Its keys are in the order of the alphabet.
///
/// JSON lets line separators, C1 controls and marks that turn the direction of text stand as they
/// are; a reader that splits lines on U+2028, and a terminal, had better not see them.
fn json_line(mut value: Value) -> String {
    prune(&mut value);
    let text = value.to_string();
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => line.push(c),
            // Outside of ASCII, and DEL: only within strings.
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| line.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    line
}

fn prune(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(prune);
        fields.retain(|_, field| !field.is_null());
    }
}

#[cfg(test)]
mod tests;
