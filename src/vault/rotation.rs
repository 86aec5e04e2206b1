//! How often a secret is to be rotated.

use std::fmt;
use std::str::FromStr;

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
    pub(super) fn code(self) -> (u8, u16) {
        match self {
            Self::Days(days) => (1, days),
            Self::Monthly => (2, 0),
            Self::Quarterly => (3, 0),
            Self::Yearly => (4, 0),
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

impl FromStr for Rotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "monthly" => Ok(Self::Monthly),
            "quarterly" => Ok(Self::Quarterly),
            "yearly" => Ok(Self::Yearly),
            _ => text
                .strip_suffix('d')
                .filter(|days| days.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|days| days.parse().ok())
                .filter(|days| (1..=3650).contains(days))
                .map(Self::Days)
                .ok_or_else(|| "use 30d (1d to 3650d), monthly, quarterly or yearly".into()),
        }
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(f, "{days}d"),
            Self::Monthly => f.write_str("monthly"),
            Self::Quarterly => f.write_str("quarterly"),
            Self::Yearly => f.write_str("yearly"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
