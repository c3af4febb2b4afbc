//! `Cancel`: the wish of the user to stop, shared by all threads of the tool.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Set once by a signal handler or a caller; read by every loop that can take long.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicI32>);

impl Cancel {
    /// Not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything to stop because of a signal (its number, for example 2).
    pub fn cancel(&self, signal: i32) {
        self.0.store(signal, Ordering::SeqCst);
    }

    /// The signal that asked to stop.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }
}
