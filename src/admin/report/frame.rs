//! The days that the charts show, in bars of a day, a week or more.

use jiff::civil::Date;
use jiff::{ToSpan, Unit};
use serde::Serialize;

/// As many bars as can be told apart.
const MOST: i32 = 92;
/// The fewest days where nothing was asked for: a single bar says little.
const FEWEST: i64 = 14;
/// The longest time, in days: a record with a forged time squeezes the others, but not into nothing.
const LONGEST: i32 = 3660;

/// Bars of the same length, the first of which begins with a certain day.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Frame {
    #[serde(serialize_with = "as_text")]
    pub(super) first: Date,
    #[serde(serialize_with = "as_text")]
    pub(super) last: Date,
    pub(super) days_each: i32,
    pub(super) bars: usize,
    /// The day that was asked for last, and its bar.
    #[serde(skip)]
    recent: Option<(String, Option<usize>)>,
}

impl Frame {
    /// Bars for all days from the first to the last: days where they are few enough, else weeks.
    pub(super) fn new(first: Date, last: Date) -> Self {
        let earliest = last.checked_sub((LONGEST - 1).days()).unwrap_or(last);
        let first = first.clamp(earliest, last);
        let days = between(first, last) + 1;
        let days_each = match days {
            ..=MOST => 1,
            days if days <= 7 * MOST => 7,
            days => (days + MOST - 1) / MOST,
        };
        let bars = usize::try_from((days + days_each - 1) / days_each).unwrap_or(1);
        Self { first, last, days_each, bars, recent: None }
    }

    /// The same, and two weeks at least.
    pub(super) fn from_record(first: Date, last: Date) -> Self {
        let latest = last.checked_sub((FEWEST - 1).days()).unwrap_or(last);
        Self::new(first.min(latest), last)
    }

    /// The bar of a time in RFC 3339; `None` where it is no time, or outside.
    pub(super) fn bar(&mut self, time: &str) -> Option<usize> {
        let day = time.get(..10)?;
        if let Some((recent, bar)) = &self.recent
            && recent == day
        {
            return *bar;
        }
        let bar = day.parse().ok().and_then(|date| self.bar_of(date));
        self.recent = Some((day.to_owned(), bar));
        bar
    }

    fn bar_of(&self, date: Date) -> Option<usize> {
        if date > self.last {
            return None;
        }
        usize::try_from(between(self.first, date)).ok().map(|days| days / usize::try_from(self.days_each).unwrap_or(1))
    }

    /// The first day of a bar.
    pub(super) fn day(&self, bar: usize) -> Date {
        let days = i64::try_from(bar).unwrap_or(0) * i64::from(self.days_each);
        self.first.checked_add(days.days()).unwrap_or(self.last)
    }

    /// What a bar stands for.
    pub(super) fn unit(&self) -> String {
        match self.days_each {
            1 => "day".into(),
            7 => "week".into(),
            days => format!("{days} days"),
        }
    }
}

/// A day as JSON shows it: `2026-03-07`.
pub(super) fn as_text<S: serde::Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}

fn between(from: Date, to: Date) -> i32 {
    from.until((Unit::Day, to)).map_or(0, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: &str, last: &str) -> Frame {
        Frame::new(first.parse().unwrap(), last.parse().unwrap())
    }

    #[test]
    fn each_day_has_its_bar() {
        let mut days = frame("2026-01-01", "2026-04-02");
        assert_eq!((days.bars, days.days_each), (92, 1));
        for (time, bar) in [
            ("2026-01-01T00:00:00.000000Z", Some(0)),
            ("2026-04-02T23:59:59.999999Z", Some(91)),
            ("2026-04-03T00:00:00.000000Z", None),
            ("2025-12-31T23:59:59.999999Z", None),
            ("2026-02-30T00:00:00.000000Z", None),
            ("<script>..", None),
            ("", None),
        ] {
            assert_eq!(days.bar(time), bar, "{time}");
        }
        assert_eq!(days.day(91).to_string(), "2026-04-02");
    }

    #[test]
    fn a_young_log_is_shown_with_two_weeks() {
        let last = "2026-03-07".parse().unwrap();
        for (first, expected) in
            [("2026-03-07", "2026-02-22"), ("2026-02-23", "2026-02-22"), ("2026-01-01", "2026-01-01")]
        {
            assert_eq!(Frame::from_record(first.parse().unwrap(), last).first.to_string(), expected);
        }
    }

    #[test]
    fn long_times_have_longer_bars() {
        for (first, last, each, bars) in [
            ("2026-03-07", "2026-03-07", 1, 1),
            ("2026-01-01", "2026-04-03", 7, 14),
            ("2024-06-29", "2026-04-02", 7, 92),
            ("2024-06-28", "2026-04-02", 7, 92),
            ("2020-01-01", "2026-04-02", 25, 92),
            ("0001-01-01", "2026-04-02", 40, 92),
            ("2027-01-01", "2026-04-02", 1, 1),
        ] {
            let mut frame = frame(first, last);
            assert_eq!((frame.days_each, frame.bars), (each, bars), "{first}");
            assert_eq!(frame.bar(last), Some(bars - 1));
        }
    }
}
