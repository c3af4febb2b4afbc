//! "did you mean": the closest of the names that would have been accepted, or a list of them.
//! Owns the distance and when a name is close enough; knows nothing of what the names stand for.

/// Longer texts are never compared: the table below grows with the product of both lengths.
const MAX_CHARS: usize = 64;

/// The closest candidate, if one is close enough to be what was meant.
pub(super) fn closest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).take(MAX_CHARS + 1).collect();
    if text.is_empty() || text.len() > MAX_CHARS {
        return None;
    }
    let allowed = (text.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    let mut part: Option<&str> = None;
    for candidate in candidates {
        let name: Vec<char> = candidate.chars().flat_map(char::to_lowercase).take(MAX_CHARS).collect();
        let distance = distance(&text, &name);
        if distance <= allowed && distance < name.len() && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
        // `heap.anon` is far from `main-heap.anon` by letters, but a whole part of it.
        if text.len() >= 4
            && name.ends_with(&text)
            && matches!(
                name.get(name.len() - text.len() - usize::from(name.len() > text.len())),
                Some('-' | '.')
            )
            && part.is_none_or(|shortest| candidate.len() < shortest.len())
        {
            part = Some(candidate);
        }
    }
    match (best, part) {
        (Some((distance, _)), Some(part)) if distance > 1 => Some(part),
        (Some((_, name)), _) => Some(name),
        (None, part) => part,
    }
}

/// The sentence of [`closest`].
pub(super) fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(text, candidates).map(|name| format!("did you mean `{name}`?"))
}

/// Names in a sentence, the first of many.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.collect();
    let more = if names.len() > SHOWN {
        format!(" and {} more", names.len() - SHOWN)
    } else {
        String::new()
    };
    format!("{}{more}", names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", "))
}

/// Edits that turn one text into the other: insertions, deletions, replacements and swaps of neighbours (the optimal
/// string alignment form of Damerau and Levenshtein's distance).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"].into_iter()), "a, b");
        assert!(listed(std::iter::repeat_n("a", 20)).ends_with("a and 8 more"));
    }

    fn edits(a: &str, b: &str) -> usize {
        distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
    }

    #[test]
    fn each_kind_of_edit_counts_once() {
        assert_eq!(edits("name", "name"), 0);
        assert_eq!(edits("nmae", "name"), 1);
        assert_eq!(edits("nam", "name"), 1);
        assert_eq!(edits("namee", "name"), 1);
        assert_eq!(edits("nume", "name"), 1);
        assert_eq!(edits("", "name"), 4);
    }

    #[test]
    fn only_close_names_are_suggested() {
        let names = ["name", "target", "exe.anon", "main-heap.anon", "timeout", "SIGSEGV"];
        assert_eq!(closest("tmieout", names), Some("timeout"));
        assert_eq!(closest("Name", names), Some("name"));
        assert_eq!(closest("heap.anon", names), Some("main-heap.anon"));
        assert_eq!(closest("sigsevg", names), Some("SIGSEGV"));
        assert_eq!(closest("zzz", names), None);
        assert_eq!(closest("", names), None);
        assert_eq!(closest(&"x".repeat(100_000), names), None);
        assert_eq!(did_you_mean("nmae", names).as_deref(), Some("did you mean `name`?"));
    }
}
