//! `at = …`: the kinds of places to stop at, each with the keys that go with it.

use std::collections::BTreeMap;

use crate::model::{At, Stream, SyscallAt, ThreadEdge, Touched, syscall_names, syscall_number};

use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, quote};
use super::{duration, signal, suggest};

/// Kinds that are a word of their own.
const WORDS: [(&str, At); 5] = [
    ("exec", At::Exec),
    ("main", At::Main),
    ("exit", At::Exit),
    ("idle", At::Idle),
    ("step-done", At::StepDone),
];

/// Kinds that are the key of a table, each with the keys that may stand beside it.
const TABLES: [(&str, &[&str]); 11] = [
    ("probe", &[]),
    ("function", &[]),
    ("returns", &[]),
    ("line", &[]),
    ("syscall", &["args"]),
    ("signal", &[]),
    ("output", &["stream"]),
    ("thread", &["name"]),
    ("library", &[]),
    ("touch", &[]),
    ("after", &[]),
];

/// More arguments than any system call has would never match.
const MAX_ARGUMENTS: u8 = 6;

/// Bytes that a compiled regular expression may take: far more than a line of output is worth.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Every kind, as a word or a key.
#[cfg(test)]
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    let words = WORDS.into_iter().map(|(word, _)| word);
    words.chain(TABLES.into_iter().map(|(word, _)| word))
}

/// The place that a checkpoint's `at` says.
pub(super) fn read(value: &Value<'_>) -> Option<Spot<At>> {
    let at = match value.form() {
        Form::Text(text) => {
            let Some((_, at)) = WORDS.into_iter().find(|(word, _)| *word == text) else {
                return unknown_word(value, text);
            };
            at
        }
        Form::Table => place(&value.table("at")?)?,
        _ => return value.wrong("\"exec\", \"main\", \"exit\" or a table such as { probe = \"ready\" }"),
    };
    Some(value.spot(at))
}

fn unknown_word<T>(value: &Value<'_>, text: &str) -> Option<T> {
    let label = match TABLES.iter().find(|(word, _)| *word == text) {
        Some((word, _)) => Some(format!("write {{ {word} = \"…\" }}")),
        None => suggest::did_you_mean(text, WORDS.iter().map(|(word, _)| *word)),
    };
    let example = Some(format!("write {{ probe = {text:?} }}")).filter(|_| !text.is_empty() && text.len() <= 60);
    let label = label.or(example).unwrap_or_default();
    let words: Vec<String> = WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    value.fail(
        format!("`at` must be {} or a table, not {}", words.join(", "), quote(text)),
        label,
    )
}

fn place(table: &Table<'_>) -> Option<At> {
    let mut kinds = TABLES
        .iter()
        .filter_map(|(word, with)| Some((*word, *with, table.get(word)?)));
    let Some((word, with, value)) = kinds.next() else {
        if table.entries().is_empty() {
            let title = "`at` does not say where to stop";
            let label = "write for example { probe = \"ready\" }";
            table.doc.report(Diagnostic::at(table.span.clone(), title, label));
        } else {
            table.only(&TABLES.map(|(word, _)| word), &[]);
        }
        return None;
    };
    if let Some((other, _, value)) = kinds.next() {
        return value.fail(format!("`at` gives both `{word}` and `{other}`"), "give one of them");
    }
    let known: Vec<&str> = TABLES.iter().map(|(word, _)| *word).chain(with.iter().copied()).collect();
    table.only(&known, &[]);
    Some(match word {
        "probe" => probe(&value)?,
        "function" => At::Function(value.word("\"pool_grow\"")?.to_owned()),
        "returns" => At::Returns(value.word("\"pool_grow\"")?.to_owned()),
        "line" => line(&value)?,
        "syscall" => At::Syscall(SyscallAt {
            name: syscall(&value)?,
            args: match table.get("args") {
                Some(args) => arguments(&args)?,
                None => BTreeMap::new(),
            },
        }),
        "signal" => caught(&value)?,
        "output" => At::Output {
            pattern: pattern(&value)?,
            stream: match table.get("stream") {
                Some(stream) => Some(stream.choice(&[("stdout", Stream::Stdout), ("stderr", Stream::Stderr)])?),
                None => None,
            },
        },
        "thread" => At::Thread {
            edge: value.choice(&[("start", ThreadEdge::Start), ("end", ThreadEdge::End)])?,
            name: match table.get("name") {
                Some(name) => Some(thread_name(&name)?),
                None => None,
            },
        },
        "library" => library(&value)?,
        "touch" => At::Touch(match value.word("\"guard\", \"stack\" or a variable")? {
            "guard" => Touched::Guard,
            "stack" => Touched::Stack,
            symbol => Touched::Symbol(symbol.to_owned()),
        }),
        "after" => At::After(duration::read(&value, "200ms")?),
        _ => return None,
    })
}

