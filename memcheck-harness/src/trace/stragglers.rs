//! What is left of a target that nobody traced: processes that still have its pipe for names open. Each that the
//! target made has inherited it, whatever its group, session or parent is by now, unless it has closed all it was given.

use std::collections::BTreeSet;
use std::fs;
use std::io::PipeReader;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::model::Name;
use crate::sys::names::SIGKILL;
use crate::sys::process;

use super::proc;

/// How long killed processes are waited for; only one that hangs in the kernel takes as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A process may make another one while it is looked for.
const LOOKS: u32 = 20;

/// `O_ACCMODE` and `O_WRONLY` (open(2)).
const ACCESS: u32 = 3;
const WRITE_ONLY: u32 = 1;

/// Processes beside the target's own, with their names.
pub(super) fn beside(names: &PipeReader, main: i32) -> Vec<(i32, Name)> {
    let others = pipe(names).map(|pipe| holders(&pipe)).unwrap_or_default().into_iter();
    others
        .filter(|pid| *pid != main)
        .filter_map(|pid| Some((pid, proc::name(pid, pid)?)))
        .collect()
}

/// Kills whatever holds the pipe, except for us; gives a remark for each that could not be killed.
pub(super) fn kill(names: &PipeReader) -> Vec<String> {
    let Some(pipe) = pipe(names) else {
        return Vec::new();
    };
    let give_up = Instant::now() + PATIENCE;
    let (mut notes, mut spared) = (Vec::new(), BTreeSet::new());
    for _ in 0..LOOKS {
        let left: Vec<i32> = holders(&pipe).into_iter().filter(|pid| !spared.contains(pid)).collect();
        if left.is_empty() {
            break;
        }
        for pid in left {
            let held = process::hold(pid);
            // The id is looked at again now that it cannot be given to another process.
            if held.is_ok() && !holds(pid, &pipe) {
                continue;
            }
            let left = give_up.saturating_duration_since(Instant::now()).as_millis();
            let why = match held.and_then(|held| held.kill(SIGKILL).map(|()| held)) {
                Ok(held) if held.ends_within(i32::try_from(left).unwrap_or(0)) => continue,
                Ok(_) => "it hangs in the kernel".to_owned(),
                Err(error) => error.to_string(),
            };
            spared.insert(pid);
            if proc::kin(pid).is_some() {
                notes.push(format!("process {pid} could not be killed: {why}"));
            }
        }
    }
    notes
}

fn pipe(names: &PipeReader) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", names.as_raw_fd())).ok()
}

/// Who holds the pipe.
fn holders(pipe: &Path) -> Vec<i32> {
    let ours = std::process::id().cast_signed();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != ours && holds(*pid, pipe)).collect()
}

/// True for a process with the pipe open. A child of ours that has not become its program yet has a copy of all we have open,
/// the reading end among it; but whoever has the writing end can open the reading one, so only what still is our program is spared.
fn holds(pid: i32, pipe: &Path) -> bool {
    let (mut has, mut is_ours) = (false, None);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|link| link == pipe) {
            // Before the next look: the program that it becomes has lost that descriptor.
            let is_ours = *is_ours.get_or_insert_with(|| runs_our_program(pid));
            match access(pid, &entry.file_name().to_string_lossy()) {
                None => {}
                Some(access) if access != WRITE_ONLY && is_ours => return false,
                Some(_) => has = true,
            }
        }
    }
    has
}

/// True when the file of a process' program is that of ours (proc_pid_exe(5)).
fn runs_our_program(pid: i32) -> bool {
    let file = |process: &str| fs::metadata(format!("/proc/{process}/exe")).map(|found| (found.dev(), found.ino()));
    file("self").is_ok_and(|ours| file(&pid.to_string()).is_ok_and(|other| other == ours))
}

/// How a file is open: the line `flags` of `/proc/PID/fdinfo/FD` is octal (proc_pid_fdinfo(5)).
fn access(pid: i32, descriptor: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & ACCESS)
}
