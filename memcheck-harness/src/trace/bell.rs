//! How another thread tells the tracer that something happened beside the target: commands that drive it begin and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::sys::timer::Waker;

/// Shared by the tracer and those who drive its target.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waker: Waker,
    running: AtomicUsize,
    failed: AtomicBool,
}

impl Bell {
    /// For the tracer that `waker` wakes.
    pub(super) fn new(waker: Waker) -> Self {
        Self(Arc::new(Inner {
            waker,
            running: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        }))
    }

    /// One more command runs.
    pub fn begin(&self) {
        self.0.running.fetch_add(1, Ordering::SeqCst);
    }

    /// One has ended. One that failed ends the session: [`super::Running::next`] fails.
    pub fn end(&self, succeeded: bool) {
        if !succeeded {
            self.0.failed.store(true, Ordering::SeqCst);
        }
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.waker.wake();
    }

    /// None runs.
    pub(super) fn is_silent(&self) -> bool {
        self.0.running.load(Ordering::SeqCst) == 0
    }

    /// One has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::SeqCst)
    }
}
