//! The text of a snapshot back to its states. Strict about what it reads and bounded in what it keeps; errors name the
//! line. Layout (widths, blank lines, remarks) is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::render::{EMPTY, IN, UNCHANGED, before, head};
use super::{cell, unescape};
use crate::error::{Error, Result};
use crate::model::{Cell, ChildName, Metric, Name, Role, Row, RowKey, Snapshot, State, Unit};

/// More checkpoints than any case has; each keeps a full state, so a forged file must not ask for millions.
const MAX_CHECKPOINTS: usize = 4096;

/// Reads what [`render`](super::render()) wrote.
///
/// # Errors
/// The first line that does not fit, with its number; or that the text ends before its last line.
pub fn parse(text: &str) -> Result<Snapshot> {
    let mut reader = Reader::default();
    for (index, line) in text.lines().enumerate() {
        reader
            .line(line.trim_end())
            .map_err(|why| Error::not_judged(format!("line {}: {why}", index + 1)))?;
    }
    if !reader.ended {
        return Err(Error::not_judged(
            "the text ends before its last line, `end of case …`: the file was cut off",
        ));
    }
    Ok(reader.snapshot)
}

#[derive(Default)]
struct Reader {
    snapshot: Snapshot,
    has_case: bool,
    ended: bool,
    /// The current checkpoint is told in full.
    is_full: bool,
    /// Rows of the current checkpoint that were read already.
    seen: BTreeSet<RowKey>,
}

impl Reader {
    fn line(&mut self, line: &str) -> std::result::Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        if self.ended {
            return Err(format!("{} comes after the end of the case", quoted(line)));
        }
        if let Some(name) = line.strip_prefix("case ").filter(|_| !self.has_case) {
            self.has_case = true;
            self.snapshot.case = unescape(name);
            return Ok(());
        }
        if !self.has_case {
            return Err(format!("{} is not `case NAME`", quoted(line)));
        }
        if let Some(head) = line.strip_prefix("checkpoint ") {
            return self.checkpoint(head);
        }
        if let Some(name) = line.strip_prefix("end of case ") {
            self.ended = unescape(name) == self.snapshot.case;
            return if self.ended {
                Ok(())
            } else {
                Err("the end names another case".to_owned())
            };
        }
        match line.strip_prefix("  ") {
            Some(rest) if self.snapshot.checkpoints.is_empty() => self.fact(rest),
            Some(rest) => self.row(rest),
            None => Err(format!("{} is neither a head nor a row", quoted(line))),
        }
    }

    fn checkpoint(&mut self, line: &str) -> std::result::Result<(), String> {
        let checkpoints = &mut self.snapshot.checkpoints;
        if checkpoints.len() >= MAX_CHECKPOINTS {
            return Err(format!("more than {MAX_CHECKPOINTS} checkpoints"));
        }
        // A name is one word.
        let (name, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        let name = unescape(name);
        let child = match rest.strip_prefix(IN) {
            None => None,
            Some(within) => {
                let word = within.split(' ').next().unwrap_or_default();
                Some(ChildName::parse(word).ok_or_else(|| format!("{} is no child process", quoted(word)))?)
            }
        };
        let before = before(checkpoints, child.as_ref());
        let expected = head(&name, child.as_ref(), before);
        if line != expected {
            return Err(format!("the head is not {}", quoted(&expected)));
        }
        self.is_full = before.is_none();
        let rows = before.map_or_else(BTreeMap::new, |state| state.rows.clone());
        self.seen.clear();
        checkpoints.push(State { name, child, rows });
        Ok(())
    }

    fn fact(&mut self, rest: &str) -> std::result::Result<(), String> {
        let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let value = value.trim_start();
        // What is empty is left out when it is written.
        if value.split(", ").any(str::is_empty) {
            return Err(format!("{} names nothing", quoted(key)));
        }
        let names = || value.split(", ").map(unescape).collect();
        match key {
            "platform" => self.snapshot.platform = names(),
            "libraries" => self.snapshot.libraries = names(),
            "hardening" => self.snapshot.hardening = unescape(value),
            _ => return Err(format!("{} is no fact of a case", quoted(key))),
        }
        Ok(())
    }

    fn row(&mut self, rest: &str) -> std::result::Result<(), String> {
        let mut words = rest.split_whitespace();
        if matches!(rest.trim(), EMPTY | UNCHANGED) || rest.split_whitespace().eq(["count", "reserved", "anon"]) {
            return Ok(());
        }
        let key = key(words.next().unwrap_or_default())?;
        if !self.seen.insert(key.clone()) {
            return Err(format!("{} stands here twice", quoted(rest)));
        }
        let is_first = self.is_full;
        let Some(state) = self.snapshot.checkpoints.last_mut() else {
            return Err("a row before the first checkpoint".to_owned());
        };
        let before = state.rows.get(&key);
        let mut ends = false;
        let mut next = |column: fn(&Row) -> Cell, unit| {
            let word = words.next().ok_or("a cell is missing")?;
            if is_first {
                return cell::read_full(word, unit);
            }
            let cell = cell::read_change(before.map(column), word, unit)?;
            ends |= cell.is_none();
            Ok::<_, String>(cell.unwrap_or_default())
        };
        let mut row = Row::default();
        match &key {
            RowKey::Threads => row.count = next(|row| row.count, Unit::Count)?,
            RowKey::Role(_) => {
                row.count = next(|row| row.count, Unit::Count)?;
                row.reserved = next(|row| row.reserved, Unit::Bytes)?;
                row.anon = next(|row| row.anon, Unit::Bytes)?;
                ends |= !is_first && row.count == Cell::Value(0);
            }
            RowKey::Metric(metric) => match metric.unit() {
                Unit::Count => row.count = next(|row| row.count, Unit::Count)?,
                Unit::Bytes => row.reserved = next(|row| row.reserved, Unit::Bytes)?,
            },
        }
        if !ends {
            state.rows.insert(key, row);
        } else if state.rows.remove(&key).is_none() {
            return Err(format!("{} ends, but was not there", quoted(rest)));
        }
        Ok(())
    }
}

