//! `Contents`: what a role's memory holds at a stop, as far as somebody asked for it. Never part of a report or a snapshot: memory
//! holds secrets.

use super::{Name, Role};

/// One piece of the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Its role; absent in a value that nobody has filled in.
    pub role: Option<Role>,
    /// Whose it is; may be empty.
    pub subject: Name,
    /// Thread id of a live owner.
    pub tid: Option<i32>,
    /// Bytes that were read: those of the pages in memory.
    pub read_bytes: u64,
    /// Bytes in memory that could not be read (no access, a device).
    pub unreadable_bytes: u64,
    /// Printable strings.
    pub strings: Vec<FoundString>,
    /// There are more strings than were kept.
    pub more: bool,
    /// The file that holds the bytes, at their offsets in the piece.
    pub file: Option<Name>,
}

/// A run of printable ASCII in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundString {
    /// Bytes from the beginning of the piece.
    pub offset: u64,
    /// Itself.
    pub text: String,
}
