//! The self-test's outcome, for people and machines: one line for each planted regression, and one on the whole.

use std::io::{self, Write};

use serde_json::json;

use super::Style;
use super::json::line;
use super::text::{Ink, clean, labelled, paint};
use crate::model::Planted;

/// Prints the outcome.
///
/// # Errors
/// Those of the writer.
pub fn planted(all: &[Planted], style: Style, out: &mut dyn Write) -> io::Result<()> {
    for plant in all {
        let (word, ink) = match (plant.control, plant.caught) {
            (false, true) => ("CAUGHT", Ink::Good),
            (false, false) => ("MISSED", Ink::Bad),
            (true, true) => ("SAME", Ink::Good),
            (true, false) => ("CHANGED", Ink::Bad),
        };
        let pad = " ".repeat(12_usize.saturating_sub(word.len()));
        writeln!(out, "{pad}{} {}", paint(style, ink, word), clean(&plant.name))?;
        if !plant.caught {
            labelled(style, "expected", 12, &plant.expected, out)?;
        }
        if plant.told.is_empty() && !plant.caught {
            labelled(style, "told", 12, "nothing", out)?;
        }
        if !plant.caught || style.verbose > 0 {
            for cause in &plant.told {
                labelled(style, "told", 12, cause, out)?;
            }
        }
    }
    writeln!(out, "{}", last_line(all))
}

fn last_line(all: &[Planted]) -> String {
    let planted = || all.iter().filter(|plant| !plant.control);
    let caught = planted().filter(|plant| plant.caught).count();
    let is_quiet = all.iter().filter(|plant| plant.control).all(|plant| plant.caught);
    let quiet = if is_quiet { "the same as itself" } else { "told as changed" };
    let verdict = if is_quiet && caught == planted().count() {
        "each by its right cause and size"
    } else {
        "this build of the tool cannot be trusted on this machine"
    };
    format!(
        "self-test: {caught} of {} regressions caught, the unchanged program {quiet}: {verdict}",
        planted().count()
    )
}

/// One JSON line for each plant, and a last one.
///
/// # Errors
/// Those of the writer.
pub fn planted_json(all: &[Planted], out: &mut dyn Write) -> io::Result<()> {
    for plant in all {
        line(
            &json!({
                "reason": "planted", "schema": 0, "name": plant.name, "control": plant.control, "caught": plant.caught,
                "expected": plant.expected, "told": plant.told,
            }),
            out,
        )?;
    }
    let caught = all.iter().all(|plant| plant.caught);
    line(
        &json!({ "reason": "self-test", "schema": 0, "passed": caught, "text": last_line(all) }),
        out,
    )
}
