//! Thread names in one short phrase: `worker-{4..7}`, `2 × io`. Names are the target's: they leave here escaped.

use std::collections::BTreeMap;

use crate::model::Name;

/// Groups shown before the rest is only counted.
const SHOWN: usize = 5;

/// Compresses numeric suffixes and repetitions; at most five groups, the others counted. Empty for no names.
pub(super) fn compress(names: &[Option<&Name>]) -> String {
    let mut groups: BTreeMap<(&[u8], bool), Vec<u64>> = BTreeMap::new();
    let mut unnamed = 0_usize;
    for name in names {
        match name.filter(|name| !name.is_empty()) {
            Some(name) => match split(name.as_bytes()) {
                (stem, Some(number)) => groups.entry((stem, true)).or_default().push(number),
                (stem, None) => groups.entry((stem, false)).or_default().push(0),
            },
            None => unnamed += 1,
        }
    }
    let mut shown: Vec<String> = Vec::new();
    let mut left = 0;
    for ((stem, numbered), numbers) in groups {
        if shown.len() == SHOWN {
            left += numbers.len();
        } else {
            shown.push(group(stem, numbered, numbers));
        }
    }
    if unnamed > 0 {
        shown.push(format!("{unnamed} unnamed"));
    }
    if left > 0 {
        shown.push(format!("{left} others"));
    }
    shown.join(", ")
}

fn group(stem: &[u8], numbered: bool, mut numbers: Vec<u64>) -> String {
    let stem = Name::new(stem).to_string();
    if !numbered {
        return match numbers.len() {
            1 => stem,
            many => format!("{many} × {stem}"),
        };
    }
    numbers.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers.iter().copied() {
        match runs.last_mut() {
            Some(last) if number == last.1 => {}
            Some(last) if Some(number) == last.1.checked_add(1) => last.1 = number,
            _ => runs.push((number, number)),
        }
    }
    let distinct: u128 = runs.iter().map(|(a, b)| u128::from(b - a) + 1).sum();
    let total = numbers.len();
    let times = if distinct == total as u128 {
        String::new()
    } else {
        format!("{total} × ")
    };
    let hidden = runs.len().saturating_sub(SHOWN);
    let mut parts: Vec<String> = runs
        .iter()
        .take(SHOWN)
        .map(|(a, b)| match b - a {
            0 => a.to_string(),
            1 => format!("{a},{b}"),
            _ => format!("{a}..{b}"),
        })
        .collect();
    if hidden > 0 {
        parts.push("…".to_owned());
    }
    match (distinct, parts.as_slice()) {
        (1, [one]) => format!("{times}{stem}{one}"),
        _ => format!("{times}{stem}{{{}}}", parts.join(",")),
    }
}

/// A name and the number it ends in. Leading zeros stay with the stem, so that putting both together gives the name again.
fn split(name: &[u8]) -> (&[u8], Option<u64>) {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let mut start = name.len() - digits;
    while start + 1 < name.len() && name[start] == b'0' {
        start += 1;
    }
    let number = std::str::from_utf8(&name[start..]).ok().and_then(|text| text.parse().ok());
    match number {
        Some(number) => (&name[..start], Some(number)),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(names: &[&str]) -> String {
        let owned: Vec<Name> = names.iter().map(|name| Name::from(*name)).collect();
        compress(&owned.iter().map(Some).collect::<Vec<_>>())
    }

    #[test]
    fn numeric_suffixes_become_ranges() {
        assert_eq!(phrase(&["worker-4", "worker-5", "worker-6", "worker-7"]), "worker-{4..7}");
        assert_eq!(phrase(&["w1", "w2", "w9"]), "w{1,2,9}");
        assert_eq!(phrase(&["io-3"]), "io-3");
        assert_eq!(phrase(&["w-01", "w-02", "w-10"]), "w-10, w-0{1,2}");
        assert_eq!(phrase(&["7", "8", "9"]), "{7..9}");
        assert_eq!(phrase(&["w1", "w1", "w2"]), "3 × w{1,2}");
    }

    #[test]
    fn equal_names_are_counted_and_many_groups_are_cut() {
        assert_eq!(phrase(&["pool", "pool"]), "2 × pool");
        assert_eq!(phrase(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e, 2 others");
        assert_eq!(compress(&[None, None]), "2 unnamed");
        assert_eq!(compress(&[]), "");
    }

    #[test]
    fn hostile_names_are_harmless() {
        assert_eq!(phrase(&["\x1b[31m1", "\x1b[31m2"]), "\\x1b[31m{1,2}");
        assert_eq!(phrase(&["a\n1", "a\n2", "a\n3"]), "a\\x0a{1..3}");
        assert_eq!(phrase(&["x99999999999999999999999"]), "x99999999999999999999999");
        assert_eq!(phrase(&["x18446744073709551615"]), "x18446744073709551615");
    }
}
