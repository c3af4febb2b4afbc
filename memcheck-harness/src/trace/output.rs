//! Standard output and error of the target: drained by one thread so that the target never waits for us, the last bytes
//! kept, the rest counted.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::{Name, OutputTail};
use crate::sys::process;

/// Bytes read at once: the default capacity of a pipe (pipe(7)).
const CHUNK_BYTES: usize = 64 << 10;

/// The reading thread of one target.
#[derive(Debug)]
pub(super) struct Output {
    /// Closed to say that the target is gone.
    running: Option<PipeWriter>,
    reader: Option<JoinHandle<Drained>>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// The tails.
    pub(super) tail: OutputTail,
    /// Somebody still held the pipes open when we stopped reading.
    pub(super) held_open: bool,
    /// The reading thread panicked: nothing of the output is known.
    pub(super) lost: bool,
}

impl Drained {
    /// What is to be said of it.
    pub(super) fn remark(&self) -> Option<String> {
        let text = if self.lost {
            "the output was lost: the thread that read it panicked, a bug of cargo memcheck; the target may have ended for that"
        } else if self.held_open {
            "the output was still held open by a process outside of the case: the rest of it was not read"
        } else {
            return None;
        };
        Some(text.to_owned())
    }
}

#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
    dropped: u64,
}

impl Tail {
    /// Keeps at most `limit` bytes; moves bytes only once per `limit` bytes added.
    fn add(&mut self, bytes: &[u8], limit: usize) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > limit.saturating_mul(2).saturating_add(CHUNK_BYTES) {
            self.cut(limit);
        }
    }

    fn cut(&mut self, limit: usize) {
        let surplus = self.kept.len().saturating_sub(limit);
        self.kept.drain(..surplus);
        self.dropped += surplus as u64;
    }
}

impl Output {
    /// Starts to read the standard output and, unless it is the same terminal, the standard error. `grace` is how long it goes on reading pipes that stay open after the target's end.
    ///
    /// # Errors
    /// No room for a thread or a pipe.
    pub(super) fn drain(stdout: OwnedFd, stderr: Option<OwnedFd>, limit: usize, grace: Duration) -> io::Result<Self> {
        let (over, running) = io::pipe()?;
        let reader = std::thread::Builder::new()
            .name("memcheck-output".to_owned())
            .spawn(move || read_all([Some(stdout), stderr].map(|file| file.map(File::from)), &over, limit, grace))?;
        Ok(Self {
            running: Some(running),
            reader: Some(reader),
        })
    }

    /// The target is gone: reads what is left and gives it back.
    pub(super) fn finish(&mut self) -> Drained {
        self.running = None;
        let read = self.reader.take().map(JoinHandle::join);
        read.unwrap_or_else(|| Ok(Drained::default())).unwrap_or_else(|_| Drained {
            lost: true,
            ..Drained::default()
        })
    }
}

fn read_all(mut pipes: [Option<File>; 2], over: &PipeReader, limit: usize, grace: Duration) -> Drained {
    let mut tails = [Tail::default(), Tail::default()];
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut deadline: Option<Instant> = None;
    while pipes.iter().any(Option::is_some) {
        let left = match deadline {
            None => -1,
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                Some(left) => i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1),
                None => break,
            },
        };
        let open: Vec<usize> = (0..2).filter(|&index| pipes[index].is_some()).collect();
        let mut files: Vec<_> = pipes.iter().flatten().map(|pipe| pipe.as_fd()).collect();
        if deadline.is_none() {
            files.push(over.as_fd());
        }
        let Ok(ready) = process::readable(&files, left) else {
            continue;
        };
        if deadline.is_none() && ready.last() == Some(&true) {
            deadline = Some(Instant::now() + grace);
        }
        for (&index, _) in open.iter().zip(&ready).filter(|(_, ready)| **ready) {
            match pipes[index].as_mut().map(|pipe| pipe.read(&mut buffer)) {
                Some(Ok(0)) => pipes[index] = None,
                Some(Ok(count)) => tails[index].add(&buffer[..count], limit),
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // EIO: the last program has closed its end of the terminal.
                Some(Err(_)) | None => pipes[index] = None,
            }
        }
    }
    let held_open = pipes.iter().any(Option::is_some);
    let [stdout, stderr] = tails.map(|mut tail| {
        tail.cut(limit);
        tail
    });
    Drained {
        tail: OutputTail {
            stdout: Name::new(stdout.kept),
            stderr: Name::new(stderr.kept),
            stdout_dropped_bytes: stdout.dropped,
            stderr_dropped_bytes: stderr.dropped,
        },
        held_open,
        lost: false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn drained(write: impl FnOnce(PipeWriter, PipeWriter), limit: usize) -> Drained {
        let (stdout, out) = io::pipe().unwrap();
        let (stderr, err) = io::pipe().unwrap();
        let mut output = Output::drain(stdout.into(), Some(stderr.into()), limit, Duration::from_millis(50)).unwrap();
        write(out, err);
        output.finish()
    }

    #[test]
    fn the_last_bytes_are_kept_and_the_others_counted() {
        let drained = drained(
            |mut out, mut err| {
                out.write_all(&vec![b'x'; 1_000_000]).unwrap();
                out.write_all(b"end").unwrap();
                err.write_all(b"oh").unwrap();
            },
            5,
        );
        assert_eq!(drained.tail.stdout.as_bytes(), b"xxend");
        assert_eq!(drained.tail.stdout_dropped_bytes, 999_998);
        assert_eq!(
            (drained.tail.stderr.as_bytes(), drained.tail.stderr_dropped_bytes),
            (&b"oh"[..], 0)
        );
        assert!(!drained.held_open);
    }

    #[test]
    fn a_pipe_that_stays_open_is_left_after_the_grace() {
        let mut kept = None;
        let drained = drained(
            |mut out, err| {
                out.write_all(b"said").unwrap();
                kept = Some((out, err));
            },
            100,
        );
        assert!(drained.held_open);
        assert_eq!(drained.tail.stdout.as_bytes(), b"said");
    }
}
