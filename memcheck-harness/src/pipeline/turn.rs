//! Which cases may run at the same time: `serial` and `group` as locks on files below the data directory, held for one launch.
//! They hold between the threads of a run and between processes, as nextest starts one for each case, and die with their
//! process.
//!
//! The locks are always taken in one order: the door, then `all`, then the group's. Whoever holds a later one never waits for
//! an earlier one, so no two wait for each other. Who waits for `all` alone keeps the door shut, so that those who share it
//! cannot keep him waiting forever.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Event;
use crate::error::{Error, Result};
use crate::model::{Alone, Cancel, Case, Plan};

/// The first nap of a wait; each is twice as long as the one before, up to the longest.
const SHORTEST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// How long a case waits before anything is said of it: the other cases of a run are usually done by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Gives the cases of a plan their turns.
pub(super) struct Turns<'a> {
    dir: PathBuf,
    /// The directory is made for cases that may run beside all others, too.
    make: bool,
    patience: Duration,
    tell: &'a (dyn Fn(Event<'_>) + Sync),
    /// Files of cases that are done, not locked: each case needs its own, as two that lock one open file share its lock.
    spare: Mutex<Vec<(&'static str, File)>>,
}

/// The right of one case to run, until it is dropped.
pub(super) struct Turn<'a> {
    locks: Vec<(&'static str, Flock<File>)>,
    turns: &'a Turns<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        for (name, lock) in self.locks.drain(..) {
            self.turns.keep(name, lock);
        }
    }
}

const DOOR: &str = "turn-door";
const ALL: &str = "turn-all";
/// Followed by a number that stands for the group's word.
const GROUP: &str = "turn-group-";

impl<'a> Turns<'a> {
    /// For commands that keep their own files in the project.
    pub(super) fn new(plan: &Plan, tell: &'a (dyn Fn(Event<'_>) + Sync)) -> Self {
        Self {
            dir: plan.data_dir.clone(),
            make: true,
            patience: PATIENCE,
            tell,
            spare: Mutex::default(),
        }
    }

    /// For commands that write nothing into a project that has no `memcheck.toml`.
    pub(super) fn looking(plan: &Plan, tell: &'a (dyn Fn(Event<'_>) + Sync)) -> Self {
        Self {
            make: plan.root.join(&plan.file).exists(),
            ..Self::new(plan, tell)
        }
    }

    /// Waits until the case may run.
    ///
    /// # Errors
    /// Cancelled; the files cannot be made or locked, for a case that must not run beside others. One that may runs all the
    /// same: whoever cannot make the files has no case here that could exclude it.
    pub(super) fn take(&'a self, case: &Case, cancel: &Cancel) -> Result<Turn<'a>> {
        let mut wait = Wait {
            case,
            cancel,
            turns: self,
            since: Instant::now(),
            said: false,
        };
        match wait.take() {
            Err(error) if case.alone == Alone::No && cancel.signal().is_none() => {
                drop(error);
                Ok(self.turn(Vec::new()))
            }
            taken => Ok(self.turn(taken?)),
        }
    }

    fn turn(&'a self, locks: Vec<(&'static str, Flock<File>)>) -> Turn<'a> {
        Turn { locks, turns: self }
    }

    /// Unlocks a file for good, or for the next case.
    fn keep(&self, name: &'static str, lock: Flock<File>) {
        if let Ok(file) = lock.unlock()
            && name != GROUP
        {
            self.spare().push((name, file));
        }
    }

    /// One of these files that an earlier case has left.
    fn left(&self, name: &str) -> Option<File> {
        let mut spare = self.spare();
        let index = spare.iter().position(|(other, _)| *other == name)?;
        Some(spare.swap_remove(index).1)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<(&'static str, File)>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One case that waits for its turn.
struct Wait<'a> {
    case: &'a Case,
    cancel: &'a Cancel,
    turns: &'a Turns<'a>,
    since: Instant,
    said: bool,
}

impl Wait<'_> {
    fn take(&mut self) -> Result<Vec<(&'static str, Flock<File>)>> {
        let door = self.lock(DOOR, "", true)?;
        let all = self.lock(ALL, "", self.case.alone == Alone::Serial)?;
        self.turns.keep(DOOR, door);
        let mut locks = vec![(ALL, all)];
        if let Alone::Group(word) = &self.case.alone {
            locks.push((GROUP, self.lock(GROUP, &format!("{:016x}", hash(word)), true)?));
        }
        Ok(locks)
    }

    /// Opens one of the files, and makes it and its directory if they are missing.
    fn open(&self, path: &Path) -> Result<File> {
        let mut opened = open(path);
        if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound)
            && (self.turns.make || self.case.alone != Alone::No)
        {
            let dir = &self.turns.dir;
            fs::create_dir_all(dir).map_err(|error| Error::file("create", dir, &error))?;
            opened = open(path);
        }
        opened.map_err(|error| Error::file("open", path, &error))
    }

    /// Locks one of the files, alone or with others that do not ask to be.
    fn lock(&mut self, name: &str, number: &str, alone: bool) -> Result<Flock<File>> {
        let path = || self.turns.dir.join(format!("{name}{number}"));
        let mut file = match self.turns.left(name) {
            Some(file) => file,
            None => self.open(&path())?,
        };
        let how = if alone {
            FlockArg::LockExclusiveNonblock
        } else {
            FlockArg::LockSharedNonblock
        };
        let mut nap = SHORTEST_NAP;
        loop {
            match Flock::lock(file, how) {
                // What was removed meanwhile excludes nobody any more.
                Ok(lock) if lock.metadata().is_ok_and(|found| found.nlink() == 0) => {
                    file = self.open(&path())?;
                    continue;
                }
                Ok(lock) => return Ok(lock),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(Error::file("lock", &path(), &errno.into())),
            }
            if !self.said && self.since.elapsed() >= self.turns.patience {
                (self.turns.tell)(Event::Waiting(self.case));
                self.said = true;
            }
            if let Some(signal) = self.cancel.signal() {
                return Err(Error::interrupted(signal));
            }
            thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
}

/// Another user's file can be locked without being written.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .or_else(|error| File::open(path).map_err(|_| error))
}

