//! Who is whose child: the names of the processes of a tree, and which points are in which of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::error::Error;
use crate::model::ChildName;
use crate::sys::names::signal_name;
use crate::sys::wait::Status;

use super::Within;
use super::clock::Halt;
use super::proc;
use super::session::Session;

/// What the kernel appends to the path of a file that was deleted (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// A process of the tree.
#[derive(Clone, Debug, Default)]
struct Member {
    /// File name of its program.
    program: Vec<u8>,
    /// Its place by birth; empty for the main process.
    path: Vec<u32>,
    /// Both as a name; absent for the main process.
    name: Option<ChildName>,
    /// How many children it has made.
    children: u32,
    /// Its end was counted.
    ends: bool,
}

/// All processes that were noted, by id, until they are gone.
#[derive(Debug, Default)]
pub(super) struct Family {
    members: BTreeMap<i32, Member>,
    /// Every name that was there.
    seen: BTreeSet<(Vec<u32>, String)>,
}

/// So many names are remembered.
const MOST_SEEN: usize = 100;

impl Family {
    /// Notes a process for the first time. A child whose parent is not known is the main process'.
    fn born(&mut self, pid: i32, parent: i32, main: i32) {
        if self.members.contains_key(&pid) {
            return;
        }
        let parent = if self.members.contains_key(&parent) { parent } else { main };
        let mut member = Member::default();
        if pid != main
            && let Some(parent) = self.members.get_mut(&parent)
        {
            parent.children += 1;
            member.path = parent.path.iter().copied().chain([parent.children]).collect();
            member.set_program(&parent.program);
        }
        self.remember(member.name.as_ref());
        self.members.insert(pid, member);
    }

    fn remember(&mut self, name: Option<&ChildName>) {
        if let Some((path, program)) = name.map(ChildName::order)
            && self.seen.len() < MOST_SEEN
        {
            self.seen.insert((path.to_vec(), program.to_owned()));
        }
    }

    /// Every name that was there, by birth.
    pub(super) fn seen(&self) -> Vec<ChildName> {
        let all = self.seen.iter();
        all.map(|(path, program)| ChildName::new(program.as_bytes(), path)).collect()
    }

    /// It runs another program.
    fn runs(&mut self, pid: i32, program: &[u8]) {
        if let Some(member) = self.members.get_mut(&pid) {
            member.set_program(program);
            let name = member.name.clone();
            self.remember(name.as_ref());
        }
    }

    /// The name of a child; absent for the main process and for strangers.
    pub(super) fn name(&self, pid: i32) -> Option<&ChildName> {
        self.members.get(&pid)?.name.as_ref()
    }

    /// True the first time: a process ends once, whichever of its threads says so.
    pub(super) fn ends(&mut self, pid: i32) -> bool {
        self.members
            .get_mut(&pid)
            .is_some_and(|member| !std::mem::replace(&mut member.ends, true))
    }

    /// Forgets a process that is gone.
    pub(super) fn remove(&mut self, pid: i32) -> Option<(ChildName, bool)> {
        let member = self.members.remove(&pid)?;
        Some((member.name?, member.ends))
    }
}

impl Member {
    fn set_program(&mut self, program: &[u8]) {
        self.program = program.to_vec();
        self.name = (!self.path.is_empty()).then(|| ChildName::new(program, &self.path));
    }
}

impl Session {
    /// Some point is in a child, so that the children must be known.
    pub(super) fn follows(&self) -> bool {
        self.points.iter().any(|counted| counted.point.within != Within::Main)
    }

    /// A process was made.
    pub(super) fn process_begins(&mut self, pid: i32) -> Result<(), Halt> {
        if pid != self.main && !self.follows() {
            return Ok(());
        }
        let parent = if pid == self.main {
            self.main
        } else {
            proc::kin(pid).map_or(self.main, |kin| kin.parent)
        };
        self.family.born(pid, parent, self.main);
        self.meet(pid)
    }

    /// A process has loaded a program.
    pub(super) fn process_loads(&mut self, pid: i32) -> Result<(), Halt> {
        // Where no point is in a child, nobody asks for names.
        if !self.follows() {
            return Ok(());
        }
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        self.family.runs(pid, file_name(&exe));
        self.meet(pid)
    }

