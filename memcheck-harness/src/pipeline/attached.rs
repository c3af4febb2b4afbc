//! One running process, as it is: attach → capture → classify, then it goes on.

use std::time::{Duration, Instant};

use crate::capture::{self, ObjectCache};
use crate::error::Result;
use crate::model::{Cancel, Case, CaseReport, CheckpointReport, MemoryMap, OutputTail, Plan, Target};
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
        name: case.name.clone(),
        package: None,
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
        problem: None,
        end: None,
        output: OutputTail::default(),
        settings: Vec::new(),
        notes,
        series: Vec::new(),
        scaling: Vec::new(),
        on_line: Vec::new(),
        elf: Vec::new(),
    })
}
