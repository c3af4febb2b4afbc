//! A tick that interrupts blocking waits of one thread, so that time limits and cancellation are noticed.
//!
//! The signal is a real-time one near the top (`SIGRTMAX-3` downwards: the first whose disposition is the default), with a
//! handler that does nothing and without `SA_RESTART`. The timer is armed only while a thread waits.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::sync::OnceLock;

/// A disarmed timer that sends its signal to the thread that made it.
#[derive(Debug)]
pub(crate) struct Ticker {
    timer: libc::timer_t,
    waker: Waker,
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Installs the handler once per process; `None` when all candidates are in use by the program around us.
fn tick_signal() -> Option<i32> {
    static SIGNAL: OnceLock<Option<i32>> = OnceLock::new();
    *SIGNAL.get_or_init(|| {
        let last = libc::SIGRTMAX();
        (last - 10..=last - 3).rev().find(|&signal| {
            // SAFETY: sigaction with valid places; the handler does nothing and so is async-signal-safe. The disposition
            // is only replaced when it is the default one.
            unsafe {
                let mut old = MaybeUninit::<libc::sigaction>::zeroed();
                if libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) != 0
                    || old.assume_init().sa_sigaction != libc::SIG_DFL
                {
                    return false;
                }
                let mut action: libc::sigaction = zeroed();
                action.sa_sigaction = nothing as *const () as usize;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut()) == 0
            }
        })
    })
}

/// Interrupts a blocking wait of the thread that a ticker belongs to, as a tick does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waker {
    thread: i32,
    signal: i32,
}

impl Waker {
    /// Wakes it. When the thread is gone, at worst another one of ours is interrupted for nothing.
    pub(crate) fn wake(self) {
        let us = i32::try_from(std::process::id()).unwrap_or(0);
        let _ = super::process::kill_thread(us, self.thread, self.signal);
    }
}

impl Ticker {
    /// Makes the timer for the calling thread and unblocks its signal there.
    ///
    /// # Errors
    /// `EAGAIN` (no more timers allowed), `EBUSY` (no signal free).
    pub(crate) fn new() -> io::Result<Self> {
        let signal = tick_signal().ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))?;
        let mut timer = MaybeUninit::<libc::timer_t>::uninit();
        // SAFETY: all pointers are to valid places; zeroed bytes are valid for these plain structures.
        unsafe {
            let mut event: libc::sigevent = zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = libc::gettid();
            if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, timer.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let mut set: libc::sigset_t = zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            Ok(Self {
                timer: timer.assume_init(),
                waker: Waker {
                    thread: libc::gettid(),
                    signal,
                },
            })
        }
    }

    /// How another thread interrupts a wait of this one.
    pub(crate) fn waker(&self) -> Waker {
        self.waker
    }

    /// Starts ticking every `milliseconds`; 0 stops it.
    pub(crate) fn every(&self, milliseconds: u32) {
        let interval = libc::timespec {
            tv_sec: libc::time_t::from(milliseconds / 1000),
            tv_nsec: libc::c_long::from(milliseconds % 1000) * 1_000_000,
        };
        let value = libc::itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        // SAFETY: the timer is ours and lives as long as `self`; it cannot fail for valid times.
        unsafe { libc::timer_settime(self.timer, 0, &raw const value, std::ptr::null_mut()) };
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // SAFETY: the timer is ours and is not used afterwards.
        unsafe { libc::timer_delete(self.timer) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_interrupts_a_blocking_call() {
        let ticker = Ticker::new().unwrap();
        ticker.every(20);
        let wait = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        let began = std::time::Instant::now();
        // SAFETY: a sleep with a valid time.
        let result = unsafe { libc::nanosleep(&raw const wait, std::ptr::null_mut()) };
        assert_eq!(result, -1);
        assert!(began.elapsed().as_millis() < 4000);
        ticker.every(0);
    }
}
