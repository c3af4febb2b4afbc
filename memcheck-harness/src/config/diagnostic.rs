//! Mistakes in `memcheck.toml`, each with its place, the offending text and what to write instead → one `Error`.
//! Owns the text of the file, places in it, and how mistakes are shown; knows nothing of what the file means.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::Error;
use crate::model::{Name, Place};

/// Bytes of the text.
pub(super) type Span = Range<usize>;

/// Mistakes shown at once; more are only counted.
const SHOWN: usize = 5;

/// Mistakes remembered; a file with more is not looked at more closely.
const REMEMBERED: usize = 100;

/// A line longer than this many characters is shown around the mistake only.
const LINE_CHARS: usize = 160;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnostic {
    /// What is wrong, a fragment for the first line.
    pub(super) title: String,
    /// Where; absent when it stands on the command line or the file as a whole is meant.
    pub(super) span: Option<Span>,
    /// A few words under the offending text, may be empty.
    pub(super) label: String,
    /// What to do about it.
    pub(super) help: Vec<String>,
}

impl Diagnostic {
    /// A mistake at a place of the file.
    pub(super) fn at(span: Span, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            span: Some(span),
            label: label.into(),
            help: Vec::new(),
        }
    }

    /// A mistake elsewhere.
    pub(super) fn elsewhere(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            span: None,
            label: String::new(),
            help: Vec::new(),
        }
    }

    /// With one more line of help.
    pub(super) fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }
}

/// The text of a file and the mistakes found in it so far.
pub(super) struct Document<'a> {
    file: String,
    text: &'a str,
    line_starts: Vec<usize>,
    /// Places of the last lines of the text, which were not written in the file but built in Rust.
    built: Vec<Place>,
    /// Bytes of a page, for sizes given in pages.
    pub(super) page_bytes: u64,
    found: RefCell<Vec<Diagnostic>>,
    /// Keys that were known in a kind of table, for the guide.
    known: RefCell<BTreeMap<&'static str, BTreeSet<String>>>,
}

impl<'a> Document<'a> {
    /// `file` is the name shown.
    pub(super) fn new(file: String, text: &'a str, page_bytes: u64) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(i, _)| i + 1))
            .collect();
        Self {
            file,
            text,
            line_starts,
            built: Vec::new(),
            page_bytes,
            found: RefCell::new(Vec::new()),
            known: RefCell::default(),
        }
    }

    /// With places for the last lines of the text, which ends in a line break if there are any.
    pub(super) fn built(mut self, places: Vec<Place>) -> Self {
        self.built = places;
        self
    }

    /// The whole text.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Notes which keys a kind of table may have.
    pub(super) fn knows(&self, table: &'static str, keys: &[&str]) {
        let mut known = self.known.borrow_mut();
        known
            .entry(table)
            .or_default()
            .extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// The keys that tables may have, as far as there were such tables.
    pub(super) fn known(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        self.known.borrow().clone()
    }

    /// Notes a mistake. The same mistake at the same place counts once: a default is read for every checkpoint.
    pub(super) fn report(&self, diagnostic: Diagnostic) {
        let mut found = self.found.borrow_mut();
        if found.len() < REMEMBERED && !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }

    /// True when a mistake was noted at exactly these bytes.
    pub(super) fn has_report_at(&self, span: &Span) -> bool {
        self.found
            .borrow()
            .iter()
            .any(|diagnostic| diagnostic.span.as_ref() == Some(span))
    }

    /// Line and column of the beginning of a span.
    pub(super) fn place(&self, span: &Span) -> Place {
        let (index, start) = self.line_at(span.start);
        if let Some(place) = self.built_place(index) {
            return place.clone();
        }
        let column = self.text.get(start..span.start).map_or(0, |before| before.chars().count());
        Place {
            file: self.file.clone(),
            line: u32::try_from(index + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
        }
    }

    /// The place of a line that was built in Rust. The last line start is the end of the text.
    fn built_place(&self, index: usize) -> Option<&Place> {
        let first = self.line_starts.len().saturating_sub(1 + self.built.len());
        self.built.get(index.checked_sub(first)?)
    }

    /// The whole dotted key that ends in the key of a span, as far as it stands in the same line.
    pub(super) fn dotted(&self, key: &Span) -> Span {
        let before = self.text.get(..key.start).unwrap_or_default();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '"' | '\'');
        before.trim_end_matches(is_part).len()..key.end
    }

    /// True when there is nothing more to learn from looking on.
    pub(super) fn is_full(&self) -> bool {
        self.found.borrow().len() >= REMEMBERED
    }

    /// All mistakes as one error, in the order of the file; `Ok` when there are none.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut found = self.found.borrow().clone();
        found.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
        let Some(first) = found.first() else { return Ok(()) };
        let mut error = Error::config(self.headline(first));
        for (i, diagnostic) in found.iter().take(SHOWN).enumerate() {
            if i > 0 {
                error = error.detail(String::new()).detail(self.headline(diagnostic));
            }
            for line in self.body(diagnostic) {
                error = error.detail(line);
            }
        }
        if found.len() > SHOWN {
            let more = found.len() - SHOWN;
            let more = if found.len() < REMEMBERED {
                format!("and {more} more")
            } else {
                "and many more".to_owned()
            };
            error = error.detail(String::new()).detail(more);
        }
        Err(error)
    }

