//! What a launch says of secrets that should have been rotated. It rotates nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Site;
use crate::policy::{Grant, SecretName};
use crate::vault::Contents;

/// How many secrets the line names.
const NAMED: usize = 4;

/// Keeps one line about those granted secrets whose current version is overdue, unless the policy
/// wants none.
pub(super) fn warn_of_overdue(site: &Site<'_>, contents: &Contents, grants: &[Grant]) {
    if !site.instance.policy.warn_when_due {
        return;
    }
    let now = Timestamp::now();
    let date = |time| TimeZone::UTC.to_datetime(time).date();
    let since = |name| Some((date(contents.get(name)?.overdue_since(now)?), name));
    // In the order of what the line shows; one secret may be granted for several variables.
    let mut overdue = BTreeSet::new();
    overdue.extend(grants.iter().filter_map(|grant| since(grant.secret())));
    if let Some(line) = line(&overdue) {
        site.say_late(line);
    }
}

fn line(overdue: &BTreeSet<(Date, &SecretName)>) -> Option<String> {
    let (since, first) = overdue.first()?;
    let mut line = format!("{first} is due for rotation since {since}");
    for (since, name) in overdue.iter().take(NAMED).skip(1) {
        line.push_str(&format!(", {name} since {since}"));
    }
    match (overdue.len(), overdue.len().saturating_sub(NAMED)) {
        (1, _) => line.push_str(&format!(" (mentiko secret rotate {first})")),
        (_, 0) => line.push_str(" (mentiko secret rotate NAME)"),
        (_, more) => line.push_str(&format!(" and {more} more (mentiko due)")),
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_however_many() {
        let names: Vec<SecretName> = ["A", "B", "C", "D", "E", "F"].iter().map(|name| name.parse().unwrap()).collect();
        let since: Date = "2026-10-01".parse().unwrap();
        let of = |count| line(&names.iter().take(count).map(|name| (since, name)).collect()).unwrap_or_default();
        assert_eq!(of(0), "");
        assert_eq!(of(1), "A is due for rotation since 2026-10-01 (mentiko secret rotate A)");
        let two = "A is due for rotation since 2026-10-01, B since 2026-10-01";
        assert_eq!(of(2), format!("{two} (mentiko secret rotate NAME)"));
        let four = format!("{two}, C since 2026-10-01, D since 2026-10-01");
        assert_eq!(of(4), format!("{four} (mentiko secret rotate NAME)"));
        assert_eq!(of(6), format!("{four} and 2 more (mentiko due)"));
    }
}
