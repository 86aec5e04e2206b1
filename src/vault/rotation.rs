//! How often a secret is to be rotated.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

use super::Record;

/// A schedule; nothing is ever rotated by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Every so many days, 1 to 3650.
    Days(u16),
    /// On the same day of each month, or its last.
    Monthly,
    /// Every third month.
    Quarterly,
    /// Every twelfth month.
    Yearly,
}

impl Rotation {
    /// When what was stored at this time is to be replaced: the same time of day in UTC, whatever
    /// time zone anybody is in, on the same day of a later month, or on its last where it is shorter.
    /// `None` beyond the year 9999.
    pub fn due(self, stored: Timestamp) -> Option<Timestamp> {
        let date = TimeZone::UTC.to_datetime(stored).checked_add(self.period()).ok()?;
        TimeZone::UTC.to_timestamp(date).ok()
    }

    fn period(self) -> Span {
        match self {
            Self::Days(days) => i64::from(days).days(),
            Self::Monthly => 1.month(),
            Self::Quarterly => 3.months(),
            Self::Yearly => 1.year(),
        }
    }

    pub(super) fn from_code(code: u8, days: u16) -> Option<Option<Self>> {
        match (code, days) {
            (0, 0) => Some(None),
            (1, 1..=3650) => Some(Some(Self::Days(days))),
            (2, 0) => Some(Some(Self::Monthly)),
            (3, 0) => Some(Some(Self::Quarterly)),
            (4, 0) => Some(Some(Self::Yearly)),
            _ => None,
        }
    }
}

impl Record {
    /// When the current version is to be replaced, where there is one and it has a schedule.
    pub fn due(&self) -> Option<Timestamp> {
        let stored = i64::try_from(self.current()?.created).ok()?;
        self.rotation?.due(Timestamp::from_second(stored).ok()?)
    }

    /// Since when it should have been replaced, seen from `now`. A clock that was set back makes
    /// nothing overdue.
    pub fn overdue_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.due().filter(|due| *due <= now)
    }
}

/// Seconds since 1970, UTC: how a vault keeps times.
pub fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::{Sealed, State, Version};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn due_dates_are_those_that_a_person_expects() {
        for (stored, rotation, expected) in [
            // Month ends: the last day of a shorter month, and no drift over into the next.
            ("2026-01-31T12:00:00Z", "monthly", "2026-02-28T12:00:00Z"),
            ("2026-03-31T23:59:59Z", "monthly", "2026-04-30T23:59:59Z"),
            ("2026-04-30T00:00:00Z", "monthly", "2026-05-30T00:00:00Z"),
            ("2026-12-31T12:00:00Z", "monthly", "2027-01-31T12:00:00Z"),
            ("2026-11-30T00:00:00Z", "quarterly", "2027-02-28T00:00:00Z"),
            ("2026-08-31T00:00:00Z", "quarterly", "2026-11-30T00:00:00Z"),
            ("2026-10-01T00:00:00Z", "quarterly", "2027-01-01T00:00:00Z"),
            // Leap days; 2100 has none.
            ("2024-01-31T12:00:00Z", "monthly", "2024-02-29T12:00:00Z"),
            ("2024-02-29T00:00:00Z", "monthly", "2024-03-29T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "yearly", "2025-02-28T00:00:00Z"),
            ("2023-11-30T00:00:00Z", "quarterly", "2024-02-29T00:00:00Z"),
            ("2100-01-31T00:00:00Z", "monthly", "2100-02-28T00:00:00Z"),
            ("2027-02-28T00:00:00Z", "yearly", "2028-02-28T00:00:00Z"),
            // Days are counted, whatever the months.
            ("2026-01-31T12:00:00Z", "30d", "2026-03-02T12:00:00Z"),
            ("2024-01-31T12:00:00Z", "30d", "2024-03-01T12:00:00Z"),
            ("2024-02-28T12:00:00Z", "1d", "2024-02-29T12:00:00Z"),
            ("2023-03-01T00:00:00Z", "365d", "2024-02-29T00:00:00Z"),
            ("2026-12-31T23:59:59Z", "1d", "2027-01-01T23:59:59Z"),
            ("2026-01-01T00:00:00Z", "3650d", "2035-12-30T00:00:00Z"),
            // Where many clocks change, in UTC nothing does.
            ("2026-03-28T01:30:00Z", "1d", "2026-03-29T01:30:00Z"),
            ("2026-10-24T01:30:00Z", "1d", "2026-10-25T01:30:00Z"),
            // A clock that stood at its start, and one far ahead.
            ("1970-01-01T00:00:00Z", "monthly", "1970-02-01T00:00:00Z"),
            ("9998-06-01T00:00:00Z", "yearly", "9999-06-01T00:00:00Z"),
        ] {
            let due = rotation.parse::<Rotation>().unwrap().due(at(stored));
            assert_eq!(due, Some(at(expected)), "{stored} {rotation}");
        }
        assert_eq!(Rotation::Yearly.due(at("9999-06-01T00:00:00Z")), None);
    }

    fn record(rotation: Option<Rotation>, created: u64) -> Record {
        let mut record = crate::vault::Vault::new_record("A".parse().unwrap(), 0);
        record.rotation = rotation;
        for (number, state, created) in [(1, State::Previous, 0), (2, State::Current, created), (3, State::Revoked, 0)]
        {
            record.versions.push(Version { number, state, created, sealed: Sealed::wiped() });
        }
        record
    }

    #[test]
    fn the_current_version_counts() {
        let stored = at("2026-03-07T09:15:02Z");
        let seconds = stored.as_second().try_into().unwrap();
        let mut monthly = record(Some(Rotation::Monthly), seconds);
        let due = at("2026-04-07T09:15:02Z");
        assert_eq!(monthly.due(), Some(due));
        for (now, expected) in [
            ("2026-04-07T09:15:01.999Z", None),
            ("2026-04-07T09:15:02Z", Some(due)),
            ("2030-01-01T00:00:00Z", Some(due)),
            // Before it was stored, and long before.
            ("2026-03-07T09:15:01Z", None),
            ("1970-01-01T00:00:00Z", None),
            ("-000100-01-01T00:00:00Z", None),
        ] {
            assert_eq!(monthly.overdue_since(at(now)), expected, "{now}");
        }
        assert_eq!(record(None, seconds).due(), None);
        monthly.versions.retain(|version| version.state != State::Current);
        assert_eq!(monthly.due(), None, "without a version there is nothing to count from");
    }

    #[test]
    fn times_that_no_calendar_has_are_no_fault() {
        for created in [u64::MAX, i64::MAX as u64, 253_402_207_200, 1 << 40] {
            assert_eq!(record(Some(Rotation::Days(3650)), created).due(), None, "{created}");
        }
    }

    #[test]
    fn now_is_the_second_that_it_is() {
        let seconds = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let (before, now, after) = (seconds(), now(), seconds());
        assert!(before <= now && now <= after, "{before} {now} {after}");
    }

    #[test]
    fn text_and_code_round_trip() {
        for text in ["30d", "1d", "3650d", "monthly", "quarterly", "yearly"] {
            let rotation: Rotation = text.parse().unwrap();
            assert_eq!(rotation.to_string(), text);
            let (code, days) = rotation.code();
            assert_eq!(Rotation::from_code(code, days), Some(Some(rotation)));
        }
        for text in ["", "d", "0d", "3651d", "+5d", "30", "weekly", "30 d"] {
            assert!(text.parse::<Rotation>().is_err(), "{text}");
        }
        assert_eq!(Rotation::from_code(0, 0), Some(None));
        assert_eq!(Rotation::from_code(9, 0), None);
    }
}
