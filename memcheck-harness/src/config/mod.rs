//! `memcheck.toml`, the environment and the command line → a validated `Plan`.
//! Owns names, defaults, merging and the errors with their places; touches no process and builds nothing.

mod added;
mod at;
mod budget;
mod case;
mod checkpoint;
mod child;
mod cursor;
mod diagnostic;
mod duration;
mod edit;
mod elf;
mod environment;
mod handed;
mod locate;
mod matrix;
mod name;
mod own;
mod partition;
mod plan;
mod policy;
mod record;
mod reference;
mod revised;
mod settings;
mod signal;
mod snapshot;
mod step;
mod suggest;
mod target;
mod typed;
mod waiver;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::model::{At, Name, Place, Plan, Workspace};
pub use elf::is_of_file;
pub use partition::Partition;
pub use policy::unmet_policies;
pub use reference::reference;
pub use revised::{revised, revised_elsewhere, switches};
pub use typed::PLACES;

/// A `memcheck.toml` that was found and read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Directory its paths are relative to.
    pub root: PathBuf,
    /// The file, absolute.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

pub use edit::{Edits, edited, set, written};

/// What the command line adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--budget '[case[/checkpoint]:]metric<=16MiB'`, as typed.
    pub budgets: Vec<String>,
    /// Substrings of case names; a case is selected if any matches (none: all).
    pub filters: Vec<String>,
    /// Filters are whole names.
    pub exact: bool,
    /// Only cases of these packages.
    pub packages: Vec<String>,
    /// Profile for all cargo targets (`memcheck` is the injected one).
    pub profile: Option<String>,
    /// Target triple for all cargo targets.
    pub triple: Option<String>,
    /// Cargo's feature and lock flags, forwarded.
    pub cargo_args: Vec<String>,
    /// `--as-is`
    pub as_is: bool,
    /// `--cooperative`
    pub cooperative: bool,
    /// `--partition count:1/3`
    pub partition: Option<Partition>,
    /// `--env NAME`
    pub environment: Option<String>,
    /// The file may well lack it: the one without a name holds then. Of a base, which is older. Not handed on.
    pub environment_may_lack: bool,
    /// Facts about this machine that `[environment.NAME]` may match, and `CI` as `true` or `false`. Not handed on: they are
    /// those of the machine.
    pub here: BTreeMap<String, String>,
}

impl Overrides {
    /// As one text, for a harness test's environment. [`Overrides::from_text`] reads it.
    #[must_use]
    pub fn to_text(&self) -> String {
        handed::to_text(self)
    }

    /// What [`Overrides::to_text`] wrote.
    ///
    /// # Errors
    /// It was written by another version.
    pub fn from_text(text: &str) -> Result<Self> {
        handed::from_text(text)
    }
}

/// One line of a case that is built in Rust: what the file would say, and where the Rust code says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltLine {
    /// TOML without a line break, for example `[[case]]` or `name = "pool"`.
    pub text: String,
    /// The place of the call.
    pub place: Place,
}

/// Looks for `memcheck.toml` or `.config/memcheck.toml` from `start` upwards.
///
/// # Errors
/// Both in one directory, a file that cannot be read, is no UTF-8 or larger than 1 MiB.
pub fn locate(start: &Path) -> Result<Option<Source>> {
    locate::locate(start)
}

/// The plan of a configuration. `page_bytes` gives sizes in `pages` their meaning.
///
/// # Errors
/// Mistakes in the file or on the command line, each with its place, the offending text and what to write instead.
pub fn plan(source: &Source, workspace: Option<&Workspace>, overrides: &Overrides, page_bytes: u64) -> Result<Plan> {
    plan::plan(source, &[], workspace, overrides, page_bytes)
}

/// As [`plan()`], with the cases that `built` says appended to those of the file: the same words, the same defaults, the same
/// checks, but with places in the Rust code.
///
/// # Errors
/// As [`plan()`].
pub fn plan_with(
    source: &Source,
    built: &[BuiltLine],
    workspace: Option<&Workspace>,
    overrides: &Overrides,
    page_bytes: u64,
) -> Result<Plan> {
    plan::plan(source, built, workspace, overrides, page_bytes)
}

/// A place to stop at as it is typed: `exec`, `main`, `exit`, `idle`, `step-done`, `kind:value` for every kind that a file can
/// name (`thread:end:NAME`, `stderr:REGEX` besides), or the table that stands in a file.
///
/// # Errors
/// It is none, with what to type instead.
pub fn place(text: &str) -> Result<At> {
    typed::place(text)
}

/// "did you mean `x`?", if one of the names is close to the text.
#[must_use]
pub fn did_you_mean(text: &str, names: &[String]) -> Option<String> {
    suggest::did_you_mean(text, names.iter().map(String::as_str))
}

/// What to say when `filters` selected nothing: the closest of the names there are, or all of them.
#[must_use]
pub fn nothing_matches(names: &[String], filters: &[String]) -> String {
    let names = || names.iter().map(String::as_str);
    let wanted: Vec<String> = filters.iter().map(|filter| diagnostic::quote(filter)).collect();
    let hint = filters
        .iter()
        .find_map(|filter| suggest::did_you_mean(filter, names()))
        .unwrap_or_else(|| format!("cases are {}", suggest::listed(names())));
    format!("no case is called {}: {hint}", wanted.join(" or "))
}

/// The rule that tells own objects from platform ones: below the plan's root or the target directory, or matching a
/// pattern of `own = […]`.
///
/// # Errors
/// A pattern that is none (a plan made by [`plan()`] holds only good ones).
pub fn ownership(plan: &Plan) -> Result<impl Fn(&Name) -> bool + use<>> {
    own::ownership(plan)
}

#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod tests;
