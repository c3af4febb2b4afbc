//! `Tools`: which cargo and rustc to use, and where programs are searched. The only place of `build` that reads the
//! environment (the `cc` crate reads `CC` by itself).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::child::Capture;

/// What the environment says about programs.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    /// `$CARGO` (set by cargo for its subcommands, so that `cargo +toolchain memcheck` holds), else `cargo`.
    pub(super) cargo: PathBuf,
    /// `$RUSTC`, else the one beside cargo, else `rustc`.
    pub(super) rustc: PathBuf,
    /// `$CC` is set: which compiler that means, the `cc` crate tells.
    pub(super) names_compiler: bool,
    /// `$PATH`
    pub(super) search: OsString,
    /// Cargo's standard error goes where ours goes (`Stdout`), or is captured and shown on failure (`Both`).
    pub(super) cargo_output: Capture,
}

impl Tools {
    /// Reads the environment.
    #[expect(clippy::disallowed_methods, reason = "the one function of build that reads the environment")]
    pub(super) fn from_environment() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let cargo = set("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        Self {
            rustc: set("RUSTC").map_or_else(|| beside(&cargo), PathBuf::from),
            search: set("PATH").unwrap_or_default(),
            names_compiler: set("CC").is_some(),
            cargo_output: Capture::Stdout,
            cargo,
        }
    }
}

/// The rustc of the same toolchain, which may be another than the one on PATH.
fn beside(cargo: &Path) -> PathBuf {
    let sibling = cargo.with_file_name("rustc");
    if cargo.is_absolute() && sibling.is_file() {
        sibling
    } else {
        PathBuf::from("rustc")
    }
}
