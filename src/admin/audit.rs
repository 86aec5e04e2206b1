//! `mentiko audit`: what the access log says, and whether it still tells the truth.

use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;

use super::{Common, Error, context, export, progress, query, report};
use crate::audit::{Entry, Event, Expected, Log, Outcome, Pruning, Report, finish_pruning, head, parse_time, verify};
use crate::instance::Instance;
use crate::memory::Arena;
use crate::vault::{Vault, WriteLock};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Find access records
    #[command(
        after_help = "Example: mentiko audit query --secret STRIPE_API_KEY --since 2026-03-01 --until 2026-03-15"
    )]
    Query(query::Arguments),
    /// Prove that the log is as it was written; exit 1 if it is not
    #[command(after_help = "Example: mentiko audit verify --expect 1042:5f2c...")]
    Verify {
        /// A line that must still be there, from `mentiko audit head`: then nothing was cut off before it
        #[arg(long, value_name = "SEQ:HASH")]
        expect: Option<Expected>,
    },
    /// Write records in the format of a SIEM
    #[command(after_help = "Example: mentiko audit export --format ecs --since 2026-03-01 --follow")]
    Export(export::Arguments),
    /// Print number and hash of the last record, to be kept elsewhere for `verify --expect`
    #[command(after_help = "Example: mentiko audit head | ssh elsewhere tee -a mentiko.heads")]
    Head,
    /// Make a page of it: accesses, denials, due rotations, exposure; exit 1 if the log does not verify
    Report(report::Arguments),
    /// Remove whole months from the beginning of the log; what is left still verifies
    #[command(after_help = "Example: mentiko audit prune --before 2025-01-01")]
    Prune {
        /// Records before this date (UTC) or time, or older than this: 400d
        #[arg(long, value_name = "TIME")]
        before: String,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn run(common: &Common, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Query(arguments) => query::run(common, arguments),
        Command::Verify { expect } => run_verify(common, expect),
        Command::Report(arguments) => report::run(common, &arguments),
        Command::Prune { before, dry_run } => prune(common, &before, dry_run),
        Command::Export(arguments) => export::run(common, &arguments),
        Command::Head => {
            let instance = context::instance(common)?;
            writeln!(std::io::stdout(), "{}", head(&instance.audit)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_verify(common: &Common, expect: Option<Expected>) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let mut out = std::io::stdout();
    match check(&instance, &vault, expect)? {
        Ok(report) => {
            writeln!(out, "the log verifies: {} records, head {}", report.records, report.head)?;
            for remark in remarks(&report) {
                writeln!(out, "{remark}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) => {
            writeln!(out, "{fault}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Whether the log holds, and the vault is not older than it; else what is wrong.
pub(super) fn check(
    instance: &Instance,
    vault: &Vault<'_>,
    expect: Option<Expected>,
) -> Result<Result<Report, String>, Error> {
    let mut bar = progress::Bar::new("checking");
    let arena = Arena::new()?;
    let keys = vault.audit_keys(&arena)?;
    let report = match verify(&instance.audit, keys, expect, |done, total| bar.show(done, total))? {
        Ok(report) => report,
        Err(fault) => return Ok(Err(format!("the log does not verify: {fault}"))),
    };
    if vault.generation() < report.generation {
        return Ok(Err(format!(
            "the vault was rolled back: it has generation {}, the log knows {}; an older copy was put in its place",
            vault.generation(),
            report.generation
        )));
    }
    Ok(Ok(report))
}

/// What is to be known of a log that holds.
pub(super) fn remarks(report: &Report) -> Vec<String> {
    let Report { pruned, recovered, uncovered, .. } = *report;
    [
        (pruned, format!("records 1 to {pruned} were pruned")),
        (recovered, format!("{recovered} unfinished lines of writers that died, each recovered")),
        (uncovered, format!("the last {uncovered} records have no MAC, and nothing covers them yet")),
    ]
    .into_iter()
    .filter_map(|(count, remark)| (count > 0).then_some(remark))
    .collect()
}

/// Only a log that verifies is pruned: the stub vouches for what was removed.
fn prune(common: &Common, before: &str, dry_run: bool) -> Result<ExitCode, Error> {
    let time = parse_time(before, Timestamp::now(), false)?;
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let _lock = WriteLock::take(&instance)?;
    let vault = context::vault(common, &instance, &arena)?;
    let (folder, key) = (&instance.audit, vault.audit_key());
    let mut out = std::io::stdout();
    if !dry_run && finish_pruning(folder, key)? {
        writeln!(out, "removed what an interrupted pruning had left over")?;
    }
    let mut bar = progress::Bar::new("checking");
    let report = verify(folder, vault.audit_keys(&arena)?, None, |done, total| bar.show(done, total))?
        .map_err(|fault| format!("the log does not verify, and stays as it is: {fault}"))?;
    let Some(pruning) = Pruning::before(folder, time, report.generation)? else {
        writeln!(out, "there is no whole month of records before {time:.0}; nothing was removed")?;
        return Ok(ExitCode::SUCCESS);
    };
    let what = format!("records {} to {}", report.pruned + 1, pruning.last());
    if dry_run {
        writeln!(out, "would remove {what}:")?;
    } else {
        let entry = Entry {
            reason: Some(&what),
            generation: Some(vault.generation()),
            ..Entry::new(Event::LOG_PRUNED, Outcome::Done)
        };
        Log::open(&instance)?.append(&[entry], Some(&vault.log_key()))?;
        pruning.run(folder, key)?;
        writeln!(out, "removed {what}:")?;
    }
    for segment in &pruning.segments {
        writeln!(out, "  {}", segment.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
