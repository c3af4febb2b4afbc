//! The notation of one cell, both ways: in full, and as the change since the checkpoint before. The grammar is in the
//! module's doc; which cells a row has is `render`'s and `parse`'s.

use crate::model::{Cell, Unit};

/// The word for the end of a row.
pub(super) const GONE: &str = "gone";

/// A cell in full.
pub(super) fn full(cell: Cell, unit: Unit) -> String {
    match cell {
        Cell::Absent => "-".to_owned(),
        Cell::Varies => "varies".to_owned(),
        Cell::Value(value) => number(value, unit),
    }
}

/// A cell as the change since `before`; `None` is a row that was not there.
pub(super) fn change(before: Option<Cell>, now: Cell, unit: Unit) -> String {
    match (before, now) {
        (_, Cell::Absent | Cell::Varies) => full(now, unit),
        (None, Cell::Value(now)) => difference(0, now, unit),
        (Some(Cell::Value(before)), Cell::Value(now)) => difference(before, now, unit),
        (Some(_), Cell::Value(now)) => format!("={}", number(now, unit)),
    }
}

/// A cell of a row that ends: what went, or `otherwise` where that is no number.
pub(super) fn end(before: Cell, otherwise: &str, unit: Unit) -> String {
    match before {
        Cell::Value(before) => difference(before, 0, unit),
        Cell::Absent | Cell::Varies => otherwise.to_owned(),
    }
}

/// Reads a cell in full.
pub(super) fn read_full(text: &str, unit: Unit) -> Result<Cell, String> {
    match text {
        "-" => Ok(Cell::Absent),
        "varies" => Ok(Cell::Varies),
        _ => Ok(Cell::Value(read_number(text, unit)?)),
    }
}

/// Reads a change; `Ok(None)` is the end of the row.
pub(super) fn read_change(before: Option<Cell>, text: &str, unit: Unit) -> Result<Option<Cell>, String> {
    if text == GONE {
        return Ok(None);
    }
    if let Some(value) = text.strip_prefix('=') {
        return Ok(Some(Cell::Value(read_number(value, unit)?)));
    }
    if matches!(text, "-" | "varies") {
        return read_full(text, unit).map(Some);
    }
    let base = match before {
        None => 0,
        Some(Cell::Value(base)) => base,
        Some(Cell::Absent | Cell::Varies) => return Err(format!("`{text}` is a change of a cell that has no value; write =N")),
    };
    let value = if let Some(by) = text.strip_prefix('+') {
        base.checked_add(read_number(by, unit)?)
            .ok_or_else(|| format!("`{text}` leads beyond 2^64 - 1"))?
    } else if let Some(by) = text.strip_prefix('-') {
        base.checked_sub(read_number(by, unit)?)
            .ok_or_else(|| format!("`{text}` leads below zero"))?
    } else if text == "0" {
        base
    } else {
        return Err(format!("`{text}` is no change: write +N, -N or 0"));
    };
    Ok(Some(Cell::Value(value)))
}

fn difference(before: u64, now: u64, unit: Unit) -> String {
    let sign = match now.cmp(&before) {
        std::cmp::Ordering::Less => "-",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => "+",
    };
    format!("{sign}{}", number(now.abs_diff(before), unit))
}

/// A count as it is; bytes in KiB, with the suffix `B` where they are no whole number of those.
fn number(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Count => value.to_string(),
        Unit::Bytes if value.is_multiple_of(1024) => (value / 1024).to_string(),
        Unit::Bytes => format!("{value}B"),
    }
}

fn read_number(text: &str, unit: Unit) -> Result<u64, String> {
    let (digits, scale) = match (unit, text.strip_suffix('B')) {
        (Unit::Bytes, Some(digits)) => (digits, 1),
        (Unit::Bytes, None) => (text, 1024),
        (Unit::Count, _) => (text, 1),
    };
    // `u64::from_str` alone would take a sign.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("`{text}` is no number"));
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| format!("`{text}` is more than 2^64 - 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kib_where_they_can_be() {
        assert_eq!(full(Cell::Value(8192), Unit::Bytes), "8");
        assert_eq!(full(Cell::Value(8193), Unit::Bytes), "8193B");
        assert_eq!(full(Cell::Value(8193), Unit::Count), "8193");
        assert_eq!(change(Some(Cell::Value(8193)), Cell::Value(1), Unit::Bytes), "-8");
        assert_eq!(change(Some(Cell::Value(8192)), Cell::Value(8191), Unit::Bytes), "-1B");
    }

    #[test]
    fn every_pair_of_cells_comes_back() {
        let cells = [
            Cell::Absent,
            Cell::Varies,
            Cell::Value(0),
            Cell::Value(1),
            Cell::Value(2048),
            Cell::Value(u64::MAX),
        ];
        for unit in [Unit::Count, Unit::Bytes] {
            for now in cells {
                assert_eq!(read_full(&full(now, unit), unit), Ok(now));
                for before in cells.into_iter().map(Some).chain([None]) {
                    let text = change(before, now, unit);
                    assert_eq!(read_change(before, &text, unit), Ok(Some(now)), "{before:?} {text}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_cell_is_refused() {
        for text in [
            "",
            "+",
            "++1",
            "+-1",
            "1",
            "=",
            "=+1",
            "-1",
            "+99999999999999999999",
            "x",
            "+1B",
        ] {
            assert!(read_change(Some(Cell::Value(0)), text, Unit::Count).is_err(), "{text}");
        }
        assert!(read_change(Some(Cell::Varies), "+1", Unit::Count).is_err());
        assert!(read_full("+1", Unit::Bytes).is_err());
    }
}
