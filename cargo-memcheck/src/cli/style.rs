//! Colour and width of what is printed, by the command line and the surroundings.

use clap::ValueEnum;
use memcheck_harness::report::Style;

use super::{GlobalArgs, variable};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// Colour: `--color`, else `NO_COLOR`, else `CARGO_TERM_COLOR`, else whether the stream is a terminal.
pub(super) fn style(global: &GlobalArgs, terminal: bool) -> Style {
    let wanted = match global.color {
        Some(Color::Always) => Some(true),
        Some(Color::Never) => Some(false),
        Some(Color::Auto) | None if variable("NO_COLOR").is_some_and(|v| !v.is_empty()) => Some(false),
        Some(Color::Auto) => None,
        None => match variable("CARGO_TERM_COLOR").as_ref().and_then(|v| v.to_str()) {
            Some("always") => Some(true),
            Some("never") => Some(false),
            _ => None,
        },
    };
    let dumb = variable("TERM").is_some_and(|term| term == "dumb");
    let width = variable("COLUMNS").and_then(|v| v.to_str()?.parse().ok()).unwrap_or(80);
    Style {
        color: wanted.unwrap_or(terminal && !dumb),
        width,
        verbose: global.verbose,
    }
}
