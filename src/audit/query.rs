//! Finding records.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::segments::segments;
use super::{Error, Record};

/// What a record must fit; what is `None` fits all.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // Each is the field of the same name.
pub struct Filter {
    pub secret: Option<String>,
    pub chain: Option<String>,
    pub agent: Option<String>,
    pub run: Option<String>,
    pub outcome: Option<String>,
    pub event: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Filter {
    fn fits(&self, record: &Record) -> bool {
        let same =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let in_time = match record.time.parse::<Timestamp>() {
            Ok(time) => self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until),
            Err(_) => self.since.is_none() && self.until.is_none(),
        };
        same(&self.secret, record.secret.as_deref())
            && same(&self.chain, record.chain.as_deref())
            && same(&self.agent, record.agent.as_deref())
            && same(&self.run, record.run.as_deref())
            && same(&self.outcome, Some(&record.outcome))
            && same(&self.event, Some(&record.event))
            && in_time
    }
}

/// Calls `found` with each line that fits, oldest first, untouched and taken apart. Lines that are
/// no records are passed over: `verify` is what tells of them.
pub fn search(
    folder: &Path,
    filter: &Filter,
    mut found: impl FnMut(&[u8], &Record) -> std::io::Result<()>,
) -> Result<(), Error> {
    for path in segments(folder)? {
        let cant_read = |error| Error::file("read", &path, error);
        let mut reader = BufReader::with_capacity(1 << 16, File::open(&path).map_err(cant_read)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(cant_read)? == 0 {
                break;
            }
            if let Some(record) = Record::parse(&line).filter(|record| filter.fits(record)) {
                found(&line, &record).map_err(|error| Error::file("write to", "standard output", error))?;
            }
        }
    }
    Ok(())
}

/// A date (UTC) or a time in RFC 3339. A date stands for its first moment, or with `end` for the
/// first moment after it, so that `--until 2026-03-15` includes that day.
pub fn parse_time(text: &str, end: bool) -> Result<Timestamp, String> {
    let wrong =
        || format!("'{}' is neither a date (2026-03-01) nor a time (2026-03-01T09:15:00Z)", text.escape_debug());
    if let Ok(date) = text.parse::<Date>()
        && text.len() == 10
    {
        let date = if end { date.checked_add(1.day()).map_err(|_| wrong())? } else { date };
        return jiff::tz::TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_err(|_| wrong());
    }
    text.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_include_their_day() {
        assert_eq!(parse_time("2026-03-01", false).unwrap().to_string(), "2026-03-01T00:00:00Z");
        assert_eq!(parse_time("2026-03-15", true).unwrap().to_string(), "2026-03-16T00:00:00Z");
        assert_eq!(parse_time("2026-03-15T10:00:00+02:00", true).unwrap().to_string(), "2026-03-15T08:00:00Z");
        for text in ["", "yesterday", "2026-02-30", "2026-03", "03/01/2026"] {
            assert!(parse_time(text, false).is_err(), "{text}");
        }
    }
}
