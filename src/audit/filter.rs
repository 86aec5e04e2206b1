//! Which records are asked for.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::Record;

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
    pub(super) fn fits(&self, record: &Record) -> bool {
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

    /// A text that every line that fits holds, for a search without parsing: names are written
    /// as they are, and a quotation mark inside another field would be escaped.
    pub(super) fn needle(&self) -> Option<String> {
        let fields = [
            ("secret", &self.secret),
            ("run", &self.run),
            ("agent", &self.agent),
            ("chain", &self.chain),
            ("event", &self.event),
            ("outcome", &self.outcome),
        ];
        let (name, value) = fields.into_iter().find_map(|(name, value)| value.as_ref().map(|value| (name, value)))?;
        let value = serde_json::to_string(value).ok()?;
        Some(format!("\"{name}\":{value}"))
    }
}

/// A date (UTC), a time in RFC 3339, or how long ago: `30min`, `2h`, `7d`, `3w`, `today`,
/// `yesterday`.
///
/// What stands for a whole day means its first moment, or with `end` the first moment after it, so
/// that `--until 2026-03-15` includes that day.
pub fn parse_time(text: &str, now: Timestamp, end: bool) -> Result<Timestamp, String> {
    let wrong = || {
        let forms = "a date (2026-03-01), a time (2026-03-01T09:15:00Z), or how long ago (2h, 7d, yesterday)";
        format!("'{}' is not {forms}", text.escape_debug())
    };
    let day = |date: Date| {
        let date = if end { date.checked_add(1.day()).ok()? } else { date };
        TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
    };
    let today = TimeZone::UTC.to_datetime(now).date();
    match text {
        "now" => return Ok(now),
        "today" => return day(today).ok_or_else(wrong),
        "yesterday" => return today.yesterday().ok().and_then(day).ok_or_else(wrong),
        _ => {}
    }
    if let Some(date) = text.parse::<Date>().ok().filter(|_| text.len() == 10) {
        return day(date).ok_or_else(wrong);
    }
    if let Some(seconds) = ago(text) {
        return now.checked_sub(seconds.seconds()).map_err(|_| wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// Seconds of `30min`, `2h`, `7d`, `3w`, `10s`.
fn ago(text: &str) -> Option<i64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit).filter(|seconds| *seconds < 400 * 365 * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_a_person_means() {
        let now: Timestamp = "2026-03-07T09:15:02.5Z".parse().unwrap();
        for (text, end, expected) in [
            ("2026-03-01", false, "2026-03-01T00:00:00Z"),
            ("2026-03-15", true, "2026-03-16T00:00:00Z"),
            ("2026-03-15T10:00:00+02:00", true, "2026-03-15T08:00:00Z"),
            ("2h", false, "2026-03-07T07:15:02.5Z"),
            ("90min", false, "2026-03-07T07:45:02.5Z"),
            ("7d", false, "2026-02-28T09:15:02.5Z"),
            ("1w", true, "2026-02-28T09:15:02.5Z"),
            ("today", false, "2026-03-07T00:00:00Z"),
            ("yesterday", false, "2026-03-06T00:00:00Z"),
            ("yesterday", true, "2026-03-07T00:00:00Z"),
            ("now", false, "2026-03-07T09:15:02.5Z"),
        ] {
            assert_eq!(parse_time(text, now, end).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "tomorrow", "2026-02-30", "2026-03", "03/01/2026", "h", "-2h", "2 h", "99999999999999999999d"]
        {
            assert!(parse_time(text, now, false).is_err(), "{text}");
        }
    }
}
