//! Typed access to a parsed TOML document: every value knows its key and its place, every wrong type is reported.
//! Owns the only use of the `toml` crate here; knows nothing of the keys of `memcheck.toml`.

use toml::de::{DeTable, DeValue};

use crate::model::ByteSize;

use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::suggest;

/// Something with the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A table.
#[derive(Clone)]
pub(super) struct Table<'a> {
    pub(super) doc: &'a Document<'a>,
    table: &'a DeTable<'a>,
    /// Where its head, or the table itself, stands.
    pub(super) span: Span,
    /// What it is, for messages: "[[case]]".
    what: &'static str,
}

/// A value with its key.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) doc: &'a Document<'a>,
    value: &'a DeValue<'a>,
    /// Where it stands.
    pub(super) span: Span,
    /// Its key, or that of the list it stands in.
    pub(super) key: &'a str,
}

/// The forms a value can have, for keys that accept several.
pub(super) enum Form<'a> {
    Text(&'a str),
    Whole,
    Flag(bool),
    Table,
    Other,
}

/// The whole document. Mistakes of syntax are reported to `doc`.
///
/// The parser refuses more than 80 nested tables or lists and keys of more than 80 parts, so the depth of what is read
/// here and taken apart later is bounded.
pub(super) fn parse<'a>(text: &'a str, doc: &Document<'_>) -> Option<DeTable<'a>> {
    match DeTable::parse(text) {
        Ok(root) => Some(root.into_inner()),
        Err(error) => {
            let end = text.trim_end().len();
            let message = error.message().trim();
            let title = match message.lines().next() {
                Some("duplicate key") => "duplicate key".to_owned(),
                Some(line) if !line.is_empty() => format!("not valid TOML: {line}"),
                _ => "not valid TOML".to_owned(),
            };
            let span = error.span().unwrap_or(end..end);
            let label = if title == "duplicate key" {
                "this key is given twice"
            } else {
                ""
            };
            doc.report(Diagnostic::at(span, title, label));
            None
        }
    }
}

impl<'a> Table<'a> {
    /// The table at the root of a document.
    pub(super) fn root(doc: &'a Document<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            doc,
            table,
            span: 0..0,
            what: "memcheck.toml",
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let (key, value) = self.table.get_key_value(key)?;
        Some(Value {
            doc: self.doc,
            value: value.get_ref(),
            span: value.span(),
            key: key.get_ref().as_ref(),
        })
    }

    /// All keys with their places and values, in the order of the file.
    pub(super) fn entries(&self) -> Vec<(Spot<&'a str>, Value<'a>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let spot = Spot {
                    value: key.get_ref().as_ref(),
                    span: key.span(),
                };
                let value = Value {
                    doc: self.doc,
                    value: value.get_ref(),
                    span: value.span(),
                    key: spot.value,
                };
                (spot, value)
            })
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    /// Reports every key that is not `known`; `later` are words of newer versions.
    pub(super) fn only(&self, known: &[&str], later: &[&str]) {
        self.doc.knows(self.what, known);
        for (key, _) in self.entries() {
            if known.contains(&key.value) {
                continue;
            }
            let name = quote(key.value);
            if later.contains(&key.value) {
                let title = format!("{name} is not supported by this version");
                self.doc.report(Diagnostic::at(key.span, title, "remove this key"));
                continue;
            }
            let hint = suggest::did_you_mean(key.value, known.iter().copied());
            let diagnostic = Diagnostic::at(
                key.span,
                format!("unknown key {name} in {}", self.what),
                hint.clone().unwrap_or_default(),
            );
            self.doc.report(match hint {
                Some(_) => diagnostic,
                None => diagnostic.help(format!("known keys are {}", known.join(", "))),
            });
        }
    }

    /// Reports a key that must be there, unless it was only misspelt: then that was reported already, and says more.
    pub(super) fn missing(&self, key: &str, example: &str) {
        let misspelt = |(found, _): &(Spot<&str>, Value<'_>)| {
            suggest::closest(found.value, [key]).is_some() && self.doc.has_report_at(&found.span)
        };
        if self.entries().iter().any(misspelt) {
            return;
        }
        let title = format!("{} has no `{key}`", self.what);
        self.doc
            .report(Diagnostic::at(self.span.clone(), title, format!("add {example}")));
    }
}

impl<'a> Value<'a> {
    /// Reports a mistake at this value. Always `None`, to be returned.
    pub(super) fn fail<T>(&self, title: impl Into<String>, label: impl Into<String>) -> Option<T> {
        self.doc.report(Diagnostic::at(self.span.clone(), title, label));
        None
    }

