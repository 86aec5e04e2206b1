//! `mentiko due`: what is to be rotated, now or soon.

use std::io::Write;
use std::process::ExitCode;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use serde::Serialize;

use super::{Common, Error, context, say, secret, table};
use crate::memory::Arena;
use crate::vault::{Contents, Record};

/// What ends with 1 elsewhere would say here that something is due: as with grep(1), an error is 2.
const FAILED: u8 = 2;

#[derive(clap::Args, Debug)]
#[command(after_help = "Days are counted in UTC. A secret that has no version which may be used is listed first.\n\n\
                        Exit status: 0 nothing is due, 1 something is, 2 an error.\n\n\
                        Examples:\n  mentiko due --within 30d\n  mentiko due --within 0d --json")]
pub(super) struct Arguments {
    /// What is due in at most so many days, besides what is overdue; 0d for today
    #[arg(long, value_name = "DAYS", default_value = "7d", value_parser = days)]
    within: i32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn days(text: &str) -> Result<i32, String> {
    text.strip_suffix('d')
        .filter(|days| (1..=4).contains(&days.len()) && days.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|days| days.parse().ok())
        .ok_or_else(|| "use a number of days: 0d to 9999d".into())
}

/// A secret that is due, or will be.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) name: String,
    /// `null` where no version may be used: then it can't wait.
    pub(super) due: Option<String>,
    pub(super) overdue: bool,
    /// Until then, by the calendar in UTC: 0 today, less where it is past.
    pub(super) days: Option<i32>,
    pub(super) rotate_every: Option<String>,
    version: Option<u32>,
    /// `null` for all chains.
    scope: Option<Vec<String>>,
}

impl Due {
    /// `None` where it is not due within so many days.
    pub(super) fn of(record: &Record, now: Timestamp, within: i32) -> Option<Self> {
        let due = record.due();
        let days = due.and_then(|due| days_between(now, due));
        match record.current() {
            Some(_) if days.is_none_or(|days| days > within) => None,
            current => Some(Self {
                name: record.name.to_string(),
                due: due.map(|due| due.to_string()),
                overdue: current.is_none() || record.overdue_since(now).is_some(),
                days,
                rotate_every: record.rotation.map(|rotation| rotation.to_string()),
                version: current.map(|version| version.number),
                scope: secret::chains(&record.scope),
            }),
        }
    }

    pub(super) fn state(&self) -> String {
        match self.days {
            None => "no usable version".into(),
            Some(days) if days < 0 => format!("overdue by {}", plural(days.unsigned_abs())),
            Some(0) if self.overdue => "overdue since today".into(),
            Some(0) => "due today".into(),
            Some(days) => format!("due in {}", plural(days.unsigned_abs())),
        }
    }
}

pub(super) fn plural(days: u32) -> String {
    if days == 1 { "1 day".into() } else { format!("{days} days") }
}

pub(super) fn days_between(from: Timestamp, to: Timestamp) -> Option<i32> {
    let date = |time| TimeZone::UTC.to_datetime(time).date();
    let span = date(from).until((Unit::Day, date(to))).ok()?;
    Some(span.get_days())
}

/// By date; what has none comes first.
pub(super) fn all_due(contents: &Contents, now: Timestamp, within: i32) -> Vec<Due> {
    let mut found: Vec<(Option<Timestamp>, Due)> =
        contents.values().filter_map(|record| Due::of(record, now, within).map(|due| (record.due(), due))).collect();
    found.sort_by_key(|(due, _)| *due);
    found.into_iter().map(|(_, due)| due).collect()
}

/// Ends with 2 where another command ends with 1 for an error.
pub(super) fn run(common: &Common, arguments: &Arguments) -> ExitCode {
    match find(common, arguments.within).and_then(|found| Ok((found.is_empty(), show(&found, arguments)?))) {
        Ok((true, ())) => ExitCode::SUCCESS,
        Ok((false, ())) => ExitCode::FAILURE,
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn find(common: &Common, within: i32) -> Result<Vec<Due>, Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let contents = context::vault(common, &instance, &arena)?.read_all()?;
    Ok(all_due(&contents, Timestamp::now(), within))
}

fn show(found: &[Due], arguments: &Arguments) -> Result<(), Error> {
    let shown = match found {
        _ if arguments.json => table::json(&found),
        [] => writeln!(std::io::stdout(), "nothing is due within {}", plural(arguments.within.unsigned_abs()))
            .map_err(Error::from),
        _ => table::print(&["SECRET", "DUE", "STATE", "ROTATE", "VERSION", "SCOPE"], &rows(found)),
    };
    match shown {
        // The reader has had enough; the status says the rest.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn rows(found: &[Due]) -> Vec<Vec<String>> {
    let dash = || "-".to_owned();
    found
        .iter()
        .map(|due| {
            vec![
                due.name.clone(),
                due.due.as_ref().and_then(|due| due.get(..10)).map_or_else(dash, str::to_owned),
                due.state(),
                due.rotate_every.clone().unwrap_or_else(dash),
                due.version.map_or_else(dash, |version| version.to_string()),
                due.scope.as_ref().map_or_else(|| "all".into(), |chains| chains.join(",")),
            ]
        })
        .collect()
}
