//! An approved file at a base and now, as an edit for reviewers: both texts without their headers, and the difference.

use super::pending::is_environment;
use super::{file, unified};
use crate::model::{Revised, RevisedKind};

/// The edit of a snapshot or of an environment of record. `path` is only named.
#[must_use]
pub fn revised(path: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Revised {
    let name = path.rsplit('/').next().and_then(|name| name.strip_suffix(".snap"));
    let is_environment = name.is_some_and(is_environment);
    let (old, new) = (old.map(text), new.map(text));
    let diff = unified(old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default());
    Revised {
        file: path.to_owned(),
        kind: if is_environment {
            RevisedKind::Environment
        } else {
            RevisedKind::Snapshot
        },
        what: String::new(),
        diff,
        old,
        new,
    }
}

/// The text of a snapshot file; of one that is damaged all there is.
fn text(bytes: &[u8]) -> String {
    let whole = String::from_utf8_lossy(bytes);
    file::text_of(&whole).unwrap_or_else(|| whole.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_come_without_headers() {
        let old = b"---\nsource: memcheck.toml\n---\ncase a\n  threads 1\n";
        let new = b"---\nsource: x\n---\ncase a\n  threads 2\n";
        let edit = revised("p/memcheck/snapshots/a.snap", Some(old), Some(new));
        assert_eq!(
            (edit.kind, edit.old.as_deref()),
            (RevisedKind::Snapshot, Some("case a\n  threads 1\n"))
        );
        assert!(edit.diff.contains("-  threads 1\n+  threads 2\n"), "{}", edit.diff);
        let named = revised("memcheck/snapshots/environment.arm64.snap", None, None);
        assert_eq!(named.kind, RevisedKind::Environment);
        let gone = revised("memcheck/snapshots/environment.snap", Some(b"no header"), None);
        assert_eq!((gone.kind, gone.new), (RevisedKind::Environment, None));
        assert_eq!(gone.old.as_deref(), Some("no header"));
    }
}