    /// Reports that the value has the wrong type.
    pub(super) fn wrong<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fail(format!("{} must be {expected}", quote(self.key)), format!("this is {found}"))
    }

    /// The value with its place.
    pub(super) fn spot<T>(&self, value: T) -> Spot<T> {
        Spot {
            value,
            span: self.span.clone(),
        }
    }

    /// Which form it has.
    pub(super) fn form(&self) -> Form<'a> {
        match self.value {
            DeValue::String(text) => Form::Text(text),
            DeValue::Integer(_) => Form::Whole,
            DeValue::Boolean(flag) => Form::Flag(*flag),
            DeValue::Table(_) => Form::Table,
            _ => Form::Other,
        }
    }

    /// A string; `example` shows one. Strings end up in arguments, paths and the environment: none may hold a NUL.
    pub(super) fn text(&self, example: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) if text.contains('\0') => self.fail(format!("{} holds a NUL character", quote(self.key)), ""),
            DeValue::String(text) => Some(text),
            _ => self.wrong(&format!("a string, for example {example}")),
        }
    }

    /// A string that is not empty.
    pub(super) fn word(&self, example: &str) -> Option<&'a str> {
        let text = self.text(example)?;
        if text.is_empty() {
            return self.fail(
                format!("{} is empty", quote(self.key)),
                format!("write for example {example}"),
            );
        }
        Some(text)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let names = names.join(" or ");
        let text = match self.value {
            DeValue::String(text) => text,
            _ => return self.wrong(&names),
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let hint = suggest::did_you_mean(text, words.iter().map(|(word, _)| *word)).unwrap_or_default();
        self.fail(format!("{} must be {names}, not {}", quote(self.key), quote(text)), hint)
    }

    /// An integer in a range.
    pub(super) fn whole(&self, least: u64, most: u64) -> Option<u64> {
        let DeValue::Integer(integer) = self.value else {
            return self.wrong("a whole number");
        };
        match i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|n| u64::try_from(n).ok())
        {
            Some(n) if (least..=most).contains(&n) => Some(n),
            _ if most == u64::MAX => self.fail(format!("{} must be {least} or more", quote(self.key)), ""),
            _ => self.fail(format!("{} must lie between {least} and {most}", quote(self.key)), ""),
        }
    }

    /// Any integer of 64 bits.
    pub(super) fn integer(&self) -> Option<i64> {
        let DeValue::Integer(integer) = self.value else {
            return self.wrong("a whole number");
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Some(number),
            Err(_) => self.fail(format!("{} has more than 64 bits", quote(self.key)), ""),
        }
    }

    /// The text of a date, bare or as a string.
    pub(super) fn date_text(&self) -> Option<String> {
        match self.value {
            DeValue::Datetime(date) => Some(date.to_string()),
            DeValue::String(text) => Some(text.clone().into_owned()),
            _ => self.wrong("a day, for example 2027-01-31"),
        }
    }

    /// True or false.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong("true or false"),
        }
    }

    /// A table; `what` names it in messages about its keys.
    pub(super) fn table(&self, what: &'static str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Table {
                doc: self.doc,
                table,
                span: self.span.clone(),
                what,
            }),
            _ => self.wrong("a table"),
        }
    }

    /// The items of a list.
    pub(super) fn list(&self, example: &str) -> Option<Vec<Value<'a>>> {
        match self.value {
            DeValue::Array(items) => Some(
                items
                    .iter()
                    .map(|item| Value {
                        doc: self.doc,
                        value: item.get_ref(),
                        span: item.span(),
                        key: self.key,
                    })
                    .collect(),
            ),
            _ => self.wrong(&format!("a list, for example {example}")),
        }
    }

    /// A list of strings.
    pub(super) fn texts(&self, example: &str) -> Vec<Spot<String>> {
        let items = self.list(example).unwrap_or_default();
        items
            .iter()
            .filter_map(|item| Some(item.spot(item.text("\"text\"")?.to_owned())))
            .collect()
    }

    /// A size in bytes: a string with a unit, or a bare 0.
    pub(super) fn size(&self) -> Option<u64> {
        match self.value {
            DeValue::Integer(integer) if integer.as_str() == "0" => Some(0),
            DeValue::Integer(integer) => {
                let number = integer.to_string();
                let number = if number.len() > 20 { "64" } else { number.as_str() };
                let label = format!("write a unit: \"{number} B\", \"{number} KiB\", \"{number} MiB\"");
                self.fail(format!("{} must be a size with a unit", quote(self.key)), label)
            }
            DeValue::String(text) => match ByteSize::parse(text, self.doc.page_bytes) {
                Ok(size) => Some(size.0),
                Err(_) if text.chars().count() > 60 => self.fail(format!("{} is not a size", quote(text)), "write \"64 KiB\""),
                Err(error) => self.fail(
                    format!("bad size: {}", crate::model::Name::from(error.to_string().as_str())),
                    "",
                ),
            },
            _ => self.wrong("a size, for example \"16 MiB\""),
        }
    }
}
