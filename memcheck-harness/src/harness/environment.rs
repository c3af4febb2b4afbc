//! The environment of a test program: insta's variables as insta reads them, where to begin, where results go. The one file
//! of this door that reads variables; what they lead to is the session's.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::Overrides;
use crate::error::{Error, Result};

/// What may be written of snapshots (`INSTA_UPDATE`, its words and defaults: insta's documentation, "Updating snapshots").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// Pending files.
    New,
    /// The approved files, when they differ or there are none; the case passes.
    Always,
    /// Approved files where there are none yet, else pending ones.
    Unseen,
    /// The approved files, even when they are equal.
    Force,
    /// Nothing.
    No,
}

/// What the variables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) update: Update,
    /// `INSTA_FORCE_PASS`: set by `cargo insta test`, which judges by the pending files.
    pub(super) force_pass: bool,
    /// `CI`
    pub(super) ci: bool,
    /// `INSTA_PENDING_DIR`
    pub(super) pending_dir: Option<PathBuf>,
    /// `INSTA_SNAPSHOT_REFERENCES_FILE`: gets a line for each snapshot that is in use.
    pub(super) references: Option<PathBuf>,
    /// `MEMCHECK_RESULTS`: run the cases built in Rust only, and write what came out to this file.
    pub(super) results: Option<PathBuf>,
    /// `MEMCHECK_OVERRIDES`: what was typed after `cargo memcheck`, handed on with `MEMCHECK_RESULTS`.
    pub(super) overrides: Overrides,
    /// The package of the test (`CARGO_MANIFEST_DIR`, set by cargo and nextest).
    pub(super) package_dir: Option<PathBuf>,
    /// All of it, for targets.
    pub(super) inherited: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Reads the variables.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one function of the harness that reads the environment"
    )]
    pub(super) fn read() -> Result<Self> {
        let mut environment = from(&|name| std::env::var_os(name))?;
        environment.inherited = std::env::vars_os().collect();
        Ok(environment)
    }
}

fn from(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Environment> {
    let set = |name| variable(name).filter(|value: &OsString| !value.is_empty());
    let path = |name| set(name).map(PathBuf::from);
    let ci = set("CI").is_some_and(|value| !matches!(value.to_str(), Some("0" | "false")));
    let update = set("INSTA_UPDATE").unwrap_or_else(|| "auto".into());
    let update = match update.to_str() {
        Some("auto") if ci || variable("TF_BUILD").is_some() => Update::No,
        Some("auto" | "new") => Update::New,
        Some("always" | "1") => Update::Always,
        Some("unseen") => Update::Unseen,
        Some("force") => Update::Force,
        Some("no") => Update::No,
        _ => return Err(wrong("INSTA_UPDATE", "auto, new, always, unseen, force or no")),
    };
    let force_pass = match set("INSTA_FORCE_PASS") {
        None => false,
        Some(value) => match value.to_str() {
            Some("1") => true,
            Some("0") => false,
            _ => return Err(wrong("INSTA_FORCE_PASS", "1 or 0")),
        },
    };
    let overrides = set("MEMCHECK_OVERRIDES").filter(|_| variable("MEMCHECK_RESULTS").is_some());
    let overrides = Overrides::from_text(&overrides.unwrap_or_default().to_string_lossy())?;
    Ok(Environment {
        overrides,
        update,
        force_pass,
        ci,
        pending_dir: path("INSTA_PENDING_DIR"),
        references: path("INSTA_SNAPSHOT_REFERENCES_FILE"),
        results: path("MEMCHECK_RESULTS"),
        package_dir: path("CARGO_MANIFEST_DIR"),
        inherited: Vec::new(),
    })
}

fn wrong(name: &str, words: &str) -> Error {
    Error::config(format!("the variable {name} has none of its values")).detail(format!("it is {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment> {
        from(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn insta_update_means_what_insta_means() {
        for (variables, expected) in [
            (&[][..], Update::New),
            (&[("CI", "1")], Update::No),
            (&[("CI", "false")], Update::New),
            (&[("TF_BUILD", "")], Update::No),
            (&[("INSTA_UPDATE", "auto"), ("CI", "true")], Update::No),
            (&[("INSTA_UPDATE", "new"), ("CI", "true")], Update::New),
            (&[("INSTA_UPDATE", "1")], Update::Always),
            (&[("INSTA_UPDATE", "unseen")], Update::Unseen),
            (&[("INSTA_UPDATE", "force")], Update::Force),
            (&[("INSTA_UPDATE", "no")], Update::No),
        ] {
            assert_eq!(read(variables).unwrap().update, expected, "{variables:?}");
        }
        let error = read(&[("INSTA_UPDATE", "sometimes")]).unwrap_err();
        assert!(error.to_string().contains("unseen"), "{error}");
        assert!(read(&[("INSTA_FORCE_PASS", "yes")]).is_err());
    }

    #[test]
    fn empty_variables_count_as_absent() {
        let environment = read(&[("CI", ""), ("INSTA_PENDING_DIR", ""), ("MEMCHECK_RESULTS", "/x")]).unwrap();
        assert!(!environment.ci && environment.pending_dir.is_none() && !environment.force_pass);
        assert_eq!(environment.results, Some(PathBuf::from("/x")));
    }
}
