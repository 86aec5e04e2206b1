//! `mentiko audit report`: one page that says who had what, what was refused, what is due.

mod frame;
mod gather;
mod heat;
mod page;
mod parts;
mod place;
mod sections;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use self::frame::Frame;
use self::gather::{Count, Gathered, Holder, LeftOut, Refusal, Usage};
use super::due::{Due, all_due};
use super::{Common, Error, audit, context, query, secret, table};
use crate::audit::{Filter, Origin, Record, search};
use crate::instance::Instance;
use crate::memory::Arena;
use crate::vault::{Contents, Vault};

/// What is due within so many days is shown.
const WITHIN: i32 = 30;

#[derive(clap::Args, Debug)]
#[command(
    group = clap::ArgGroup::new("form").required(true).multiple(true),
    after_help = "The page needs no network and shows no value. The instance key is needed: the vault has the names and\n\
                  schedules, and the key of the log; values stay sealed. The file is readable by its owner alone, for\n\
                  names are in it.\n\n\
                  Exit status: 0 the log verifies, 1 it does not (the report says so too) or an error.\n\n\
                  Examples:\n  mentiko audit report --html report.html --since 30d\n  \
                  mentiko audit report --json --since 2026-03-01 --until 2026-03-31"
)]
pub(super) struct Arguments {
    /// Write the page to this file; one that is there is replaced
    #[arg(long, value_name = "FILE", group = "form")]
    html: Option<PathBuf>,
    /// Print the same as JSON
    #[arg(long, group = "form")]
    json: bool,
    /// From this date (UTC) or time on, or since so long ago: 2h, 7d, yesterday [default: all]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time, or to the end of this date
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// All that a page says.
#[derive(Serialize, Debug)]
struct Report {
    made: String,
    instance: String,
    host: String,
    since: Option<String>,
    until: Option<String>,
    log: Verification,
    records: u64,
    granted: u64,
    denied: u64,
    failed: u64,
    /// The first and the last record.
    first: Option<String>,
    last: Option<String>,
    chart: Frame,
    /// Of all secrets together; bars without an access are left out.
    bars: Vec<Bar>,
    /// Those that were asked for, in the order of their names.
    secrets: Vec<Secret>,
    /// How many the vault has.
    stored: usize,
    never_used: Vec<Unused>,
    due_within_days: i32,
    due: Vec<Due>,
    /// Why something was refused or failed; the most frequent first.
    reasons: Vec<Reason>,
    /// The latest first.
    denials: Vec<Refusal>,
    left_out: LeftOut,
}

/// What the log proves.
#[derive(Serialize, Debug)]
struct Verification {
    verifies: bool,
    /// When it was looked at.
    as_of: String,
    /// `SEQ:HASH` of the last line that was proven.
    head: Option<String>,
    records: Option<u64>,
    /// What is wrong.
    fault: Option<String>,
    /// What else is to be known.
    remarks: Vec<String>,
}

/// The accesses of one day, or of as many as a bar has.
#[derive(Serialize, Debug)]
struct Bar {
    #[serde(skip)]
    at: usize,
    #[serde(serialize_with = "frame::as_text")]
    from: Date,
    #[serde(flatten)]
    count: Count,
}

#[derive(Serialize, Debug)]
struct Secret {
    name: String,
    in_vault: bool,
    #[serde(flatten)]
    total: Count,
    last_granted: Option<String>,
    bars: Vec<Bar>,
    chains: Vec<Chain>,
    /// Who was given it.
    exposure: Vec<Holder>,
}

#[derive(Serialize, Debug)]
struct Chain {
    chain: String,
    #[serde(flatten)]
    count: Count,
}

/// A secret of the vault that nobody was given.
#[derive(Serialize, Debug)]
struct Unused {
    name: String,
    /// `null` for all chains.
    scope: Option<Vec<String>>,
    stored: String,
    denied: u64,
}

#[derive(Serialize, Debug)]
struct Reason {
    reason: String,
    count: u64,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let (since, until) = query::times(arguments.since.as_deref(), arguments.until.as_deref())?;
    let filter = Filter { since, until, ..Filter::default() };
    let place = arguments.html.as_deref().map(place::Place::at).transpose()?;
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let report = Report::make(&instance, &vault, &filter)?;
    if let Some(place) = place {
        place.write(page::page(&report).as_bytes())?;
    }
    match (&arguments.html, arguments.json) {
        (Some(path), false) => say_what_was_written(path, &report)?,
        _ => table::json(&report)?,
    }
    Ok(if report.log.verifies { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say_what_was_written(path: &Path, report: &Report) -> Result<(), Error> {
    let path = path.display();
    let state = match &report.log.fault {
        None => "the log verifies",
        Some(fault) => fault,
    };
    let Report { records, granted, denied, .. } = report;
    let text = format!("wrote {path}: {records} records, {granted} grants, {denied} denials; {state}");
    Ok(writeln!(std::io::stdout(), "{}", crate::text::printable(&text))?)
}

impl Report {
    fn make(instance: &Instance, vault: &Vault<'_>, filter: &Filter) -> Result<Self, Error> {
        let now = Timestamp::now();
        let contents = vault.read_all()?;
        let (log, limit) = Verification::of(instance, vault, now)?;
        let known = contents.keys().map(ToString::to_string).collect();
        let mut gathered = Gathered::new(frame(instance, filter, now)?, known, limit);
        search(&instance.audit, filter, |line| -> Result<(), Error> {
            gathered.line(line);
            Ok(())
        })?;
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let Gathered { frame, records, total, failed, first, last, bars, secrets, refusals, reasons, left_out, .. } =
            gathered;
        let never_used = never_used(&contents, |name| secrets.get(name).map(|usage| usage.total));
        let known: BTreeSet<&str> = contents.keys().map(|name| name.as_str()).collect();
        Ok(Self {
            made: format!("{now:.0}"),
            instance: instance.id.to_string(),
            host: crate::text::printable(&Origin::of_this_process().host),
            since: text(filter.since),
            until: text(filter.until),
            log,
            records,
            granted: total.granted,
            denied: total.denied,
            failed,
            first,
            last,
            bars: bars_of(&frame, &bars),
            secrets: secrets
                .into_iter()
                .map(|(name, usage)| Secret::new(known.contains(name.as_str()), name, usage, &frame))
                .collect(),
            stored: contents.len(),
            never_used,
            due_within_days: WITHIN,
            due: all_due(&contents, now, WITHIN),
            reasons: by_frequency(reasons),
            denials: refusals.into_iter().rev().collect(),
            left_out,
            chart: frame,
        })
    }

    fn period(&self) -> String {
        let day = |time: &String| time.get(..19).unwrap_or(time).replace('T', " ");
        match (&self.since, &self.until) {
            (None, None) => "all records".into(),
            (Some(since), None) => format!("from {}", day(since)),
            (None, Some(until)) => format!("before {}", day(until)),
            (Some(since), Some(until)) => format!("from {}, before {}", day(since), day(until)),
        }
    }
}

impl Verification {
    /// With the number of the last line that it covers.
    fn of(instance: &Instance, vault: &Vault<'_>, now: Timestamp) -> Result<(Self, Option<u64>), Error> {
        let as_of = format!("{now:.0}");
        Ok(match audit::check(instance, vault, None)? {
            Ok(report) => {
                let limit = report.head.split(':').next().and_then(|number| number.parse().ok());
                let remarks = audit::remarks(&report);
                let (head, records) = (Some(report.head), Some(report.records));
                (Self { verifies: true, as_of, head, records, fault: None, remarks }, limit)
            }
            Err(fault) => {
                let fault = Some(crate::text::printable(&fault));
                (Self { verifies: false, as_of, head: None, records: None, fault, remarks: Vec::new() }, None)
            }
        })
    }
}

impl Secret {
    fn new(in_vault: bool, name: String, usage: Usage, frame: &Frame) -> Self {
        let Usage { total, last, bars, chains, holders } = usage;
        let chains = chains.into_iter().map(|(chain, count)| Chain { chain, count }).collect();
        let mut exposure: Vec<Holder> = holders.into_values().collect();
        exposure.sort_by(|one, other| other.held.last.cmp(&one.held.last));
        Self { name, in_vault, total, last_granted: last, bars: bars_of(frame, &bars), chains, exposure }
    }
}

fn bars_of(frame: &Frame, counts: &[Count]) -> Vec<Bar> {
    let some = counts.iter().enumerate().filter(|(_, count)| !count.is_zero());
    some.map(|(at, &count)| Bar { at, from: frame.day(at), count }).collect()
}

fn by_frequency(reasons: impl IntoIterator<Item = (String, u64)>) -> Vec<Reason> {
    let mut found: Vec<Reason> = reasons.into_iter().map(|(reason, count)| Reason { reason, count }).collect();
    found.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    found
}

fn never_used(contents: &Contents, usage: impl Fn(&str) -> Option<Count>) -> Vec<Unused> {
    let unused = |record: &crate::vault::Record| {
        let total = usage(record.name.as_str()).unwrap_or_default();
        (total.granted == 0).then(|| Unused {
            name: record.name.to_string(),
            scope: secret::chains(&record.scope),
            stored: secret::time(record.created),
            denied: total.denied,
        })
    };
    contents.values().filter_map(unused).collect()
}

/// From what was asked for, or from the first record, to what was asked for, or to today.
fn frame(instance: &Instance, filter: &Filter, now: Timestamp) -> Result<Frame, Error> {
    let date = |time: Timestamp| TimeZone::UTC.to_datetime(time).date();
    let just_before = |time: Timestamp| Timestamp::from_nanosecond(time.as_nanosecond() - 1).unwrap_or(time);
    let last = date(filter.until.map_or(now, |until| just_before(until).min(now)));
    Ok(match filter.since {
        Some(since) => Frame::new(date(since), last),
        None => Frame::from_record(first_day(instance, filter)?.unwrap_or(last), last),
    })
}

/// The day of the first record that fits.
fn first_day(instance: &Instance, filter: &Filter) -> Result<Option<Date>, Error> {
    let first = search(&instance.audit, filter, |line| {
        let time = Record::parse(line).map(|record| record.time);
        Err(Stop::At(time.and_then(|time| time.get(..10)?.parse().ok())))
    });
    match first {
        Ok(()) | Err(Stop::At(None)) => Ok(None),
        Err(Stop::At(day)) => Ok(day),
        Err(Stop::Failed(error)) => Err(error.into()),
    }
}

/// Why the search for the first record ended.
enum Stop {
    At(Option<Date>),
    Failed(crate::audit::Error),
}

impl From<crate::audit::Error> for Stop {
    fn from(error: crate::audit::Error) -> Self {
        Self::Failed(error)
    }
}
