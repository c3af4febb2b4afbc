//! `Revision`: what a change edits of the things by which it is judged, against the commit it starts from; and `Switch`, what
//! lies outside of `memcheck.toml` and still decides what is built and run.

use serde::{Deserialize, Serialize};

/// Everything that judges a run and is not what it was at the base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// How the base is called: `base 1a2b3c4d5e6f (merge-base with origin/main)`.
    pub base: String,
    /// Why it could not be told, when it could not.
    pub unknown: Option<String>,
    /// Sorted by file, then by what it is; empty when the change edits nothing of the kind.
    pub entries: Vec<Revised>,
}

/// One thing that was edited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revised {
    /// Path from the root of the repository, `/`-separated.
    pub file: String,
    /// Its kind.
    pub kind: RevisedKind,
    /// Which thing in the file: `case[server].checkpoint[ready].budget.own.anon`; empty for a whole file.
    pub what: String,
    /// Value or text at the base; absent when it is new.
    pub old: Option<String>,
    /// Value or text now; absent when it is gone.
    pub new: Option<String>,
    /// For a snapshot the unified difference of the two texts; else empty.
    #[serde(default)]
    pub diff: String,
}

/// Kinds of edited things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisedKind {
    /// A budget's bound.
    Limit,
    /// A tolerance, or what a snapshot holds.
    Tolerance,
    /// A waiver.
    Waiver,
    /// A case or checkpoint that came or went.
    Case,
    /// Anything else in `memcheck.toml`: how a case is launched, where it stops.
    Setting,
    /// An approved snapshot.
    Snapshot,
    /// The environment of record.
    Environment,
    /// Outside of `memcheck.toml`: what cargo, insta or git are told.
    Switch,
    /// A test whose limits are written in Rust.
    Code,
}

impl RevisedKind {
    /// The kind in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Tolerance => "tolerance",
            Self::Waiver => "waiver",
            Self::Case => "case",
            Self::Setting => "setting",
            Self::Snapshot => "snapshot",
            Self::Environment => "environment",
            Self::Switch => "switch",
            Self::Code => "code",
        }
    }
}

/// A setting outside of `memcheck.toml` that decides what is built or run, and that we cannot undo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Switch {
    /// Path of the file that has it, from the root of the project.
    pub file: String,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The job in which a run was made, where there is one that keeps what the run left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Number of the workflow run.
    pub run: u64,
    /// `owner/name`
    pub repository: String,
    /// Name of the artifact.
    pub artifact: String,
}

impl Job {
    /// A job, if each part has the form that GitHub gives it: what is shown as a command to be typed holds nothing else.
    #[must_use]
    pub fn new(run: &str, repository: &str, artifact: &str) -> Option<Self> {
        let is_plain = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            !text.is_empty() && text.len() <= 100 && !text.starts_with('-') && text.chars().all(plain)
        };
        let (owner, name) = repository.split_once('/')?;
        (is_plain(owner) && is_plain(name) && is_plain(artifact)).then_some(Self {
            run: run.parse().ok()?,
            repository: repository.to_owned(),
            artifact: artifact.to_owned(),
        })
    }

    /// True for one that [`Job::new`] could have made: a results file may say anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        Self::new(&self.run.to_string(), &self.repository, &self.artifact).as_ref() == Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_holds_nothing_that_a_shell_would_take() {
        assert!(Job::new("7", "owner/name", "memcheck").is_some_and(|job| job.is_sound()));
        for (run, repository, artifact) in [
            ("7;x", "o/n", "a"),
            ("7", "o", "a"),
            ("7", "o/n/m", "a"),
            ("7", "o/$(x)", "a"),
            ("7", "o/n", "a b"),
            ("7", "o/n", "-x"),
            ("7", "o/n", ""),
        ] {
            assert_eq!(Job::new(run, repository, artifact), None, "{run} {repository} {artifact}");
        }
    }
}