fn key(word: &str) -> std::result::Result<RowKey, String> {
    if word == "threads" {
        return Ok(RowKey::Threads);
    }
    if let Ok(role) = word.parse::<Role>() {
        return Ok(RowKey::Role(role));
    }
    Metric::parse(word)
        .map(RowKey::Metric)
        .map_err(|_| format!("{} is no row of this version", quoted(word)))
}

/// The beginning of a text from a file, fit for a message.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("`{}{dots}`", Name::from(start.as_str()))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::render;
    use super::*;

    fn any_cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            4 => (0_u64..9).prop_map(|n| Cell::Value(n << 12)),
            2 => any::<u64>().prop_map(Cell::Value),
            1 => Just(Cell::Absent),
            1 => Just(Cell::Varies)
        ]
    }

    /// Rows as `states` and `tolerance` make them: a role has at least one item, threads and metrics one cell.
    fn any_row() -> impl Strategy<Value = (RowKey, Row)> {
        let keys = vec![
            "threads",
            "main-heap",
            "thread-stack.exited",
            "own.anon",
            "thread-arena.heaps",
            "exe.bss",
            "main-stack",
        ];
        (prop::sample::select(keys), any_cell(), any_cell(), any_cell()).prop_map(|(name, count, reserved, anon)| {
            let key = key(name).unwrap();
            let nothing = Row::default();
            let row = match &key {
                RowKey::Threads => Row { count, ..nothing },
                RowKey::Role(_) => Row {
                    count: if count == Cell::Value(0) { Cell::Value(1) } else { count },
                    reserved,
                    anon,
                },
                RowKey::Metric(metric) if metric.unit() == Unit::Count => Row { count, ..nothing },
                RowKey::Metric(_) => Row { reserved, ..nothing },
            };
            (key, row)
        })
    }

    pub(in crate::normalize) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        let rows = vec(any_row(), 0..6).prop_map(|rows| rows.into_iter().collect());
        let child = prop::sample::select(vec!["", "", "worker.1", "worker.2", "log.1.2"]);
        let state = (any::<String>(), child, rows).prop_map(|(name, child, rows)| State {
            name,
            child: ChildName::parse(child),
            rows,
        });
        let names = || vec("(?s).{1,6}", 0..3);
        ("(?s).{1,8}", names(), names(), any::<String>(), vec(state, 0..5)).prop_map(
            |(case, platform, libraries, hardening, checkpoints)| Snapshot {
                case,
                platform,
                libraries,
                hardening,
                checkpoints,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(snapshot in any_snapshot()) {
            let text = render(&snapshot);
            prop_assert!(text.lines().all(|line| line.trim_end() == line), "trailing blanks");
            prop_assert_eq!(parse(&text).unwrap(), snapshot);
        }

        #[test]
        fn anything_may_be_in_a_file(text in any::<String>(), lines in vec("(case|checkpoint|end of case|  threads|  main-heap|  own.anon)[ a-z0-9()=+,B-]{0,30}", 0..12)) {
            // Neither of the two panics; arbitrary text is not a snapshot.
            prop_assert!(parse(&text).is_err());
            let _ = parse(&lines.join("\n"));
        }

        #[test]
        fn damage_never_panics(snapshot in any_snapshot(), cut in any::<prop::sample::Index>(), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
            let mut bytes = render(&snapshot).into_bytes();
            for (index, byte) in flips {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let whole = bytes.len();
            bytes.truncate(cut.index(whole) + 1);
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn hostile_names_forge_nothing() {
        let name = "x (KiB, sum of the row)\n  threads  9\nend of case c".to_owned();
        let snapshot = Snapshot {
            case: "c".to_owned(),
            libraries: vec!["a, b".to_owned(), "lib\n  hardening     none".to_owned()],
            checkpoints: vec![State {
                name,
                child: None,
                rows: BTreeMap::new(),
            }],
            ..Snapshot::default()
        };
        let text = render(&snapshot);
        assert_eq!(text.lines().count(), 7);
        assert_eq!(parse(&text), Ok(snapshot));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, why) in [
            ("", "", "ends before its last line"),
            (
                "case a\n\ncheckpoint x (KiB, sum of the row)\n  thredas 1\n",
                "line 4: ",
                "is no row",
            ),
            (
                "case a\n\ncheckpoint x (KiB, sum of the row)\n  threads 1\n  threads 1\n",
                "line 5: ",
                "twice",
            ),
            (
                "case a\n\ncheckpoint x (KiB, sum of the row)\n  main-heap 1 2\n",
                "line 4: ",
                "a cell is missing",
            ),
            ("case a\ncheckpoint x (change since y)\n", "line 2: ", "the head is not"),
            (
                "case a\ncheckpoint x in - (KiB, sum of the row)\n",
                "line 2: ",
                "is no child process",
            ),
            ("case a\nend of case b\n", "line 2: ", "another case"),
            ("case a\nend of case a\n\nmore\n", "line 4: ", "after the end"),
            (
                "case a\ncheckpoint x (KiB, sum of the row)\ncheckpoint y (change since x)\n  guard -1 0 0\n",
                "line 4: ",
                "below zero",
            ),
            ("<<<<<<< ours\n", "line 1: ", "is not `case NAME`"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with(line) && message.contains(why), "{message}");
        }
    }

    #[test]
    fn checkpoints_are_bounded() {
        let mut text = "case a\ncheckpoint x (KiB, sum of the row)\n".to_owned();
        text.push_str(&"checkpoint x (change since x)\n".repeat(5000));
        assert!(parse(&text).unwrap_err().to_string().contains("more than 4096 checkpoints"));
    }
}
