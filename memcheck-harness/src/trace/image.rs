//! One memory that is followed, and the program in it: the main process', and that of each child that a point is in.

use std::collections::BTreeMap;

use super::breakpoint::Breakpoints;
use super::finished::Finished;
use super::loader::Loader;
use super::returns::Returns;
use super::session::Session;
use super::tasks::Space;
use super::watch::Watches;

/// See the module. A process that loads another program gets a new one.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// The process it was made for; others may share its memory (vfork).
    pub(super) process: i32,
    /// The number of the image whose memory fork has copied first; its own if there was no other.
    pub(super) family: u64,
    /// Its auxiliary vector, as it was read before the program ran; empty: it was not.
    pub(super) auxv: Vec<u8>,
    pub(super) breakpoints: Breakpoints,
    pub(super) loader: Loader,
    pub(super) returns: Returns,
    pub(super) watches: Watches,
    /// Stacks of threads that ended.
    pub(super) finished: Finished,
}

/// All images by number.
#[derive(Debug, Default)]
pub(super) struct Images {
    all: BTreeMap<u64, Image>,
    last: u64,
    /// Given where there is none, so that it can be written to without a question.
    none: Image,
}

impl Images {
    /// Adds an image for a process, and gives its number. Without a family it begins one.
    pub(super) fn add(&mut self, mut image: Image) -> u64 {
        self.last += 1;
        if image.family == 0 {
            image.family = self.last;
        }
        self.all.insert(self.last, image);
        self.last
    }

    pub(super) fn get(&self, number: u64) -> Option<&Image> {
        self.all.get(&number)
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.all.keys().copied().collect()
    }

    /// Drops those that nobody needs.
    pub(super) fn keep(&mut self, needed: impl Fn(u64) -> bool) {
        self.all.retain(|number, _| needed(*number));
    }

    /// What is noted of a thread, anywhere, is forgotten.
    pub(super) fn forget(&mut self, tid: i32) {
        for image in self.all.values_mut() {
            image.returns.forget(tid);
            image.watches.forget(tid);
        }
    }
}

impl Session {
    /// The image of a thread's memory, to be changed; of a thread that is not followed, one that nobody looks at.
    pub(super) fn image(&mut self, tid: i32) -> &mut Image {
        let number = self.tasks.image_of(tid).unwrap_or(0);
        self.images.all.get_mut(&number).unwrap_or(&mut self.images.none)
    }

    /// The image of a thread's memory, if it is followed.
    pub(super) fn image_of(&self, tid: i32) -> Option<&Image> {
        self.images.get(self.tasks.image_of(tid)?)
    }

    /// The image of a process' memory, if it is followed.
    pub(super) fn image_of_process(&self, pid: i32) -> Option<&Image> {
        match self.tasks.space(pid) {
            Space::Image(number) => self.images.get(number),
            _ => None,
        }
    }
}
