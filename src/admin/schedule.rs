//! `mentiko secret schedule`: how often a secret is to be rotated.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use jiff::Timestamp;

use super::context::{self, Change};
use super::{Common, Error, secret};
use crate::audit::Event;
use crate::instance::{Instance, InstanceKey};
use crate::memory::Arena;
use crate::policy::SecretName;
use crate::vault::{Record, Rotation};

/// A period, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule(pub(super) Option<Rotation>);

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => text.parse().map(|period| Self(Some(period))).map_err(|error: String| format!("{error}; or none")),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => period.fmt(f),
            None => f.write_str("none"),
        }
    }
}

pub(super) fn run(common: &Common, name: SecretName, schedule: Schedule) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    let due = set(&instance, key, &arena, &name, schedule)?;
    Ok(writeln!(std::io::stdout(), "{name}: rotate {schedule}{due}")?)
}

/// Changes the schedule of a secret; says when it is due then.
pub(super) fn set(
    instance: &Instance,
    key: InstanceKey<'_>,
    arena: &Arena,
    name: &SecretName,
    schedule: Schedule,
) -> Result<String, Error> {
    let mut due = String::new();
    context::change(instance, key, arena, |_, contents| {
        let record = contents.get_mut(name).ok_or_else(|| secret::unknown(name))?;
        record.rotation = schedule.0;
        record.changed = context::now();
        due = described(record, Timestamp::now());
        Ok(Change { event: Event::SECRET_SCHEDULE, secret: name.clone(), version: None })
    })?;
    Ok(due)
}

fn described(record: &Record, now: Timestamp) -> String {
    match (record.due(), record.overdue_since(now)) {
        (_, Some(since)) => format!(", due since {}", date(since)),
        (Some(due), None) => format!(", due {}", date(due)),
        (None, None) => String::new(),
    }
}

/// Its date in UTC.
pub(super) fn date(time: Timestamp) -> String {
    jiff::tz::TimeZone::UTC.to_datetime(time).date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["none", "30d", "monthly", "quarterly", "yearly"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        let error = "weekly".parse::<Schedule>().unwrap_err();
        assert_eq!(error, "use 30d (1d to 3650d), monthly, quarterly or yearly; or none");
    }
}
