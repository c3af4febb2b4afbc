//! `Snapshot`: the normalised states of a case, as data. `normalize` makes it of maps and turns it into text and back.

use std::collections::BTreeMap;

use super::{ChildName, Metric, Role};

/// What a snapshot file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The case's name.
    pub case: String,
    /// File names of system objects, sorted.
    pub platform: Vec<String>,
    /// File names of own shared objects, sorted.
    pub libraries: Vec<String>,
    /// The hardening line, for example `pie, relro full, nx, canary`; empty when unknown.
    pub hardening: String,
    /// Checkpoints in order, each with its full state (the text shows later ones as changes).
    pub checkpoints: Vec<State>,
}

/// The normalised state at one checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The checkpoint's name.
    pub name: String,
    /// The child process it is in; absent for the target itself.
    pub child: Option<ChildName>,
    /// Rows in order.
    pub rows: BTreeMap<RowKey, Row>,
}

/// What a row speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// Live threads.
    Threads,
    /// All pieces of a role.
    Role(Role),
    /// A metric the user asked for.
    Metric(Metric),
}

/// The cells of a row; bytes but for `count`. A metric's value stands in `count` (counts) or `reserved` (bytes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Number of items.
    pub count: Cell,
    /// Address space.
    pub reserved: Cell,
    /// Anonymous memory.
    pub anon: Cell,
}

/// One cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    /// Nothing: not defined for this row, or not known here.
    #[default]
    Absent,
    /// An exact value.
    Value(u64),
    /// Differed between the runs of `accept`: not gated.
    Varies,
}
