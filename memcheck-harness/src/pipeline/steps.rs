//! The commands that drive a case's target: started after their checkpoints, stopped with the case.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::caught::caught;
use crate::build;
use crate::error::{Error, Result};
use crate::model::{Cancel, Case, End};
use crate::trace::{Bell, Ended};

/// How long steps may still run when the target has ended by itself.
const GRACE: Duration = Duration::from_secs(5);
/// The signal that a step is told to have been stopped by.
const SIGTERM: i32 = 15;

/// The steps of one launch. Dropping it ends those that still run.
pub(super) struct Steps<'c> {
    case: &'c Case,
    directory: &'c Path,
    bell: Bell,
    cancel: Cancel,
    running: Vec<JoinHandle<()>>,
    sender: Sender<Result<()>>,
    ended: Receiver<Result<()>>,
    open: usize,
    /// Dropped when the case is over: what steps left running goes then.
    over: Vec<Sender<()>>,
}

impl<'c> Steps<'c> {
    /// None runs yet.
    pub(super) fn new(case: &'c Case, bell: Bell) -> Self {
        let (sender, ended) = channel();
        Self {
            case,
            directory: &case.cwd,
            bell,
            cancel: Cancel::new(),
            running: Vec::new(),
            sender,
            ended,
            open: 0,
            over: Vec::new(),
        }
    }

    /// Checkpoint `index` was measured: what is to follow it starts.
    pub(super) fn start(&mut self, index: usize, pid: i32) -> Result<()> {
        let Some(checkpoint) = self.case.checkpoints.get(index) else {
            return Ok(());
        };
        for step in self.case.steps.iter().filter(|step| step.after == checkpoint.name) {
            let (step, directory) = (step.clone(), self.directory.to_owned());
            let (bell, cancel, sender) = (self.bell.clone(), self.cancel.clone(), self.sender.clone());
            let (over, case_is_over) = channel::<()>();
            self.over.push(over);
            self.bell.begin();
            self.open += 1;
            // A thread of its own: the tracer must not be the parent of processes that it does not trace.
            let spawned = std::thread::Builder::new().name("memcheck-step".to_owned()).spawn(move || {
                let ran = caught(|| build::step(&step, &directory, pid, &cancel));
                let (result, group) = ran.unwrap_or_else(|error| (Err(error), None));
                let succeeded = result.is_ok();
                // Nobody listens any more when the case is over.
                let _ = sender.send(result);
                bell.end(succeeded);
                if let Some(group) = group {
                    // Nothing is ever sent: this ends when the case drops its end.
                    let _ = case_is_over.recv();
                    drop(group);
                }
            });
            match spawned {
                Ok(thread) => self.running.push(thread),
                Err(error) => return Err(Error::machine(format!("could not start a thread for a step: {error}"))),
            }
        }
        Ok(())
    }

    /// The first failure so far.
    ///
    /// # Errors
    /// A step has failed.
    pub(super) fn check(&mut self) -> Result<()> {
        while let Ok(result) = self.ended.try_recv() {
            self.open -= 1;
            result?;
        }
        Ok(())
    }

    /// The end of the target, with what its steps have to say of it.
    ///
    /// # Errors
    /// A step has failed.
    pub(super) fn after(&mut self, ended: Ended) -> Result<Ended> {
        if ended.end != End::TimedOut {
            self.finish()?;
        }
        Ok(ended)
    }

    /// The target has ended by itself: its steps may say their last words.
    fn finish(&mut self) -> Result<()> {
        let until = Instant::now() + GRACE;
        while self.open > 0 {
            match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(result) => {
                    self.open -= 1;
                    result?;
                }
                Err(_) => return Err(Error::not_judged("a step still ran 5 s after the target had ended")),
            }
        }
        Ok(())
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        self.cancel.cancel(SIGTERM);
        self.over.clear();
        for thread in self.running.drain(..) {
            // What a panic of its command was is told by its result.
            let _ = thread.join();
        }
    }
}