fn probe(value: &Value<'_>) -> Option<At> {
    let text = value.word("\"ready\"")?;
    let (provider, name) = text.split_once(':').unwrap_or(("memcheck", text));
    if provider.is_empty() || name.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return value.fail(format!("{} is no probe", quote(text)), "write \"name\" or \"provider:name\"");
    }
    Some(At::Probe {
        provider: provider.to_owned(),
        name: name.to_owned(),
    })
}

fn line(value: &Value<'_>) -> Option<At> {
    let text = value.word("\"src/pool.rs:42\"")?;
    let parts = text.rsplit_once(':').filter(|(file, _)| !file.is_empty());
    match parts.and_then(|(file, line)| Some((file, line.parse::<u32>().ok().filter(|line| *line > 0)?))) {
        Some((file, line)) => Some(At::Line {
            file: file.to_owned(),
            line,
        }),
        None => value.fail(
            format!("{} is no line of a source", quote(text)),
            "write for example \"src/pool.rs:42\"",
        ),
    }
}

fn syscall(value: &Value<'_>) -> Option<String> {
    let name = value.word("\"pause\"")?;
    if syscall_number(name).is_some() {
        return Some(name.to_owned());
    }
    let hint =
        suggest::did_you_mean(name, syscall_names()).unwrap_or_else(|| "use the kernel's name, as strace shows it".to_owned());
    value.fail(format!("this machine has no system call {}", quote(name)), hint)
}

fn arguments(value: &Value<'_>) -> Option<BTreeMap<u8, i64>> {
    let table = value.table("args")?;
    let mut args = BTreeMap::new();
    for (key, value) in table.entries() {
        match key.value.parse::<u8>() {
            Ok(number) if number < MAX_ARGUMENTS => {
                args.insert(number, value.integer()?);
            }
            _ => {
                let title = format!("{} is no number of an argument", quote(key.value));
                table
                    .doc
                    .report(Diagnostic::at(key.span, title, "arguments are numbered from 0 to 5"));
                return None;
            }
        }
    }
    Some(args)
}

fn caught(value: &Value<'_>) -> Option<At> {
    let name = signal::read(value)?;
    if name == "SIGKILL" || name == "SIGSTOP" {
        return value.fail(
            format!("{name} is never delivered to a program"),
            "use \"exit\", or another signal",
        );
    }
    Some(At::Signal(name))
}

fn pattern(value: &Value<'_>) -> Option<String> {
    let text = value.word("\"listening on\"")?;
    let built = regex::bytes::RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build();
    match built {
        Ok(_) => Some(text.to_owned()),
        Err(regex::Error::CompiledTooBig(_)) => value.fail("the regular expression is too large", "make it smaller"),
        Err(error) => {
            let text = error.to_string();
            let why = text
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .trim_start_matches("error: ")
                .to_owned();
            value.fail("this is no regular expression", why)
        }
    }
}

/// The kernel keeps 15 bytes of a thread's name (prctl(2), `PR_SET_NAME`).
fn thread_name(value: &Value<'_>) -> Option<String> {
    let name = value.word("\"worker-1\"")?;
    if name.len() > 15 {
        let kept = name
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .take_while(|end| *end <= 15)
            .last()
            .unwrap_or(0);
        return value.fail(
            "the name of a thread has at most 15 bytes: the kernel keeps no more",
            format!("write {}", quote(name.get(..kept).unwrap_or_default())),
        );
    }
    Some(name.to_owned())
}

fn library(value: &Value<'_>) -> Option<At> {
    let name = value.word("\"libfoo\"")?;
    if name.contains('/') {
        return value.fail(
            "a library is told by its file name, without a directory",
            "write for example \"libfoo\"",
        );
    }
    Some(At::Library(name.to_owned()))
}