/// FNV-1a: a file name for any word. Two words that share one only wait for each other.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;
    use crate::model::{ProblemKind, Target};

    fn case(alone: Alone) -> Case {
        let mut case = Case::new(
            "one",
            "/",
            Target::Command {
                program: "true".to_owned(),
            },
        );
        case.alone = alone;
        case
    }

    fn group(word: &str) -> Case {
        case(Alone::Group(word.to_owned()))
    }

    fn turns<'a>(dir: &Path, tell: &'a (dyn Fn(Event<'_>) + Sync)) -> Turns<'a> {
        Turns {
            dir: dir.join("data"),
            make: true,
            patience: Duration::ZERO,
            tell,
            spare: Mutex::default(),
        }
    }

    #[test]
    fn a_serial_case_waits_for_all_and_lets_none_pass() {
        let dir = tempfile::tempdir().unwrap();
        let (waits, waiting) = mpsc::channel();
        let waits = Mutex::new(waits);
        let tell = |event: Event<'_>| {
            assert!(matches!(event, Event::Waiting(_)));
            waits.lock().unwrap().send(()).unwrap();
        };
        let turns = turns(dir.path(), &tell);
        let order = Mutex::new(Vec::new());
        let run = |case: &Case, word: &'static str| {
            let turn = turns.take(case, &Cancel::new()).unwrap();
            order.lock().unwrap().push(word);
            drop(turn);
        };
        let first = turns.take(&case(Alone::No), &Cancel::new()).unwrap();
        let beside = turns.take(&group("port"), &Cancel::new()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| run(&case(Alone::Serial), "serial"));
            waiting.recv().unwrap();
            scope.spawn(|| run(&case(Alone::No), "late"));
            waiting.recv().unwrap();
            drop(first);
            order.lock().unwrap().push("others");
            drop(beside);
        });
        assert_eq!(*order.lock().unwrap(), ["others", "serial", "late"]);
    }

    #[test]
    fn a_group_excludes_its_own_only_and_a_wait_can_be_ended() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let tell = |_: Event<'_>| cancel.cancel(2);
        let turns = turns(dir.path(), &tell);
        let port = turns.take(&group("port"), &cancel).unwrap();
        let _disk = turns.take(&group("disk"), &cancel).unwrap();
        let _any = turns.take(&case(Alone::No), &cancel).unwrap();
        let refused = turns.take(&group("port"), &cancel).err().unwrap();
        assert!(matches!(refused.kind(), ProblemKind::Interrupted(_)));
        drop(port);
        let _port = turns.take(&group("port"), &Cancel::new()).unwrap();
    }

    #[test]
    fn files_that_were_removed_are_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let said = Mutex::new(0);
        let cancel = Cancel::new();
        let tell = |_: Event<'_>| {
            *said.lock().unwrap() += 1;
            cancel.cancel(2);
        };
        let (ours, others) = (turns(dir.path(), &tell), turns(dir.path(), &tell));
        drop(ours.take(&case(Alone::Serial), &cancel).unwrap());
        fs::remove_dir_all(dir.path().join("data")).unwrap();
        let _turn = ours.take(&case(Alone::Serial), &cancel).unwrap();
        let refused = others.take(&case(Alone::Serial), &cancel).err().unwrap();
        assert!(matches!(refused.kind(), ProblemKind::Interrupted(_)));
        assert_eq!(*said.lock().unwrap(), 1);
    }

    #[test]
    fn only_a_case_that_excludes_others_needs_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let tell = |_: Event<'_>| ();
        let looking = Turns {
            make: false,
            ..turns(dir.path(), &tell)
        };
        let _any = looking.take(&case(Alone::No), &Cancel::new()).unwrap();
        assert!(!dir.path().join("data").exists());
        fs::write(dir.path().join("data"), "no directory").unwrap();
        let turns = turns(dir.path(), &tell);
        let _any = turns.take(&case(Alone::No), &Cancel::new()).unwrap();
        for case in [case(Alone::Serial), group("port")] {
            assert!(turns.take(&case, &Cancel::new()).is_err());
        }
    }
}
