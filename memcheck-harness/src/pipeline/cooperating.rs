//! The walk from checkpoint to checkpoint of a target that stops at its markers by itself, where nobody may trace.

use super::{Look, Measured, kept, rounds};
use crate::capture::{self, ObjectCache};
use crate::classify;
use crate::ending;
use crate::error::{Error, Result};
use crate::model::{Cancel, Capture, CaptureLevel, Case, Children, End, Name};
use crate::trace::{self, CooperatingTurn, Ended, Point};

/// What is refused before anything starts: everything passes by name or fails by name.
fn can_be_measured(case: &Case) -> Result<()> {
    let needs_tracing = |what: &str, remedy: &str| {
        Err(Error::config(format!("{what} needs ptrace, and the case is `cooperative`")).detail(remedy.to_owned()))
    };
    if let Some(spec) = case.checkpoints.iter().find(|spec| !trace::can_cooperate(&spec.at)) {
        return Err(Error::config(format!(
            "checkpoint `{}` ({}, {}) needs ptrace, and the case is `cooperative`",
            spec.name, spec.at, spec.place
        ))
        .detail("use a marker: memcheck-probe with its feature `cooperative`, in C memcheck.h with -DMEMCHECK_COOPERATIVE")
        .detail("or measure where ptrace is permitted: cargo memcheck doctor  tells what this machine permits"));
    }
    if let Some(spec) = case.checkpoints.iter().find(|spec| spec.settle.is_some()) {
        let what = format!("`settle` of checkpoint `{}` ({})", spec.name, spec.place);
        return needs_tracing(&what, "remove it, or measure where ptrace is permitted");
    }
    let in_children = case.children == Children::Capture || case.checkpoints.iter().any(|spec| spec.child.is_some());
    if in_children {
        return needs_tracing(
            "measuring children",
            "write children = \"ignore\" and leave their checkpoints out",
        );
    }
    if !case.steps.is_empty() {
        return needs_tracing("`[[case.step]]`", "remove the steps, or measure where ptrace is permitted");
    }
    if case.watch_stacks {
        return needs_tracing("`watch = \"stacks\"`", "remove it, or measure where ptrace is permitted");
    }
    if case.tree {
        return needs_tracing("`tree = true`", "remove it, or measure where ptrace is permitted");
    }
    if case.tty {
        return needs_tracing("`tty = true`", "remove it, or measure where ptrace is permitted");
    }
    if case.detach {
        return needs_tracing("`detach = true`", "remove it: the target is not traced at all");
    }
    Ok(())
}

/// As the walk of a traced target.
pub(super) fn walk(
    case: &Case,
    launch: &trace::Launch,
    points: &[Point],
    own: &(dyn Fn(&Name) -> bool + Sync),
    cancel: &Cancel,
    look: Look<'_>,
    measured: &mut Measured,
) -> Result<Ended> {
    can_be_measured(case)?;
    let mut objects = ObjectCache::default();
    let mut target = trace::cooperate(launch, points, cancel)?;
    loop {
        let index = match target.advance()? {
            CooperatingTurn::Paused(index) => index,
            CooperatingTurn::Ended(end) => return Ok(target.finish(end)),
        };
        let captured = capture::read_cooperating(&target, &mut objects)?;
        let memory = capture::pages_cooperating(&target)?;
        let map = classify::classify(&captured, &memory, own);
        look(measured.reached.last().copied(), index, target.pid(), &map)?;
        measured.reached.push(index);
        rounds::read(case, index, CaptureLevel::Full, &map, &mut measured.series);
        if case.keeps(index) {
            measured.maps.push((index, map));
            let recording = memory.into_recording();
            measured.captures.push(kept::kept(Capture { recording, ..captured }, own));
        }
        if ending::is_complete(case, &measured.reached) && !ending::runs_to_its_end(case) {
            return Ok(target.finish(End::Killed));
        }
    }
}
