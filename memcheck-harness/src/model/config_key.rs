//! `ConfigKey`: one key of `memcheck.toml`, described for the guide.

/// A key and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// The kind of table it stands in, in the parser's words: `[[case]]`.
    pub table: &'static str,
    /// The key.
    pub key: String,
    /// The form of its value, as Markdown.
    pub form: &'static str,
    /// What it means, as Markdown.
    pub meaning: &'static str,
}
