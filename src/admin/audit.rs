//! `mentiko audit`: who had which secret when, and whether the log still tells the truth.

use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;

use super::{Common, Error, context, table};
use crate::audit::{Expected, Filter, Record, head, parse_time, search, verify};
use crate::memory::Arena;

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Find access records
    #[command(
        after_help = "Example: mentiko audit query --secret STRIPE_API_KEY --since 2026-03-01 --until 2026-03-15"
    )]
    Query(Query),
    /// Prove that the log is as it was written; exit 1 if it is not
    #[command(after_help = "Example: mentiko audit verify --expect 1042:5f2c...")]
    Verify {
        /// A line that must still be there, from `mentiko audit head`: then nothing was cut off before it
        #[arg(long, value_name = "SEQ:HASH")]
        expect: Option<Expected>,
    },
    /// Print number and hash of the last record, to be kept elsewhere for `verify --expect`
    #[command(after_help = "Example: mentiko audit head | ssh elsewhere tee -a mentiko.heads")]
    Head,
}

#[derive(clap::Args, Debug)]
pub(super) struct Query {
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
}

pub(super) fn run(common: &Common, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Query(query) => run_query(common, query),
        Command::Verify { expect } => run_verify(common, expect),
        Command::Head => {
            let instance = context::instance(common)?;
            writeln!(std::io::stdout(), "{}", head(&instance.audit)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_query(common: &Common, query: Query) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let now = Timestamp::now();
    let time = |text: Option<String>, end| text.map(|text| parse_time(&text, now, end)).transpose();
    let filter = Filter {
        secret: query.secret,
        chain: query.chain,
        agent: query.agent,
        run: query.run,
        outcome: query.outcome,
        event: query.event,
        since: time(query.since, false)?,
        until: time(query.until, true)?,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let mut count = 0u64;
    let mut rows = Vec::new();
    search(&instance.audit, &filter, |line, record| -> Result<(), Error> {
        count += 1;
        if query.json {
            out.write_all(line)?;
        } else if !query.count {
            rows.push(row(record));
        }
        Ok(())
    })?;
    if query.count {
        writeln!(out, "{count}")?;
    }
    out.flush()?;
    if !query.json && !query.count {
        show(&rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of records, as `quickstart` shows it too.
pub(super) fn show(rows: &[Vec<String>]) -> Result<(), Error> {
    table::print(&["TIME (UTC)", "EVENT", "OUTCOME", "CHAIN", "AGENT", "SECRET", "VERSION", "REASON"], rows)
}

pub(super) fn row(record: &Record) -> Vec<String> {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    vec![
        record.time.get(..19).unwrap_or(&record.time).replace('T', " "),
        record.event.clone(),
        record.outcome.clone(),
        dash(&record.chain),
        dash(&record.agent),
        dash(&record.secret),
        record.version.map_or_else(|| "-".into(), |version| version.to_string()),
        record.reason.clone().unwrap_or_default(),
    ]
}

fn run_verify(common: &Common, expect: Option<Expected>) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let mut out = std::io::stdout();
    let report = match verify(&instance.audit, vault.audit_key(), expect)? {
        Ok(report) => report,
        Err(fault) => {
            writeln!(out, "the log does not verify: {fault}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if vault.generation() < report.generation {
        writeln!(
            out,
            "the vault was rolled back: it has generation {}, the log knows {}; an older copy was put in its place",
            vault.generation(),
            report.generation
        )?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "the log verifies: {} records, head {}", report.records, report.head)?;
    if report.recovered > 0 {
        writeln!(out, "{} unfinished lines of writers that died, each recovered", report.recovered)?;
    }
    if report.uncovered > 0 {
        writeln!(out, "the last {} records have no MAC, and nothing covers them yet", report.uncovered)?;
    }
    Ok(ExitCode::SUCCESS)
}
