//! How long a target may still run: its time limit, the user's wish to stop, and the tick that lets a wait notice both.

use std::io;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::model::Cancel;
use crate::sys::timer::{Ticker, Waker};

/// How often a wait looks at the clock.
const TICK_MILLISECONDS: u32 = 50;

/// The same, while points wait for time to pass.
const FINE_MILLISECONDS: u32 = 10;

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
    /// How long the target has run, up to `started`.
    ran: Duration,
    /// Since when it runs.
    started: Option<Instant>,
    /// The ticks are the fine ones.
    fine: bool,
}

impl Clock {
    /// Starts the time limit. The ticks do not start before [`Clock::run`].
    pub(super) fn new(limit: Duration, cancel: &Cancel) -> io::Result<Self> {
        Ok(Self {
            ticker: Ticker::new()?,
            cancel: cancel.clone(),
            deadline: Instant::now().checked_add(limit),
            paused: None,
            ran: Duration::ZERO,
            started: None,
            fine: false,
        })
    }

    /// Time counts from now on.
    pub(super) fn run(&mut self) {
        self.ticker.every(TICK_MILLISECONDS);
        self.fine = false;
        self.started.get_or_insert_with(Instant::now);
        if let (Some(paused), Some(deadline)) = (self.paused.take(), self.deadline) {
            self.deadline = deadline.checked_add(paused.elapsed());
        }
    }

    /// Time does not count until the next [`Clock::run`].
    pub(super) fn pause(&mut self) {
        self.ticker.every(0);
        self.ran = self.ran();
        self.started = None;
        self.paused = Some(Instant::now());
    }

    /// How long the target has run so far; pauses are not its time.
    pub(super) fn ran(&self) -> Duration {
        self.ran + self.started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// Time must be looked at more often, until the next [`Clock::run`].
    pub(super) fn tick_finely(&mut self) {
        if !std::mem::replace(&mut self.fine, true) {
            self.ticker.every(FINE_MILLISECONDS);
        }
    }

    /// How another thread interrupts a wait.
    pub(super) fn waker(&self) -> Waker {
        self.ticker.waker()
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
