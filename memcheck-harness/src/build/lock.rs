//! The lock that lets one run at a time build below a data directory. It dies with its process, however that ends.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::BuildEvent;
use crate::error::{Error, Result};
use crate::model::Cancel;

const POLL: Duration = Duration::from_millis(50);

/// Takes `<data_dir>/lock`, and waits for it if another process has it. Released when the value is dropped.
pub(super) fn acquire(data_dir: &Path, cancel: &Cancel, progress: &dyn Fn(BuildEvent)) -> Result<Flock<File>> {
    fs::create_dir_all(data_dir).map_err(|error| Error::file("create", data_dir, &error))?;
    let path = data_dir.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::file("open", &path, &error))?;
    let mut said = false;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(Error::file("lock", &path, &errno.into())),
        }
        if !said {
            progress(BuildEvent::Waiting);
            said = true;
        }
        if let Some(signal) = cancel.signal() {
            return Err(Error::interrupted(signal));
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::model::ProblemKind;

    #[test]
    fn the_second_waits_until_it_is_cancelled_or_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let events = RefCell::new(Vec::new());
        let first = acquire(&dir.path().join("data"), &cancel, &|event| events.borrow_mut().push(event)).unwrap();
        assert_eq!(*events.borrow(), []);
        let waiting = |event| {
            assert_eq!(event, BuildEvent::Waiting);
            cancel.cancel(2);
        };
        let error = acquire(&dir.path().join("data"), &cancel, &waiting).unwrap_err();
        assert!(matches!(error.kind(), ProblemKind::Interrupted(_)));
        drop(first);
        acquire(&dir.path().join("data"), &cancel, &|_| ()).unwrap();
    }
}
