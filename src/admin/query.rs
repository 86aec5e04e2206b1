//! `mentiko audit query`: who had which secret when.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;

use super::table::{Printer, Tone};
use super::{Common, Error, context, say};
use crate::audit::{Filter, Record, follow, parse_time, search};
use crate::instance::Instance;
use crate::memory::Arena;
use crate::policy::{ChainName, Definition};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Of this secret
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// By this chain
    #[arg(long, value_name = "CHAIN")]
    chain: Option<String>,
    /// By this agent
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// In this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// granted, denied, done or failed
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// secret.access, secret.set ...
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// From this date (UTC) or time on, or since so long ago: 2h, 7d, yesterday
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time, or to the end of this date
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The lines themselves
    #[arg(long, conflicts_with = "count")]
    json: bool,
    /// Only how many
    #[arg(long)]
    count: bool,
    /// Go on with records as they are written; those that are there only with --since
    #[arg(long, conflicts_with_all = ["count", "until"])]
    follow: bool,
}

pub(super) fn run(common: &Common, arguments: Arguments) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let Arguments { json, count, follow: follows, .. } = arguments;
    let filter = arguments.filter()?;
    let mut found = 0u64;
    if json || count {
        let mut out = std::io::BufWriter::new(std::io::stdout());
        let each = |line: &[u8]| -> Result<(), Error> {
            found += 1;
            match count {
                true => Ok(()),
                false if follows => Ok(out.write_all(line).and_then(|()| out.flush())?),
                false => Ok(out.write_all(line)?),
            }
        };
        run_through(&instance, &filter, follows, each)?;
        if count {
            writeln!(out, "{found}")?;
        }
        out.flush()?;
    } else {
        let mut printer = Printer::new(HEADINGS);
        let each = |line: &[u8]| -> Result<(), Error> {
            let Some(record) = Record::parse(line) else { return Ok(()) };
            found += 1;
            let (row, tone) = row(record, Timestamp::now());
            printer.push(row, tone)?;
            if follows { printer.flush() } else { Ok(()) }
        };
        run_through(&instance, &filter, follows, each)?;
        printer.flush()?;
    }
    if found == 0 {
        suggest(common, &instance, &filter);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_through(
    instance: &Instance,
    filter: &Filter,
    follows: bool,
    each: impl FnMut(&[u8]) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    match follows {
        true => follow(&instance.audit, filter, each),
        false => search(&instance.audit, filter, each),
    }
}

impl Arguments {
    fn filter(self) -> Result<Filter, Error> {
        let (since, until) = times(self.since.as_deref(), self.until.as_deref())?;
        Ok(Filter {
            secret: self.secret,
            chain: self.chain,
            agent: self.agent,
            run: self.run,
            outcome: self.outcome,
            event: self.event,
            since,
            until,
        })
    }
}

/// The bounds of `--since` and `--until`.
pub(super) fn times(since: Option<&str>, until: Option<&str>) -> Result<(Option<Timestamp>, Option<Timestamp>), Error> {
    let now = Timestamp::now();
    let time = |text: Option<&str>, end| text.map(|text| parse_time(text, now, end)).transpose();
    Ok((time(since, false)?, time(until, true)?))
}

pub(super) const HEADINGS: &[&str] =
    &["WHEN", "TIME (UTC)", "EVENT", "OUTCOME", "CHAIN", "AGENT", "SECRET", "VERSION", "REASON"];

/// A record as a row of the table.
pub(super) fn row(record: Record, now: Timestamp) -> (Vec<String>, Tone) {
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let tone = match record.outcome.as_str() {
        "denied" | "failed" => Tone::Alarm,
        _ => Tone::Plain,
    };
    let cells = vec![
        record.time.parse().map_or_else(|_| "-".into(), |time| ago(time, now)),
        record.time.get(..19).unwrap_or(&record.time).replace('T', " "),
        record.event,
        record.outcome,
        dash(record.chain),
        dash(record.agent),
        dash(record.secret),
        dash(record.version.map(|version| version.to_string())),
        record.reason.unwrap_or_default(),
    ];
    (cells, tone)
}

/// How long ago, in the largest unit that fits.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - time.as_second();
    match seconds {
        ..0 => "in the future".into(),
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Nothing was found: perhaps a name was misspelled.
fn suggest(common: &Common, instance: &Instance, filter: &Filter) {
    if filter.secret.is_none() && filter.chain.is_none() {
        return;
    }
    let (chains, secrets) = known_names(common, instance);
    for (kind, wanted, known) in [("secret", &filter.secret, &secrets), ("chain", &filter.chain, &chains)] {
        let Some(wanted) = wanted.as_ref().filter(|wanted| !known.contains(*wanted)) else { continue };
        let nearest = known
            .iter()
            .map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &wanted.to_lowercase()), name))
            .min()
            .filter(|(distance, _)| *distance <= 1 + wanted.len() / 4);
        match nearest {
            Some((_, name)) => say(&format!("there is no {kind} '{wanted}'; did you mean '{name}'?")),
            None => say(&format!("there is no {kind} '{wanted}' now")),
        }
    }
}

/// The names of chains, and of the secrets that they or the vault name. The vault is asked only
/// where its key can be had without asking anybody.
pub(super) fn known_names(common: &Common, instance: &Instance) -> (BTreeSet<String>, BTreeSet<String>) {
    let (chains, mut secrets) = (chain_names(instance), BTreeSet::new());
    for name in chains.iter().filter_map(|name| name.parse().ok()) {
        if let Ok(definition) = Definition::open(&instance.chains, &name) {
            secrets.extend(definition.secrets().iter().map(ToString::to_string));
        }
    }
    if instance.key.is_silent()
        && let Ok(arena) = Arena::new()
        && let Ok(contents) = context::vault(common, instance, &arena).and_then(|vault| Ok(vault.read_all()?))
    {
        secrets.extend(contents.keys().map(ToString::to_string));
    }
    (chains, secrets)
}

/// The names of the files in the folder of chains that can be definitions.
pub(super) fn chain_names(instance: &Instance) -> BTreeSet<String> {
    let name = |entry: std::fs::DirEntry| {
        let name: ChainName = entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok()?;
        Some(name.to_string())
    };
    std::fs::read_dir(&instance.chains).into_iter().flatten().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_unit() {
        let now: Timestamp = "2026-03-07T12:00:00Z".parse().unwrap();
        for (time, expected) in [
            ("2026-03-07T12:00:00Z", "0 s ago"),
            ("2026-03-07T11:59:01Z", "59 s ago"),
            ("2026-03-07T11:59:00Z", "1 min ago"),
            ("2026-03-07T11:00:00Z", "1 h ago"),
            ("2026-03-05T12:00:01Z", "47 h ago"),
            ("2026-03-05T12:00:00Z", "2 d ago"),
            ("2025-03-07T12:00:00Z", "365 d ago"),
            ("2026-03-07T12:00:01Z", "in the future"),
        ] {
            assert_eq!(ago(time.parse().unwrap(), now), expected);
        }
    }
}
