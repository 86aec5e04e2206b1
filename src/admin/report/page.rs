//! The page. maud escapes whatever is put into it; the script gets nothing but what stands in the
//! page's own elements and attributes.

use base64ct::{Base64, Encoding};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Report;
use super::heat::{columns, heat_map};
use super::parts::{day, number, time};
use super::sections::{MAX_ROWS, accesses, denials, due, exposure, never_used, notes};
use crate::vault::sha256;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

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
