//! The sections of the page: a heading, and a table whose rows the filters know.

use maud::{Markup, html};

use super::gather::Count;
use super::parts::{bars, busiest, chains, counts, day, number, outcomes, plural, time};
use super::{Report, Secret};

/// How many rows a table of secrets may have.
pub(super) const MAX_ROWS: usize = 1000;

pub(super) fn section(id: &str, title: &str, count: Option<usize>, content: &Markup) -> Markup {
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
pub(super) fn by_use(report: &Report) -> Vec<&Secret> {
    let mut secrets: Vec<&Secret> = report.secrets.iter().collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse((secret.total.granted, secret.total.denied)));
    secrets.truncate(MAX_ROWS);
    secrets
}

pub(super) fn name(secret: &Secret) -> Markup {
    html! { th.name scope="row" { (secret.name) @if !secret.in_vault { " " small { "not in the vault" } } } }
}

pub(super) fn accesses(report: &Report) -> Markup {
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

pub(super) fn denials(report: &Report) -> Markup {
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

pub(super) fn due(report: &Report) -> Markup {
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

pub(super) fn exposure(report: &Report) -> Markup {
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

pub(super) fn never_used(report: &Report) -> Markup {
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

pub(super) fn notes(report: &Report) -> Markup {
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
