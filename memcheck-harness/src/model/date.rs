//! `Date`: a day of the calendar, as written in `memcheck.toml`. Time zones are left out: days are those of UTC.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A day, ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31, as the month has.
    pub day: u8,
}

impl Date {
    /// Reads `2027-01-31`; `None` for anything else, days that the calendar does not have included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts.as_slice() else { return None };
        let number = |text: &str, digits: usize| {
            let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse::<u16>().ok()).flatten()
        };
        let date = Self {
            year: number(year, 4)?,
            month: u8::try_from(number(month, 2)?).ok()?,
            day: u8::try_from(number(day, 2)?).ok()?,
        };
        let exists = date.year > 0 && (1..=12).contains(&date.month) && (1..=days(date.year, date.month)).contains(&date.day);
        exists.then_some(date)
    }

    /// The day (UTC) that lies so many seconds after 1970-01-01; years past 9999 stay at its last day.
    #[must_use]
    pub fn from_unix_seconds(seconds: u64) -> Self {
        let mut left = seconds / 86_400;
        for year in 1970..=9999_u16 {
            for month in 1..=12 {
                let length = u64::from(days(year, month));
                if left < length {
                    // Less than the days of a month.
                    let day = u8::try_from(left).unwrap_or(0) + 1;
                    return Self { year, month, day };
                }
                left -= length;
            }
        }
        Self {
            year: 9999,
            month: 12,
            day: 31,
        }
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

impl TryFrom<String> for Date {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no day"))
    }
}

/// Days of a month in the Gregorian calendar.
fn days(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04}-{:02}-{:02}", self.year, self.month, self.day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar_only() {
        for text in ["2027-01-31", "2024-02-29", "2000-02-29", "9999-12-31"] {
            assert_eq!(Date::parse(text).map(|date| date.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "2027",
            "2027-1-31",
            "2023-02-29",
            "1900-02-29",
            "2027-13-01",
            "2027-00-10",
            "2027-01-32",
            "0000-01-01",
            "+027-01-01",
            "2027-01-31T00:00:00",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }

    /// Seconds of well-known days, as `date -u -d … +%s` gives them.
    #[test]
    fn seconds_give_days() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (u64::MAX, "9999-12-31"),
        ] {
            assert_eq!(Date::from_unix_seconds(seconds).to_string(), day);
        }
        assert!(Date::parse("2026-12-31") < Date::parse("2027-01-01"));
    }
}
