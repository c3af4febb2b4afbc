//! One running process, as it is: attach → capture → classify, then it goes on.

use std::thread;
use std::time::{Duration, Instant};

use crate::capture::{self, ObjectCache};
use crate::error::Result;
use crate::model::{Cancel, Case, CaseReport, CheckpointReport, MemoryMap, Plan, Target};
use crate::{classify, compare, config, trace};

/// Shows a process that somebody else started, and lets it go on untouched. The plan gives the root below which objects are
/// the program's own. The report has one checkpoint, `pid N`. `look` gets the process id and the map while the process stands
/// still.
///
/// # Errors
/// Those of [`trace::attach`], of reading the process, and of `look`.
pub fn attached(
    plan: &Plan,
    pid: i32,
    timeout: Duration,
    cancel: &Cancel,
    look: &(dyn Fn(i32, &MemoryMap) -> Result<()> + Sync),
) -> Result<CaseReport> {
    // A thread of its own: a thread of the process that sleeps in the kernel can be neither stopped nor let go, and would be held
    // when it wakes. When the thread that attached ends, the kernel lets go what is left (exit_ptrace).
    thread::scope(
        |scope| match scope.spawn(|| stopped(plan, pid, timeout, cancel, look)).join() {
            Ok(report) => report,
            Err(panic) => std::panic::resume_unwind(panic),
        },
    )
}

fn stopped(
    plan: &Plan,
    pid: i32,
    timeout: Duration,
    cancel: &Cancel,
    look: &dyn Fn(i32, &MemoryMap) -> Result<()>,
) -> Result<CaseReport> {
    let start = Instant::now();
    let own = config::ownership(plan)?;
    let attached = trace::attach(pid, timeout, cancel)?;
    let capture = capture::read_attached(&attached, &mut ObjectCache::default())?;
    let memory = capture::memory_attached(&attached)?;
    let map = classify::classify(&capture, &memory, &own);
    look(pid, &map)?;
    let (name, notes) = (attached.name().escaped().into_owned(), attached.notes().to_vec());
    drop(attached);

    let target = capture.exe.escaped().into_owned();
    let case = Case::new(name, &plan.root, Target::Command { program: target.clone() });
    let at = format!("pid {pid}");
    Ok(CaseReport {
        place: case.place.clone(),
        target,
        duration: start.elapsed(),
        checkpoints: vec![CheckpointReport {
            name: at.clone(),
            place: case.place.clone(),
            at,
            child: None,
            map,
            limits: Vec::new(),
            changes: Vec::new(),
            causes: Vec::new(),
            capture: None,
        }],
        checkpoints_planned: 1,
        snapshot: compare::not_compared(plan, &case),
        notes,
        ..CaseReport::named(case.name)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::model::Defaults;

    /// Waits in `vfork` until its child reads a byte; then says so, and ends.
    const SOURCE: &str = "#define _GNU_SOURCE\n#include <stdio.h>\n#include <unistd.h>\nint main(void) {\n    char byte;\n    \
        if (write(1, \"r\", 1) != 1) return 1;\n    if (!vfork()) { _exit(read(0, &byte, 1) != 1); }\n    \
        return write(1, \"d\", 1) != 1;\n}\n";

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test builds and starts its own target")]
    fn a_thread_that_could_not_be_stopped_goes_on_while_we_live() {
        let dir = tempfile::tempdir().unwrap();
        let (source, program) = (dir.path().join("main.c"), dir.path().join("main"));
        std::fs::write(&source, SOURCE).unwrap();
        let built = Command::new("gcc").arg("-o").arg(&program).arg(&source).status().unwrap();
        assert!(built.success());
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut byte).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let sleeps = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") D ");
        while !sleeps() {
            thread::sleep(Duration::from_millis(1));
        }
        let plan = Plan {
            root: dir.path().to_path_buf(),
            file: "memcheck.toml".into(),
            is_cargo: false,
            data_dir: dir.path().join("target"),
            defaults: Defaults::default(),
            cases: Vec::new(),
            cases_in_file: 0,
            partition: None,
        };
        let report = attached(&plan, pid, Duration::from_secs(30), &Cancel::new(), &|_, _| Ok(())).unwrap();
        assert_eq!(report.checkpoints.len(), 1);
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"g").unwrap();
        out.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"d");
        assert!(child.wait().unwrap().success());
    }
}
