//! How long a target may still run: its time limit, the user's wish to stop, and the tick that lets a wait notice both.

use std::io;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::model::Cancel;
use crate::sys::timer::Ticker;

/// How often a wait looks at the clock.
const TICK_MILLISECONDS: u32 = 50;

/// Why a session cannot go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// The time limit is over.
    TimedOut,
    /// The user wants to stop.
    Cancelled(i32),
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Clock {
    ticker: Ticker,
    cancel: Cancel,
    /// Absent: no limit.
    deadline: Option<Instant>,
    /// Since when the target is paused; that time is not the target's.
    paused: Option<Instant>,
}

impl Clock {
    /// Starts the time limit. The ticks do not start before [`Clock::run`].
    pub(super) fn new(limit: Duration, cancel: &Cancel) -> io::Result<Self> {
        Ok(Self {
            ticker: Ticker::new()?,
            cancel: cancel.clone(),
            deadline: Instant::now().checked_add(limit),
            paused: None,
        })
    }

    /// Time counts from now on.
    pub(super) fn run(&mut self) {
        self.ticker.every(TICK_MILLISECONDS);
        if let (Some(paused), Some(deadline)) = (self.paused.take(), self.deadline) {
            self.deadline = deadline.checked_add(paused.elapsed());
        }
    }

    /// Time does not count until the next [`Clock::run`].
    pub(super) fn pause(&mut self) {
        self.ticker.every(0);
        self.paused = Some(Instant::now());
    }

    /// Says whether the session has to end.
    pub(super) fn check(&self) -> Result<(), Halt> {
        if let Some(signal) = self.cancel.signal() {
            return Err(Halt::Cancelled(signal));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Halt::TimedOut);
        }
        Ok(())
    }
}
