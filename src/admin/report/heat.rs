//! The heat map: which chain had which secret how often.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::gather::Count;
use super::parts::{chains, counts, level, number, outcomes};
use super::sections::{by_use, name, section};
use super::{Report, Secret};

/// How many columns it may have: those of the chains with most accesses.
const MAX_COLUMNS: usize = 40;

/// The chains that asked for a secret, each with its accesses.
pub(super) fn columns(report: &Report) -> BTreeMap<&str, Count> {
    let mut columns: BTreeMap<&str, Count> = BTreeMap::new();
    for chain in report.secrets.iter().flat_map(|secret| &secret.chains) {
        columns.entry(&chain.chain).or_default().add(chain.count);
    }
    columns
}

pub(super) fn heat_map(report: &Report) -> Markup {
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
