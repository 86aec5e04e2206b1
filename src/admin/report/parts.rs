//! Pieces of the page: numbers, times, bars, colors of the heat map.

use maud::{Markup, html};

use super::frame::Frame;
use super::gather::Count;
use super::{Bar, Secret};

/// Height of grants above the line, and of denials below it.
const UP: u64 = 28;
const DOWN: u64 = 10;
/// Width of a bar, and the gap after it.
const WIDTH: usize = 4;
const GAP: usize = 1;

/// With commas between thousands.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8(groups.join(&b',')).unwrap_or(digits)
}

/// `1 grant`, `2 grants`.
pub(super) fn plural(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

/// A time of the log, to the second.
pub(super) fn time(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

/// Its day.
pub(super) fn day(time: &str) -> String {
    time.get(..10).unwrap_or(time).to_owned()
}

/// Grants above a line, denials below it. Each has its own scale, so that one denial can be seen.
pub(super) fn bars(label: &str, frame: &Frame, bars: &[Bar]) -> Markup {
    let most = |of: fn(&Count) -> u64| bars.iter().map(|bar| of(&bar.count)).max().unwrap_or(0);
    let (granted, denied) = (most(|count| count.granted), most(|count| count.denied));
    let width = frame.bars * (WIDTH + GAP);
    html! {
        svg.bars viewBox={ "0 0 " (width) " " (UP + DOWN) } preserveAspectRatio="none" role="img"
            aria-label={ (label) ": " (summary(frame, bars)) } {
            @for bar in bars {
                g {
                    title { (frame.day(bar.at)) ": " (counts(bar.count)) }
                    @if bar.count.granted > 0 {
                        @let height = scaled(bar.count.granted, granted, UP);
                        rect.yes x=(bar.at * (WIDTH + GAP)) y=(UP - height) width=(WIDTH) height=(height) {}
                    }
                    @if bar.count.denied > 0 {
                        @let height = scaled(bar.count.denied, denied, DOWN - 1);
                        rect.no x=(bar.at * (WIDTH + GAP)) y=(UP + 1) width=(WIDTH) height=(height) {}
                    }
                }
            }
            line x1="0" y1=(UP) x2=(width) y2=(UP) {}
        }
    }
}

/// What the bars say, for those who can't see them.
fn summary(frame: &Frame, bars: &[Bar]) -> String {
    let total = |of: fn(&Count) -> u64| bars.iter().map(|bar| of(&bar.count)).sum::<u64>();
    let all = counts(Count { granted: total(|count| count.granted), denied: total(|count| count.denied) });
    match busiest(bars) {
        None => "no access".into(),
        Some(bar) => format!("{all}, most in the {} from {}: {}", frame.unit(), bar.from, counts(bar.count)),
    }
}

/// The bar with most grants; with most denials, where nothing was granted.
pub(super) fn busiest(bars: &[Bar]) -> Option<&Bar> {
    bars.iter().max_by_key(|bar| (bar.count.granted, bar.count.denied))
}

pub(super) fn counts(count: Count) -> String {
    match (count.granted, count.denied) {
        (granted, 0) => plural(granted, "grant"),
        (0, denied) => plural(denied, "denial"),
        (granted, denied) => format!("{}, {}", plural(granted, "grant"), plural(denied, "denial")),
    }
}

/// At least 2, so that one of many can be seen.
fn scaled(value: u64, most: u64, height: u64) -> u64 {
    (value.saturating_mul(height) / most.max(1)).clamp(2, height)
}

/// 0 for none, else 1 to 6 by orders of magnitude: the class of a cell.
pub(super) fn level(value: u64, most: u64) -> u32 {
    let magnitude = |value: u64| (value as f64).ln_1p();
    match value {
        0 => 0,
        _ => 1 + (5.0 * magnitude(value - 1) / magnitude(most.max(2) - 1)).floor().clamp(0.0, 5.0) as u32,
    }
}

/// Which outcomes it had, for the filter.
pub(super) fn outcomes(count: Count) -> &'static str {
    match (count.granted, count.denied) {
        (0, _) => "denied",
        (_, 0) => "granted",
        _ => "granted denied",
    }
}

/// Its chains, for the filter: no name has a newline.
pub(super) fn chains(secret: &Secret) -> String {
    secret.chains.iter().map(|chain| chain.chain.as_str()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn levels_go_from_one_to_six() {
        for (value, most, expected) in
            [(0, 9, 0), (1, 1, 1), (1, 1000, 1), (1000, 1000, 6), (2, 2, 6), (30, 1000, 3), (u64::MAX, u64::MAX, 6)]
        {
            assert_eq!(level(value, most), expected, "{value} of {most}");
        }
    }

    #[test]
    fn one_of_many_can_be_seen() {
        assert_eq!((scaled(1, 1_000_000, 28), scaled(1_000_000, 1_000_000, 28), scaled(u64::MAX, 1, 9)), (2, 28, 9));
    }

    #[test]
    fn what_is_put_into_attributes_and_texts_is_escaped() {
        let day = "2026-03-07".parse().unwrap();
        let frame = Frame::new(day, day);
        let drawn = bars("\"><script>&", &frame, &[]).into_string();
        assert!(drawn.contains("aria-label=\"&quot;&gt;&lt;script&gt;&amp;: no access\""), "{drawn}");
    }
}
