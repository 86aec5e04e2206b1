//! The page. maud escapes whatever is put into it; the script gets nothing but what stands in the
//! page's own elements and attributes.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::gather::Count;
use super::parts::{bars, busiest, chains, counts, day, level, number, outcomes, plural, time};
use super::{Report, Secret};
use crate::vault::sha256;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// How many rows a table of secrets, and how many columns the heat map may have.
const MAX_ROWS: usize = 1000;
const MAX_COLUMNS: usize = 40;

/// Nothing is loaded from anywhere, and no script runs but this one.
fn policy() -> String {
    let hash = |text: &str| Base64::encode_string(&sha256(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

pub(super) fn page(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Access report, " (day(&report.made)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                (filters(report))
                main {
                    (accesses(report))
                    (heat_map(report))
                    (denials(report))
                    (due(report))
                    (exposure(report))
                    (never_used(report))
                    (notes(report))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report) -> Markup {
    let used = report.secrets.iter().filter(|secret| secret.total.granted > 0 && secret.in_vault).count();
    let overdue = report.due.iter().filter(|due| due.overdue).count();
    let running: usize =
        report.secrets.iter().flat_map(|secret| &secret.exposure).map(|holder| holder.held.running.len()).sum();
    html! {
        header {
            h1 { "Access report" }
            p.about {
                "Instance " code { (report.instance) } " on " (report.host) ". Made " (time(&report.made)) ", of "
                (report.period()) ". All times are UTC."
            }
            (verification(report))
            dl.tiles {
                (tile("Grants", &number(report.granted), "", false))
                (tile("Denials", &number(report.denied), "", report.denied > 0))
                (tile("Secrets used", &number(used as u64), &format!("of {}", number(report.stored as u64)), false))
                (tile("Overdue rotations", &number(overdue as u64), "", overdue > 0))
                (tile("Grants to processes that still run", &number(running as u64), "", false))
            }
            nav aria-label="Sections" {
                a href="#accesses" { "Accesses" } a href="#chains" { "Chains and secrets" }
                a href="#denials" { "Denials" } a href="#due" { "Due rotations" }
                a href="#exposure" { "Exposure" } a href="#unused" { "Never used" } a href="#notes" { "Notes" }
            }
        }
    }
}

fn tile(name: &str, value: &str, more: &str, alarming: bool) -> Markup {
    html! {
        div.alarm[alarming] {
            dt { (name) }
            dd { (value) @if !more.is_empty() { " " small { (more) } } }
        }
    }
}

fn verification(report: &Report) -> Markup {
    let log = &report.log;
    html! {
        @if let Some(fault) = &log.fault {
            div.verdict.bad role="alert" {
                p { strong { "✕ What follows can't be trusted: " (fault) "." } }
                p { "As of " (time(&log.as_of)) ". Find out with " code { "mentiko audit verify" } " what happened." }
            }
        } @else {
            div.verdict.good {
                p {
                    strong { "✓ The log verifies" }
                    ": " (number(log.records.unwrap_or_default())) " records, as of " (time(&log.as_of)) "."
                    @for remark in &log.remarks { " " (sentence(remark)) "." }
                }
                p.head { "Head " code { (log.head.as_deref().unwrap_or_default()) } }
                p.more {
                    "That nothing was cut off the end shows only with a head kept elsewhere: "
                    code { "mentiko audit verify --expect" } "."
                }
            }
        }
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// Shown by the script alone: without it they would do nothing. Not a form, for there is nothing to
/// send.
fn filters(report: &Report) -> Markup {
    let chains = columns(report).into_keys();
    html! {
        div #filters role="search" aria-label="Filters" hidden {
            label { "Secret" (select("by-secret", report.secrets.iter().take(MAX_ROWS).map(|secret| secret.name.as_str()))) }
            label { "Chain" (select("by-chain", chains)) }
            label { "Outcome" (select("by-outcome", ["granted", "denied", "failed"].into_iter())) }
            label { "Text" input #by-text type="search" autocomplete="off" spellcheck="false" placeholder="name or reason"; }
            button #reset type="button" { "Show all" }
        }
        p #filtered role="status" aria-live="polite" {}
    }
}

fn select<'a>(id: &str, options: impl Iterator<Item = &'a str>) -> Markup {
    html! {
        select id=(id) autocomplete="off" {
            option value="" { "all" }
            @for option in options { option value=(option) { (option) } }
        }
    }
}

fn section(id: &str, title: &str, count: Option<usize>, content: &Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ "of-" (id) } {
            h2 id={ "of-" (id) } {
                (title)
                @if let Some(count) = count { " " span.count { (count) } }
            }
            (content)
        }
    }
}

/// How many of a long list are not on the page.
fn cut(all: usize, what: &str) -> Markup {
    html! {
        @if all > MAX_ROWS {
            p.more { "These are " (number(MAX_ROWS as u64)) " of " (number(all as u64)) " " (what) "; --json has all." }
        }
    }
}

/// The most used first.
fn by_use(report: &Report) -> Vec<&Secret> {
    let mut secrets: Vec<&Secret> = report.secrets.iter().collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse((secret.total.granted, secret.total.denied)));
    secrets.truncate(MAX_ROWS);
    secrets
}

fn name(secret: &Secret) -> Markup {
    html! { th.name scope="row" { (secret.name) @if !secret.in_vault { " " small { "not in the vault" } } } }
}

fn accesses(report: &Report) -> Markup {
    let (frame, secrets) = (&report.chart, by_use(report));
    let unit = frame.unit();
    let dates = html! { span.dates { span { (frame.first) } span { (frame.last) } } };
    let title = format!("Accesses a {unit}");
    let content = html! {
        @if secrets.is_empty() && report.bars.is_empty() { p { "There is no access on record in this time." } }
        @else {
            figure.all {
                figcaption { "All secrets: " (counts(Count { granted: report.granted, denied: report.denied })) }
                (bars("All secrets", frame, &report.bars))
                (dates)
            }
            p.key { span.yes {} "grants, above the line " span.no {} "denials, below it. Each row has its own scale." }
            table {
                caption { "Accesses a " (unit) " for each secret, the most used first" }
                thead { tr {
                    th scope="col" { "Secret" } th.chart scope="col" { (dates) }
                    th.number scope="col" { "Grants" } th.number scope="col" { "Denials" }
                    th.number scope="col" { "Most a " (unit) } th scope="col" { "Last grant" }
                } }
                tbody {
                    @for secret in &secrets {
                        tr data-row data-secret=(secret.name) data-chain=(chains(secret)) data-outcome=(outcomes(secret.total)) {
                            (name(secret))
                            td.chart { (bars(&secret.name, frame, &secret.bars)) }
                            td.number { (number(secret.total.granted)) }
                            td.number.alarm[secret.total.denied > 0] { (number(secret.total.denied)) }
                            td.number { (number(busiest(&secret.bars).map_or(0, |bar| bar.count.granted))) }
                            td.time { (secret.last_granted.as_deref().map_or_else(|| "never".into(), time)) }
                        }
                    }
                }
            }
            (cut(report.secrets.len(), "secrets"))
        }
    };
    section("accesses", &title, Some(secrets.len()), &content)
}

/// The chains that asked for a secret, each with its accesses.
fn columns(report: &Report) -> BTreeMap<&str, Count> {
    let mut columns: BTreeMap<&str, Count> = BTreeMap::new();
    for chain in report.secrets.iter().flat_map(|secret| &secret.chains) {
        columns.entry(&chain.chain).or_default().add(chain.count);
    }
    columns
}

fn heat_map(report: &Report) -> Markup {
    let all = columns(report);
    let mut columns: Vec<(&str, Count)> = all.iter().map(|(&chain, &count)| (chain, count)).collect();
    columns.sort_by_key(|(_, count)| std::cmp::Reverse((count.granted, count.denied)));
    columns.truncate(MAX_COLUMNS);
    let secrets = by_use(report);
    let most = secrets.iter().flat_map(|secret| &secret.chains).map(|chain| chain.count.granted).max().unwrap_or(0);
    let content = html! {
        @if secrets.is_empty() { p { "No chain asked for a secret in this time." } }
        @else {
            p.key {
                "Grants, from few " @for step in 1..=6 { span class={ "heat h" (step) } {} } " to many; "
                span.no.sign { "✕" } " denials."
            }
            div.wide tabindex="0" role="region" aria-label="Chains and secrets" {
                table #heat {
                    caption { "Grants and denials of each secret to each chain" }
                    thead { tr {
                        th scope="col" { "Secret" }
                        @for (chain, count) in &columns {
                            th.turned scope="col" data-chain=(chain) title=(counts(*count)) { span { (chain) } }
                        }
                    } }
                    tbody {
                        @for secret in &secrets {
                            tr data-row data-secret=(secret.name) data-chain=(chains(secret)) data-outcome=(outcomes(secret.total)) {
                                (name(secret))
                                @for (chain, _) in &columns { (cell(secret, chain, most)) }
                            }
                        }
                    }
                }
            }
            @if all.len() > columns.len() {
                p.more { "These are the " (columns.len()) " chains with most accesses, of " (all.len()) "." }
            }
        }
    };
    section("chains", "Chains and secrets", Some(secrets.len()), &content)
}

fn cell(secret: &Secret, chain: &str, most: u64) -> Markup {
    let count = secret.chains.iter().find(|found| found.chain == chain).map(|found| found.count).unwrap_or_default();
    html! {
        td class={ "heat h" (level(count.granted, most)) } {
            @if count.granted > 0 { (number(count.granted)) }
            @if count.denied > 0 { span.no { "✕" (number(count.denied)) } }
        }
    }
}

fn denials(report: &Report) -> Markup {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".into());
    let content = html! {
        @if report.denials.is_empty() { p { "Nothing was refused in this time, and no launch failed." } }
        @else {
            table.narrow {
                caption { "Reasons, the most frequent first" }
                thead { tr { th.number scope="col" { "Times" } th scope="col" { "Reason" } } }
                tbody {
                    @for reason in report.reasons.iter().take(10) {
                        tr { td.number { (number(reason.count)) } td { (reason.reason) } }
                    }
                }
            }
            table {
                caption { "Denials and failed launches, the latest first" }
                thead { tr {
                    th scope="col" { "Time" } th scope="col" { "Outcome" } th scope="col" { "Secret" }
                    th scope="col" { "Chain" } th scope="col" { "Agent" } th scope="col" { "Reason" }
                    th.number scope="col" { "Record" }
                } }
                tbody {
                    @for refusal in &report.denials {
                        tr data-row data-secret=(refusal.secret.as_deref().unwrap_or_default())
                            data-chain=(refusal.chain.as_deref().unwrap_or_default()) data-outcome=(refusal.outcome) {
                            td.time { (time(&refusal.time)) }
                            td.alarm { (refusal.outcome) @if !refusal.has_mac { " " small { "no MAC" } } }
                            td.name { (dash(&refusal.secret)) }
                            td { (dash(&refusal.chain)) }
                            td { (dash(&refusal.agent)) }
                            td { (dash(&refusal.reason)) }
                            td.number { (refusal.seq) }
                        }
                    }
                }
            }
            @if report.left_out.refusals > 0 {
                p.more {
                    "These are the latest; " (number(report.left_out.refusals)) " before them are counted above only. "
                    code { "mentiko audit query --outcome denied" } " lists all."
                }
            }
        }
    };
    section("denials", "Denials", Some(report.denials.len()), &content)
}

fn due(report: &Report) -> Markup {
    let shown = report.due.len().min(MAX_ROWS);
    let content = html! {
        @if report.due.is_empty() { p { "Nothing is due within " (report.due_within_days) " days." } }
        @else {
            table.narrow {
                caption { "Overdue, or due within " (report.due_within_days) " days" }
                thead { tr {
                    th scope="col" { "Secret" } th scope="col" { "Due" } th scope="col" { "State" } th scope="col" { "Every" }
                } }
                tbody {
                    @for due in report.due.iter().take(MAX_ROWS) {
                        tr data-row data-secret=(due.name) {
                            th.name scope="row" { (due.name) }
                            td.time { (due.due.as_deref().map_or_else(|| "–".into(), day)) }
                            td.alarm[due.overdue] { (due.state()) }
                            td { (due.rotate_every.as_deref().unwrap_or("–")) }
                        }
                    }
                }
            }
            (cut(report.due.len(), "secrets"))
        }
    };
    section("due", "Due rotations", Some(shown), &content)
}

fn exposure(report: &Report) -> Markup {
    let exposed: Vec<&Secret> =
        report.secrets.iter().filter(|secret| !secret.exposure.is_empty()).take(MAX_ROWS).collect();
    let rows = exposed.iter().map(|secret| secret.exposure.len()).sum();
    let content = html! {
        @if exposed.is_empty() { p { "Nobody was given a secret in this time." } }
        @else {
            p.more { "Who was given which version of what. An agent may have passed on what it got." }
            table {
                caption { "Holders of each secret, the latest first" }
                thead { tr {
                    th scope="col" { "Chain / agent" } th.number scope="col" { "Version" } th scope="col" { "Host" }
                    th.number scope="col" { "Runs" } th.number scope="col" { "Grants" } th scope="col" { "First" }
                    th scope="col" { "Last" } th scope="col" { "Still running" }
                } }
                @for secret in &exposed {
                    tbody data-group { (holders(secret)) }
                }
            }
            (cut(report.secrets.len(), "secrets"))
        }
    };
    section("exposure", "Exposure", Some(rows), &content)
}

fn holders(secret: &Secret) -> Markup {
    html! {
        tr.group { th.name scope="rowgroup" colspan="8" { (secret.name) " " small { (plural(secret.exposure.len() as u64, "holder")) } } }
        @for holder in &secret.exposure {
            @let held = &holder.held;
            tr data-row data-secret=(secret.name) data-chain=(holder.chain) data-outcome="granted" {
                th scope="row" { (holder.chain) " / " (holder.agent) }
                td.number { (holder.version) }
                td { (holder.host) }
                td.number { (number(holder.runs)) }
                td.number { (number(held.accesses)) }
                td.time { (time(&held.first)) }
                td.time { (time(&held.last)) }
                td { (running(&held.running.iter().map(|&process| process.into()).collect::<Vec<i32>>())) }
            }
        }
    }
}

fn running(processes: &[i32]) -> Markup {
    html! {
        @match processes {
            [] => { "–" }
            [first, rest @ ..] => {
                strong { "pid " (first) @for pid in rest.iter().take(20) { ", " (pid) } @if rest.len() > 20 { " …" } }
            }
        }
    }
}

fn never_used(report: &Report) -> Markup {
    let content = html! {
        @if report.never_used.is_empty() { p { "Each secret in the vault was granted in this time." } }
        @else {
            p.more { "In the vault, and granted to nobody in this time. What nobody needs is best removed." }
            table.narrow {
                caption { "Secrets that were not granted" }
                thead { tr {
                    th scope="col" { "Secret" } th scope="col" { "Stored" } th scope="col" { "Scope" }
                    th.number scope="col" { "Denials" }
                } }
                tbody {
                    @for unused in report.never_used.iter().take(MAX_ROWS) {
                        tr data-row data-secret=(unused.name) {
                            th.name scope="row" { (unused.name) }
                            td.time { (day(&unused.stored)) }
                            td { (unused.scope.as_ref().map_or_else(|| "all".into(), |chains| chains.join(", "))) }
                            td.number.alarm[unused.denied > 0] { (number(unused.denied)) }
                        }
                    }
                }
            }
            (cut(report.never_used.len(), "secrets"))
        }
    };
    section("unused", "Never used", Some(report.never_used.len().min(MAX_ROWS)), &content)
}

fn notes(report: &Report) -> Markup {
    let left = &report.left_out;
    let span = match (&report.first, &report.last) {
        (Some(first), Some(last)) => format!(", from {} to {}", time(first), time(last)),
        _ => String::new(),
    };
    let content = html! {
        ul {
            li { "Records that were read: " (number(report.records)) (span) ". Launches that failed: " (number(report.failed)) "." }
            li {
                "The vault was opened for names, schedules and the key of the log. No value was opened, and none is on this page. \
                 Names are: keep it as you keep the log."
            }
            li { "The page loads nothing. Filters need its script; everything is there without it." }
            @if left.unverified > 0 {
                li { "Records that were written while the page was made, and are not on it: " (number(left.unverified)) "." }
            }
            @if left.unreadable > 0 { li { "Lines that are no whole records, passed over: " (number(left.unreadable)) "." } }
            @if left.outside > 0 { li { "Accesses outside the days of the charts, in the totals only: " (number(left.outside)) "." } }
            @if left.accesses > 0 { li { "Accesses to further secrets, in the totals only: " (number(left.accesses)) "." } }
            @if left.holders > 0 { li { "Accesses by further chains or agents, in the totals only: " (number(left.holders)) "." } }
            @if left.runs { li { "There were more runs than were told apart: take their numbers for \"at least\"." } }
        }
    };
    section("notes", "Notes", None, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_style_nor_script_ends_its_element() {
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("</") && !text.contains("<!--") && !text.contains('\r'));
        }
        assert!(policy().starts_with("default-src 'none'; style-src 'sha256-"));
    }
}
