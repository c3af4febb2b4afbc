//! What was read of ELF files, kept for the whole process: the cases of a run load the same files again and again.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// A file as it is now: device, inode, size, then seconds and nanoseconds of the last change of its content and of the file itself.
/// Who changes a file changes one of these; the last is set by the kernel alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64, u64, u64, [i64; 4]);

impl Stamp {
    /// Of an open file, or of one that a path leads to.
    pub(crate) fn of(found: &Metadata) -> Self {
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        Self(found.dev(), found.ino(), found.len(), times)
    }

    /// Of the file with this device and inode (as `stat` gives them), which a process has mapped: it cannot be another one, as no
    /// inode is used again while it is mapped. Its path is tried first, then a link that leads to the mapping itself, which costs
    /// four times as much.
    pub(crate) fn of_mapped(path: &Path, (dev, inode): (u64, u64), link: &Path) -> Option<Self> {
        let by_path = std::fs::metadata(path).ok();
        let is_it = |found: &Metadata| found.dev() == dev && found.ino() == inode;
        let found = by_path.filter(is_it).or_else(|| std::fs::metadata(link).ok())?;
        found.is_file().then(|| Self::of(&found))
    }
}

/// Answers by file and question.
type Answers = BTreeMap<(Stamp, String), Arc<dyn Any + Send + Sync>>;

static ANSWERS: Mutex<Answers> = Mutex::new(BTreeMap::new());

/// Answers kept; beyond, all are forgotten and read again when they are needed.
const MAX_ANSWERS: usize = 4096;

/// The answer to a question about a file, read only if it was not asked before of this very content. `question` must name
/// everything the answer depends on besides the file. Errors are not kept.
///
/// # Errors
/// Those of `read`; the file cannot be inspected.
pub(crate) fn remembered<T: Any + Send + Sync>(file: &File, question: &str, read: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
    let meta = file
        .metadata()
        .map_err(|error| Error::not_judged(format!("could not inspect the ELF file: {error}")))?;
    let stamp = Stamp::of(&meta);
    if let Some(known) = known(stamp, question) {
        return Ok(known);
    }
    let answer = Arc::new(read()?);
    answers(|all| {
        if all.len() >= MAX_ANSWERS {
            all.clear();
        }
        let key = (stamp, question.to_owned());
        all.insert(key, Arc::<T>::clone(&answer) as Arc<dyn Any + Send + Sync>)
    });
    Ok(answer)
}

/// The answer to a question that was asked before of this very content: nothing is opened for it.
pub(crate) fn known<T: Any + Send + Sync>(stamp: Stamp, question: &str) -> Option<Arc<T>> {
    let key = (stamp, question.to_owned());
    answers(|all| all.get(&key).cloned())?.downcast().ok()
}

fn answers<T>(look: impl FnOnce(&mut Answers) -> T) -> T {
    look(&mut ANSWERS.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_mapped_file_is_told_by_its_identity_not_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).unwrap();
        let stamp = |path: &Path| Stamp::of(&path.metadata().unwrap());
        assert_eq!(Stamp::of_mapped(&one, identity(&one), &other), Some(stamp(&one)));
        assert_eq!(Stamp::of_mapped(&one, identity(&other), &other), Some(stamp(&other)));
        assert_eq!(
            Stamp::of_mapped(&dir.path().join("none"), identity(&one), &one),
            Some(stamp(&one))
        );
        assert_eq!(Stamp::of_mapped(dir.path(), identity(dir.path()), &one), None, "no file");
        assert_eq!(Stamp::of_mapped(&one, (0, 0), &dir.path().join("none")), None);
    }

    #[test]
    fn a_question_is_asked_once_of_each_content() {
        let mut file = tempfile::tempfile().unwrap();
        let asked = std::cell::Cell::new(0);
        let ask = |file: &File, question: &str| {
            let read = || {
                asked.set(asked.get() + 1);
                Ok(asked.get())
            };
            *remembered(file, question, read).unwrap()
        };
        let known_now = |question| known::<i32>(Stamp::of(&file.metadata().unwrap()), question).map(|answer| *answer);
        assert_eq!(known_now("a"), None);
        assert_eq!((ask(&file, "a"), ask(&file, "a"), ask(&file, "b")), (1, 1, 2));
        assert_eq!((known_now("a"), known_now("b"), known_now("c")), (Some(1), Some(2), None));
        file.write_all(b"longer").unwrap();
        assert_eq!((ask(&file, "a"), ask(&file, "a")), (3, 3));
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9)).unwrap();
        assert_eq!(ask(&file, "a"), 4);
        assert!(remembered(&file, "c", || -> Result<u8> { Err(Error::not_judged("no")) }).is_err());
        assert_eq!(ask(&file, "c"), 5, "an error is no answer");
    }
}
