//! Which records are asked for.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use memchr::memmem::Finder;

use super::record::split_mac;
use super::scan::each_line;

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
    /// The texts that every line that fits holds, and no other line does: names are written as
    /// they are, and a quotation mark inside another field would be escaped.
    fn needles(&self) -> Vec<String> {
        [
            ("secret", &self.secret),
            ("run", &self.run),
            ("agent", &self.agent),
            ("chain", &self.chain),
            ("event", &self.event),
            ("outcome", &self.outcome),
        ]
        .into_iter()
        .filter_map(|(name, value)| {
            let value = serde_json::to_string(value.as_ref()?).ok()?;
            Some(format!("\"{name}\":{value}"))
        })
        .collect()
    }
}

/// A filter made ready to look at many lines.
pub(super) struct Matcher {
    finders: Vec<Finder<'static>>,
    since: Option<String>,
    until: Option<String>,
}

impl Matcher {
    pub(super) fn new(filter: &Filter) -> Self {
        let text = |time: Option<Timestamp>| time.map(|time| format!("{time:.6}"));
        let finders = filter.needles().iter().map(|needle| Finder::new(needle.as_bytes()).into_owned()).collect();
        Self { finders, since: text(filter.since), until: text(filter.until) }
    }

    /// Not before this time: RFC 3339, UTC, six decimals.
    pub(super) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// Before this time.
    pub(super) fn until(&self) -> Option<&str> {
        self.until.as_deref()
    }

    /// A copy of the lines that fit. The copy is what is judged: the lines may lie in a file.
    pub(super) fn fitting(&self, lines: &[u8]) -> Vec<u8> {
        let mut fitting = Vec::new();
        each_line(lines, self.finders.first(), |line| {
            let start = fitting.len();
            fitting.extend_from_slice(line);
            if !fitting.get(start..).is_some_and(|line| self.fits(line)) {
                fitting.truncate(start);
            }
        });
        fitting
    }

    fn fits(&self, line: &[u8]) -> bool {
        let Some(whole) = line.strip_suffix(b"\n") else { return false };
        let Some(time) = time_of_record(whole) else { return false };
        self.since().is_none_or(|since| time >= since)
            && self.until().is_none_or(|until| time < until)
            && self.finders.iter().all(|finder| finder.find(whole).is_some())
    }
}

/// The time of a line that begins and ends as a record does; `None` for what a dead writer left.
pub(super) fn time_of_record(line: &[u8]) -> Option<&str> {
    split_mac(line)?;
    let rest = line.strip_prefix(b"{\"v\":1,\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest.get(digits..)?.strip_prefix(b",\"time\":\"")?;
    let (time, rest) = rest.split_first_chunk::<27>()?;
    rest.starts_with(b"\"").then(|| std::str::from_utf8(time).ok())?
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
    use super::super::record::{Head, write_line};
    use super::super::{Entry, Event, Origin, Outcome};
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
            ("10s", false, "2026-03-07T09:14:52.5Z"),
            ("3650d", false, "2016-03-09T09:15:02.5Z"),
            ("145999d", false, "1626-06-13T09:15:02.5Z"),
        ] {
            assert_eq!(parse_time(text, now, end).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "", "tomorrow", "2026-02-30", "2026-03", "03/01/2026", "h", "-2h", "2 h", "99999999999999999999d",
            "146000d",
        ] {
            assert!(parse_time(text, now, false).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_fits_from_its_own_time_on_and_not_up_to_it() {
        let mut head = Head::start();
        head.time = "2026-03-07T09:15:02.500000Z".into();
        let entry = Entry::new(Event::SECRET_SET, Outcome::Done);
        let mut line = Vec::new();
        let origin = Origin::of_this_process();
        write_line(&mut line, &entry, &mut head, &origin, "i", None).unwrap();
        let fits = |since: Option<&str>, until: Option<&str>| {
            let time = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            let filter = Filter { since: time(since), until: time(until), ..Filter::default() };
            Matcher::new(&filter).fitting(&line) == line
        };
        let (before, at, after) =
            ("2026-03-07T09:15:02.499999Z", "2026-03-07T09:15:02.5Z", "2026-03-07T09:15:02.500001Z");
        assert!(fits(Some(before), Some(after)) && fits(Some(at), None));
        assert!(!fits(Some(after), None) && !fits(None, Some(at)) && !fits(None, Some(before)));
    }
}
