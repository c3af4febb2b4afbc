//! What the language of `memcheck.toml` has words for, and this version cannot do yet: one list for all of it. A word leaves
//! the list in the commit that makes it work.

use super::cursor::Value;

/// Kinds of `at`, and keys, that are read and checked but refused.
const NOT_YET: &[&str] = &["settle"];

/// Reports a word of the list at its value. `None` when it was refused.
pub(super) fn is_here(value: &Value<'_>, word: &str) -> Option<()> {
    if !NOT_YET.contains(&word) {
        return Some(());
    }
    value.fail(format!("`{word}` is not supported by this version"), "remove it")
}
