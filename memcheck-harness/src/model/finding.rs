//! `Finding`: one thing that a machine permits, permits with limits, or refuses, with what follows and what to do about it.

use serde::{Deserialize, Serialize};

/// How a machine stands on one thing, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// As it should be.
    Works,
    /// Something is lost, and said so where it is; everything else is measured.
    Limited,
    /// Without it nothing can be measured.
    Refused,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A word: `ptrace`, `aslr`, `smaps`.
    pub name: String,
    /// The verdict.
    pub standing: Standing,
    /// What was found, a fragment.
    pub found: String,
    /// What follows for measurements; empty when nothing does.
    pub consequence: String,
    /// What to do about it; empty when there is nothing.
    pub fix: String,
}

impl Finding {
    /// Something that works.
    #[must_use]
    pub fn works(name: &str, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            standing: Standing::Works,
            found: found.into(),
            consequence: String::new(),
            fix: String::new(),
        }
    }

    /// Something that works with limits.
    #[must_use]
    pub fn limited(name: &str, found: impl Into<String>, consequence: &str, fix: &str) -> Self {
        Self {
            standing: Standing::Limited,
            consequence: consequence.to_owned(),
            fix: fix.to_owned(),
            ..Self::works(name, found)
        }
    }

    /// Something that nothing can be measured without.
    #[must_use]
    pub fn refused(name: &str, found: impl Into<String>, consequence: &str, fix: &str) -> Self {
        Self {
            standing: Standing::Refused,
            ..Self::limited(name, found, consequence, fix)
        }
    }
}
