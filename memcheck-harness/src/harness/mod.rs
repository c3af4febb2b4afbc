//! The door for `cargo test` and `cargo nextest run`: a `harness = false` test of a few lines runs cases of `memcheck.toml`
//! and cases built in Rust, one trial each. Owns that door only: what a case means is `config`'s, how it is measured and
//! judged the pipeline's, what a failure says the report's.
//!
//! ```no_run
//! use memcheck_harness::harness::{Case, Checkpoint, Suite};
//!
//! fn main() -> std::process::ExitCode {
//!     let pool = Case::new("pool-grows")
//!         .example("pool")
//!         .checkpoint(Checkpoint::new("idle").budget("threads.count", 4))
//!         .checkpoint(Checkpoint::new("loaded").budget("own.anon", "8 MiB"))
//!         .change("idle", "loaded", |change| assert_eq!(change.of("threads.count"), Ok(0)));
//!     memcheck_harness::main(Suite::of_file().with(pool))
//! }
//! ```
//!
//! Nothing is printed by a case that passes. What a target prints is shown when its case fails.

mod arguments;
mod case;
mod check;
mod environment;
mod machine;
mod session;
mod snapshots;
mod words;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{ColorSetting, Trial};

pub use case::{Case, Checkpoint};
pub use check::{Change, Checked, value};
pub use session::captures_beside;
pub use words::{At, Limit, Value};

use crate::error::{Error, Result};
use crate::report::{self, Style};
use arguments::Asked;
use environment::Environment;
use session::Session;

/// What a failed test program ends with, as libtest does.
const FAILED: u8 = 101;

/// The cases of one test program.
#[derive(Debug, Default)]
#[must_use = "a suite does nothing until it is given to main"]
pub struct Suite {
    file: bool,
    cases: Vec<Case>,
}

impl Suite {
    /// No case yet. The `[defaults]` of a `memcheck.toml` hold for cases built in Rust too.
    pub fn new() -> Self {
        Self::default()
    }

    /// All cases of `memcheck.toml`.
    pub fn of_file() -> Self {
        Self {
            file: true,
            cases: Vec::new(),
        }
    }

    /// One more case.
    pub fn with(mut self, case: Case) -> Self {
        self.cases.push(case);
        self
    }
}

/// Runs the suite as the arguments of this program ask (those of libtest; several filters are alternatives), and gives the
/// program's exit code: 0, or 101 when a case failed or the configuration is wrong. Targets are built when the first case
/// runs, so that listing builds and launches nothing.
#[must_use]
pub fn main(suite: Suite) -> ExitCode {
    let asked = Asked::parse(std::env::args_os());
    run(suite, &asked).unwrap_or_else(|error| {
        // Nothing is left to do when standard error is gone.
        let _ = report::error(error.problem(), Style::default(), &mut io::stderr().lock());
        ExitCode::from(FAILED)
    })
}

fn run(suite: Suite, asked: &Asked) -> Result<ExitCode> {
    let style = Style {
        color: asked.arguments.color == Some(ColorSetting::Always),
        ..Style::default()
    };
    let mut session = Session::open(suite, Environment::read()?, style)?;
    let arguments = &asked.arguments;
    let mut named: Vec<(usize, String, bool)> = session.cases();
    named.retain(|(_, name, _)| asked.wants(name));
    // What runs is known before: it is built in one go.
    session.selected = named
        .iter()
        .filter(|(_, name, ignored)| {
            let trial = Trial::test(name.clone(), || Ok(())).with_ignored_flag(*ignored);
            !arguments.is_filtered_out(&trial) && !arguments.is_ignored(&trial)
        })
        .map(|(index, ..)| *index)
        .collect();
    if arguments.list {
        return list(asked, &named);
    }
    let session = Arc::new(session);
    let trials = named
        .into_iter()
        .map(|(index, name, ignored)| {
            let session = Arc::clone(&session);
            Trial::test(name, move || session.run(index).map_err(|text| text.into())).with_ignored_flag(ignored)
        })
        .collect();
    session.begin()?;
    session.remark();
    let conclusion = libtest_mimic::run(arguments, trials);
    session.finish()?;
    Ok(conclusion.exit_code())
}

/// The list as libtest writes it: all cases, or with `--ignored` those that are. libtest-mimic would panic where the reader
/// has seen enough.
fn list(asked: &Asked, named: &[(usize, String, bool)]) -> Result<ExitCode> {
    let arguments = &asked.arguments;
    let mut out = io::stdout().lock();
    let mut text = String::new();
    for (_, name, ignored) in named {
        let trial = Trial::test(name.clone(), || Ok(())).with_ignored_flag(*ignored);
        if !arguments.is_filtered_out(&trial) && (*ignored || !arguments.ignored) {
            text.push_str(&format!("{name}: test\n"));
        }
    }
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::tool(format!("the list cannot be written to standard output: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A suite that measures nothing would pass for one that holds.
fn nothing() -> Error {
    Error::config("the suite has no case").detail("Suite::of_file() takes those of memcheck.toml, with(Case::new(…)) adds one")
}
