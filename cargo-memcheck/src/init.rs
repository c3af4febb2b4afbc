//! `cargo memcheck init`: a first `memcheck.toml`, and for C projects `memcheck.h` beside it.

use std::process::ExitCode;

use memcheck_harness::error::{Error, Result};
use memcheck_harness::{build, init, report};

use crate::cli::Invocation;
use crate::terminal;

/// Writes what is not there yet; an existing `memcheck.toml` is left alone and is an error.
pub(crate) fn init(invocation: &Invocation, c: bool) -> Result<ExitCode> {
    let workspace = build::discover(&invocation.start)?;
    let (root, text) = match (&workspace, c) {
        (Some(workspace), false) => (&workspace.root, init::for_cargo(workspace)),
        (None, true) => (&invocation.start, init::for_c(&invocation.start)?),
        (Some(workspace), true) => {
            return Err(
                Error::config(format!("this is a cargo project ({})", workspace.root.display()))
                    .detail("cargo memcheck init  without --c"),
            );
        }
        (None, false) => {
            return Err(
                Error::config(format!("no Cargo.toml in {} or above", invocation.start.display()))
                    .detail("a C project: cargo memcheck init --c"),
            );
        }
    };
    let hidden = root.join(".config/memcheck.toml");
    if hidden.exists() {
        return Err(Error::config(format!(
            "{} exists already and is left as it is",
            hidden.display()
        )));
    }
    init::write_new(&root.join("memcheck.toml"), &text)?;
    let style = invocation.style;
    terminal::say(|out| report::verb(style, "Created", &root.join("memcheck.toml").display().to_string(), out))?;
    if c {
        let (verb, what) = if init::vendor_header(root)? {
            ("Created", "")
        } else {
            ("Kept", " (it was there)")
        };
        let text = format!("{}{what}", root.join("memcheck.h").display());
        terminal::say(|out| report::verb(style, verb, &text, out))?;
    }
    terminal::say(|out| {
        writeln!(
            out,
            "next: look at the cases, then `cargo memcheck accept` approves what they measure and `cargo memcheck` gates it"
        )
    })?;
    Ok(terminal::ok())
}
