//! `MemoryMap`s of a case ↔ canonical text, and the states in between. `parse(render(x)) == x`; what enters a snapshot is
//! decided in `states`, tolerance and several runs in `tolerance`. Files and comparing texts are `compare`'s.
//!
//! # The text
//!
//! ```text
//! case threads-unjoined
//!   platform      ld-linux-x86-64.so.2, libc.so.6
//!   hardening     pie, relro full, nx, canary
//!
//! checkpoint start (KiB, sum of the row)
//!                         count     reserved         anon
//!   threads                   1
//!   main-stack                1          132           64  64 or less
//!
//! checkpoint spawned (change since start)
//!                         count     reserved         anon
//!   main-heap                +1         +132           +4
//!   thread-stack.exited      +1        +8192          +24  not joined yet
//!
//! checkpoint done (change since spawned)
//!   nothing changed
//!
//! end of case threads-unjoined
//! ```
//!
//! A checkpoint in a child process says which: `checkpoint ready in worker.1 (…)`. It is told as the change since the one before
//! in the same process; the first of a child in full, or as the change since the first of the child before that runs the same
//! program.
//!
//! Heads stand at column 0, rows are indented by two blanks. `platform`, `libraries` and `hardening` are left out when
//! empty. A row is its name and its cells, separated by blanks (the widths are for the eye): `threads` has one cell, a role
//! has three, a metric has one (a count under `count`, bytes under `reserved`). What follows the cells is a remark and is
//! not read. Rows come in the order of [`RowKey`](crate::model::RowKey).
//!
//! In the first checkpoint of a process a cell is one of
//!
//! | cell | means |
//! |---|---|
//! | `12` | 12 things, or 12 KiB |
//! | `12B` | 12 bytes, where bytes are no multiple of 1024 |
//! | `-` | not known |
//! | `varies` | differs from run to run: not gated |
//!
//! In each later one only rows that changed or vary are shown, and a cell is one of
//!
//! | cell | means |
//! |---|---|
//! | `+12`, `-12`, `0` (with `B` as above) | the change since the checkpoint before; a row that was not there counts from 0 |
//! | `=12` | now 12, where the cell was `-` or `varies` before |
//! | `-` | not known here |
//! | `varies` | varies here; shown at each checkpoint where it does |
//! | `gone` | the row ends here |
//!
//! A role's row also ends where its count falls to 0; its other cells then show what went.
//!
//! Names (of checkpoints, files) are written as [`Name`] escapes them, with blanks at either end, and
//! in lists and heads blanks and commas, as `\x20` and `\x2c`; so no name can forge a row or a head.
//!
//! # Decisions
//!
//! * **`main-stack.anon` has a floor of 64 KiB**: up to that, 64 is recorded. The first pages of the main stack hold the
//!   environment, the loader's frames and those of its CPU-dependent resolvers: they say nothing of the program, and differ
//!   between machines. The first checkpoint says `64 or less` there.
//! * **Small segments are left out**: of the executable and its own objects only data and bss of 256 KiB and more are shown
//!   unless the case asks for sizes; smaller ones move with each compiler.
//! * **Platform names end at the major version** (`libstdc++.so.6.0.30` is `libstdc++.so.6`), and the kernel's vdso is left
//!   out, so that an upgrade that keeps the ABI changes nothing.

mod cell;
mod parse;
mod render;
mod states;
mod tolerance;
mod unsteady;

pub use parse::parse;
pub use render::render;
pub use states::{LARGE_SEGMENT_BYTES, MAIN_STACK_FLOOR_BYTES, snapshot};
pub use tolerance::{merge, varies_alike, varying, within};
pub use unsteady::{Weighed, weigh};

use crate::model::Name;

/// One line's worth of text: escaped, and neither beginning nor ending with a blank.
pub(crate) fn escape_line(text: &str) -> String {
    let escaped = Name::from(text).escaped().into_owned();
    let trimmed = escaped.trim();
    let start = escaped.len() - escaped.trim_start().len();
    if trimmed.len() == escaped.len() {
        return escaped;
    }
    let (before, after) = (&escaped[..start], &escaped[(start + trimmed.len()).min(escaped.len())..]);
    [&escape_bytes(before), trimmed, &escape_bytes(after)].concat()
}

/// As [`escape_line`], and without any blank or comma: an item of a list, or a word.
pub(crate) fn escape_word(text: &str) -> String {
    let mut out = String::new();
    for c in Name::from(text).escaped().chars() {
        if c == ',' || c.is_whitespace() {
            out.push_str(&escape_bytes(c.encode_utf8(&mut [0; 4])));
        } else {
            out.push(c);
        }
    }
    out
}

/// Reads what either of the two wrote.
pub(crate) fn unescape(text: &str) -> String {
    String::from_utf8_lossy(Name::unescape(text).as_bytes()).into_owned()
}

fn escape_bytes(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_becomes_one_line_and_comes_back(text in any::<String>()) {
            let line = escape_line(&text);
            prop_assert_eq!(line.trim(), line.as_str());
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert_eq!(unescape(&line), text.as_str());
            let word = escape_word(&text);
            prop_assert!(!word.contains(|c: char| c == ',' || c.is_whitespace()));
            prop_assert_eq!(unescape(&word), text);
        }
    }
}
