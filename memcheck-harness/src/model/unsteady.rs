//! `UnsteadyCell`: a value that runs of one unchanged binary do not agree on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// One cell of a snapshot that differed between the runs of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsteadyCell {
    /// The checkpoint's name; empty for what belongs to the whole case.
    pub checkpoint: String,
    /// Row name: a role, `threads`, a metric; `platform`, `libraries`, `hardening` or `checkpoints` for the case.
    pub row: String,
    /// Column: `count`, `reserved` or `anon`; empty for what belongs to the whole case.
    pub column: String,
    /// The approved value; absent when there is none.
    pub approved: Option<u64>,
    /// The values of the runs, each once, smallest first; an absent one is a run without such a row. Empty for names.
    pub values: Vec<Option<u64>>,
}

impl UnsteadyCell {
    /// The metric of the same value, as a budget would name it.
    #[must_use]
    pub fn metric(&self) -> String {
        match self.column.as_str() {
            "" => self.row.clone(),
            column if self.row.ends_with(&format!(".{column}")) => self.row.clone(),
            // A metric of bytes stands in the column `reserved` and names its own unit.
            "reserved" if self.is_metric() => self.row.clone(),
            column => format!("{}.{column}", self.row),
        }
    }

    /// A value as a limit writes it: a number, or a size in quotes.
    #[must_use]
    pub fn limit(&self, value: u64) -> String {
        match self.column.as_str() {
            "count" => value.to_string(),
            _ => format!("\"{}\"", ByteSize(value)),
        }
    }

    fn is_metric(&self) -> bool {
        self.row != "threads" && super::Role::ALL.into_iter().all(|role| role.name() != self.row)
    }

    fn shown(&self, value: Option<u64>) -> String {
        match value {
            None => "none".to_owned(),
            Some(count) if self.column == "count" => count.to_string(),
            Some(bytes) => ByteSize(bytes).to_string(),
        }
    }
}

/// `thread-arena.count 1 or 2 at done (approved 1)`
impl fmt::Display for UnsteadyCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.metric())?;
        let values: Vec<String> = self.values.iter().map(|value| self.shown(*value)).collect();
        match values.as_slice() {
            [] => return Ok(()),
            [one] => write!(f, " {one}")?,
            [first @ .., last] => write!(f, " {} or {last}", first.join(", "))?,
        }
        write!(f, " at {} (approved {})", self.checkpoint, self.shown(self.approved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: &str, column: &str, approved: Option<u64>, values: &[Option<u64>]) -> String {
        UnsteadyCell {
            checkpoint: "done".to_owned(),
            row: row.to_owned(),
            column: column.to_owned(),
            approved,
            values: values.to_vec(),
        }
        .to_string()
    }

    #[test]
    fn values_read_as_a_budget_names_them() {
        for (found, expected) in [
            (
                cell("thread-arena", "count", Some(1), &[Some(1), Some(2)]),
                "thread-arena.count 1 or 2 at done (approved 1)",
            ),
            (
                cell("mmap-chunk", "anon", None, &[None, Some(4096), Some(8192)]),
                "mmap-chunk.anon none, 4 KiB or 8 KiB at done (approved none)",
            ),
            (
                cell("own.commit", "reserved", Some(0), &[Some(0), Some(1024)]),
                "own.commit 0 B or 1 KiB at done (approved 0 B)",
            ),
            (
                cell("threads", "count", Some(3), &[Some(2), Some(3)]),
                "threads.count 2 or 3 at done (approved 3)",
            ),
            (cell("platform", "", None, &[]), "platform"),
        ] {
            assert_eq!(found, expected);
        }
    }
}
