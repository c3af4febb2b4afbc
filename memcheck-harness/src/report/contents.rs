//! What a role's memory holds, for `show --strings` and `show --dump`: printed for who asked, and nowhere else.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Style;
use super::json::line;
use super::text::{Ink, clean, labelled, paint};
use crate::model::Contents;

/// Where the process stood: case and checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Where<'a> {
    /// Name of the case.
    pub case: &'a str,
    /// Name of the checkpoint.
    pub checkpoint: &'a str,
}

/// Prints each piece with its strings, or with the file that its bytes went to.
///
/// # Errors
/// Those of the writer.
pub fn contents(place: Where<'_>, pieces: &[Contents], style: Style, out: &mut dyn Write) -> io::Result<()> {
    let title = format!("{} @ {}", place.case, place.checkpoint);
    if pieces.is_empty() {
        writeln!(out, "{}: no such memory", paint(style, Ink::Strong, &title))?;
    }
    for piece in pieces {
        let role = piece.role.map_or("", |role| role.name());
        let range = format!("{:x}-{:x}", piece.start, piece.end);
        writeln!(
            out,
            "{}  {}",
            paint(style, Ink::Strong, &format!("{title}  {role}{}", whose(piece))),
            paint(style, Ink::Dim, &range)
        )?;
        let mut figures = format!("{} bytes in memory of {}", piece.read_bytes, piece.end - piece.start);
        if piece.unreadable_bytes > 0 {
            figures.push_str(&format!(", and {} that cannot be read", piece.unreadable_bytes));
        }
        match &piece.file {
            Some(file) => labelled(style, "-", 4, &format!("{figures}: {file}"), out)?,
            None => labelled(style, "-", 4, &figures, out)?,
        }
        for found in &piece.strings {
            // Nothing in it may steer the terminal, and columns hold.
            writeln!(out, "  {:>12}  {}", format!("{:#x}", found.offset), clean(&found.text))?;
        }
        if piece.more {
            labelled(style, "note:", 8, "there are more strings than are kept", out)?;
        }
    }
    writeln!(out)
}

fn whose(piece: &Contents) -> String {
    let name = piece.subject.to_string();
    let name = if name.is_empty() { String::new() } else { format!("  {name}") };
    piece.tid.map_or(name.clone(), |tid| format!("{name} ({tid})"))
}

/// The machine form: one line, `"reason":"contents"`.
///
/// # Errors
/// Those of the writer.
pub fn contents_json(place: Where<'_>, pieces: &[Contents], out: &mut dyn Write) -> io::Result<()> {
    let pieces: Vec<Value> = pieces
        .iter()
        .map(|piece| {
            json!({
                "start": piece.start,
                "end": piece.end,
                "role": piece.role.map(|role| role.name()),
                "subject": piece.subject.to_string(),
                "tid": piece.tid,
                "read_bytes": piece.read_bytes,
                "unreadable_bytes": piece.unreadable_bytes,
                "file": piece.file.as_ref().map(ToString::to_string),
                "more": piece.more,
                "strings": piece.strings.iter().map(|found| json!({ "offset": found.offset, "text": found.text })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let value = json!({
        "reason": "contents",
        "schema": 0,
        "case": place.case,
        "checkpoint": place.checkpoint,
        "pieces": pieces,
    });
    line(&value, out)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::print;
    use super::*;
    use crate::model::{FoundString, Role};

    #[test]
    fn strings_stand_with_their_offsets_and_steer_nothing() {
        let piece = Contents {
            start: 0x1000,
            end: 0x3000,
            role: Some(Role::MainHeap),
            subject: "a\x1b".into(),
            tid: Some(7),
            read_bytes: 4096,
            strings: vec![FoundString {
                offset: 0x20,
                text: "##[error]\tsecret\x1b[2J".to_owned(),
            }],
            ..Contents::default()
        };
        let place = Where {
            case: "p",
            checkpoint: "main",
        };
        let text = print(|out| contents(place, std::slice::from_ref(&piece), Style::default(), out));
        assert!(text.starts_with("p @ main  main-heap  a\\x1b (7)  1000-3000\n"), "{text}");
        assert!(text.contains("4096 bytes in memory of 8192\n"), "{text}");
        assert!(text.contains("        0x20  #\\x23[error]    secret\\x1b[2J\n"), "{text}");
        let value: Value = serde_json::from_str(&print(|out| contents_json(place, std::slice::from_ref(&piece), out))).unwrap();
        assert_eq!(value["pieces"][0]["strings"][0]["offset"], 0x20);
        assert!(print(|out| contents(place, &[], Style::default(), out)).contains("no such memory"));
    }
}