    /// The last of a process is gone.
    pub(super) fn process_ended(&mut self, pid: i32, status: Status) {
        let Some((name, counted)) = self.family.remove(pid) else {
            return;
        };
        let every = self.points.iter().any(|counted| counted.point.within == Within::EveryChild);
        if let Status::Killed(signal) = status
            && every
            && !counted
            && !self.finishing
        {
            let signal = signal_name(signal);
            self.remark(format!(
                "child {name} was killed by {signal} before its end could be captured"
            ));
        }
    }

    /// A child has a new name: who waits for the only child of a program must not meet two.
    fn meet(&mut self, pid: i32) -> Result<(), Halt> {
        let Some(name) = self.family.name(pid).cloned() else {
            return Ok(());
        };
        for counted in &mut self.points {
            let Within::Child(wanted) = &counted.point.within else {
                continue;
            };
            if !wanted.path().is_empty() || !wanted.means(&name) {
                continue;
            }
            let first = counted.met.get_or_insert_with(|| name.clone());
            if *first != name {
                let title = format!("more than one child runs `{wanted}`: {first} and {name}");
                return Err(Error::not_judged(title)
                    .detail("a child is named by its program and its number by birth")
                    .detail(format!(
                        "child = \"{first}\", or child = \"{wanted}.*\" with limit = N for each of them"
                    ))
                    .into());
            }
        }
        Ok(())
    }

    /// True when a point is in this process.
    pub(super) fn is_within(&self, index: usize, pid: i32) -> bool {
        let Some(counted) = self.points.get(index) else {
            return false;
        };
        match &counted.point.within {
            Within::Main => pid == self.main,
            Within::EveryChild => pid != self.main,
            Within::Child(wanted) => self.family.name(pid).is_some_and(|name| wanted.means(name)),
        }
    }

    /// True when some point waits for something in this process.
    pub(super) fn is_awaited(&self, pid: i32) -> bool {
        (0..self.points.len()).any(|index| !self.points[index].is_done() && self.is_within(index, pid))
    }

    /// A traced process that a point is in.
    pub(super) fn process_within(&self, index: usize) -> Option<i32> {
        let mut all = self.tasks.processes().into_iter();
        all.find(|pid| self.is_within(index, *pid))
    }

    /// True when children may still reach a point, though the main process is gone.
    pub(super) fn awaits_children(&self) -> bool {
        self.tasks.len() > 0
            && self
                .points
                .iter()
                .any(|counted| counted.point.within != Within::Main && !counted.is_done())
    }
}

fn file_name(exe: &Path) -> &[u8] {
    let name = exe.file_name().map_or(&b""[..], OsStr::as_bytes);
    name.strip_suffix(DELETED).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_places_by_birth_and_programs() {
        let mut family = Family::default();
        family.born(10, 1, 10);
        family.runs(10, b"server");
        for (pid, parent) in [(11, 10), (12, 10), (13, 11), (11, 10)] {
            family.born(pid, parent, 10);
        }
        family.runs(12, b"worker");
        let name = |family: &Family, pid| family.name(pid).map(|name| name.to_string());
        let names: Vec<_> = (10..14).map(|pid| name(&family, pid)).collect();
        let expected = [None, Some("server.1"), Some("worker.2"), Some("server.1.1")];
        assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
        // The parent is gone, or is none of ours: an orphan is the main process'.
        family.remove(11);
        family.born(14, 11, 10);
        assert_eq!(name(&family, 14).as_deref(), Some("server.3"));
    }

    #[test]
    fn an_end_is_told_once() {
        let mut family = Family::default();
        family.born(10, 1, 10);
        family.born(11, 10, 10);
        assert!(family.ends(11) && !family.ends(11) && !family.ends(12));
        assert_eq!(
            family.remove(11).map(|(name, ended)| (name.to_string(), ended)),
            Some((".1".to_owned(), true))
        );
    }

    #[test]
    fn a_deleted_program_keeps_its_name() {
        assert_eq!(file_name(Path::new("/x/worker (deleted)")), b"worker");
        assert_eq!(file_name(Path::new("/")), b"");
    }
}
