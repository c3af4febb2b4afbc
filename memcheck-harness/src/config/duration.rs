//! Lengths of time as a user writes them: `"30s"`, `"500ms"`, `"2m"`.

use std::time::Duration;

use super::cursor::{Form, Value};
use super::diagnostic::quote;

/// The longest that can be asked for: one day.
const MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// A time that is not zero; `example` shows one.
pub(super) fn read(value: &Value<'_>, example: &str) -> Option<Duration> {
    let key = quote(value.key);
    if let Form::Whole = value.form() {
        let number = value.whole(0, u64::MAX)?;
        return value.fail(
            format!("{key} needs a unit"),
            format!("write \"{number}s\" or \"{number}ms\""),
        );
    }
    let text = value.text(&format!("\"{example}\""))?;
    let Some(duration) = duration(text) else {
        return value.fail(
            format!("{} is not a duration", quote(text)),
            "write for example \"30s\", \"500ms\" or \"2m\"",
        );
    };
    if duration.is_zero() || duration > MOST {
        return value.fail(format!("{key} must be more than 0 and at most 24 hours"), "");
    }
    Some(duration)
}

fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    match unit.trim_start() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" | "min" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        assert_eq!(duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("500 ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        for text in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "1h",
            "99999999999999999999s",
            "9999999999999999999m",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