    fn headline(&self, diagnostic: &Diagnostic) -> String {
        match &diagnostic.span {
            Some(span) => {
                let place = self.place(span);
                format!("{}:{}:{}: {}", place.file, place.line, place.column, diagnostic.title)
            }
            None => diagnostic.title.clone(),
        }
    }

    fn body(&self, diagnostic: &Diagnostic) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(span) = &diagnostic.span {
            let (index, line, shown) = self.excerpt(span);
            let annotation = AnnotationKind::Primary.span(shown).label(diagnostic.label.as_str());
            let number = self.built_place(index).map_or(index + 1, |place| place.line as usize);
            let snippet = Snippet::source(line).line_start(number).annotation(annotation);
            let report = [Group::with_level(Level::ERROR).element(snippet)];
            let text = Renderer::plain().render(&report);
            lines.extend(text.lines().map(|line| line.trim_end().to_owned()));
        }
        lines.extend(diagnostic.help.iter().map(|line| format!("  help: {line}")));
        lines
    }

    /// Index and first byte of the line that holds a byte.
    fn line_at(&self, byte: usize) -> (usize, usize) {
        let index = self.line_starts.partition_point(|start| *start <= byte).saturating_sub(1);
        (index, self.line_starts.get(index).copied().unwrap_or(0))
    }

    /// Index of the line where a span begins, the line with everything that could steer a terminal replaced (cut to the
    /// part around the span when it is long), and the bytes of the span in that text.
    fn excerpt(&self, span: &Span) -> (usize, String, Span) {
        let (index, start) = self.line_at(span.start);
        let end = self.line_starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
        let line = self.text.get(start..end).unwrap_or_default();
        let before = line.char_indices().take_while(|(i, _)| start + i < span.start).count();
        let within = line
            .char_indices()
            .filter(|(i, _)| (span.start..span.end).contains(&(start + i)))
            .count();
        let chars: Vec<char> = line.chars().map(printable).collect();
        let skipped = if chars.len() > LINE_CHARS {
            before.saturating_sub(LINE_CHARS / 4)
        } else {
            0
        };
        let shown: Vec<char> = chars.into_iter().skip(skipped).take(LINE_CHARS).collect();
        let bytes = |count: usize| shown.iter().take(count).map(|c| c.len_utf8()).sum::<usize>();
        let span = bytes(before - skipped)..bytes(before - skipped + within);
        (index, shown.iter().collect(), span)
    }
}

/// The character itself, or a stand-in of the same width for one that could steer a terminal.
fn printable(c: char) -> char {
    let mut buffer = [0; 4];
    let text: &str = c.encode_utf8(&mut buffer);
    match c {
        '\t' | '\r' => ' ',
        '\\' => c,
        _ if Name::from(text).escaped() == text => c,
        _ => '\u{fffd}',
    }
}

/// A text from the file inside a message: quoted, escaped, and cut when it is long.
pub(super) fn quote(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let short: String = text.chars().take(MAX_CHARS).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", Name::from(short.as_str()).escaped())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Span) -> Vec<String> {
        let document = Document::new("memcheck.toml".to_owned(), text, 4096);
        document.report(Diagnostic::at(span, "wrong", "here").help("right"));
        document.check().unwrap_err().to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_mistake_shows_its_place_its_line_and_help() {
        assert_eq!(
            shown("a = 1\nbé = 2\n", 9..10),
            [
                "memcheck.toml:2:3: wrong",
                "  |",
                "2 | bé = 2",
                "  |   ^ here",
                "  help: right"
            ]
        );
    }

    #[test]
    fn control_bytes_and_long_lines_are_tamed() {
        let lines = shown("x = \"\u{1b}[31m\u{9b}\"", 4..9);
        assert!(!lines.concat().contains(['\u{1b}', '\u{9b}']), "{lines:?}");
        let text = format!("{} = 1", "k".repeat(1 << 20));
        assert!(shown(&text, 0..1 << 20).concat().len() < 1000);
        assert!(shown(&text, (1 << 20)..(1 << 20) + 2).concat().contains(" = 1"));
    }

    #[test]
    fn many_mistakes_are_counted() {
        let document = Document::new("memcheck.toml".to_owned(), "abcdefgh", 4096);
        for i in 0..8 {
            document.report(Diagnostic::at(i..i + 1, "wrong", ""));
            document.report(Diagnostic::at(i..i + 1, "wrong", ""));
        }
        let text = document.check().unwrap_err().to_string();
        assert!(text.starts_with("memcheck.toml:1:1: wrong\n"), "{text}");
        assert!(text.ends_with("\nand 3 more"), "{text}");
    }
}
