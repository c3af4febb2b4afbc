//! `child = "worker.1"`: in which process of the tree a checkpoint is.

use crate::model::ChildName;

use super::cursor::{Spot, Value};
use super::diagnostic::quote;

/// Ends the name of a series by children.
const EACH: &str = ".*";

/// A child as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Child {
    /// One.
    One(ChildName),
    /// Each of the target's own children that runs the program, by number.
    Each(ChildName),
}

/// Reads it.
pub(super) fn read(value: &Value<'_>) -> Option<Spot<Child>> {
    let text = value.word("\"worker.1\"")?;
    let (name, each) = match text.strip_suffix(EACH) {
        Some(name) => (name, true),
        None => (text, false),
    };
    let Some(name) = ChildName::parse(name).filter(|name| !each || name.path().is_empty()) else {
        let title = format!("{} is no child: a program and its number by birth", quote(text));
        return value.fail(
            title,
            "write \"worker.1\", \"worker.*\" for each, or \"worker\" for the only one",
        );
    };
    Some(value.spot(if each { Child::Each(name) } else { Child::One(name) }))
}

impl Child {
    /// The one process it means; absent for a series.
    pub(super) fn one(&self) -> Option<&ChildName> {
        match self {
            Self::One(name) => Some(name),
            Self::Each(_) => None,
        }
    }
}
