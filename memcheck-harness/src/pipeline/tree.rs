//! A case and the processes of its target: which points are in which, the checkpoints that the ends of children are, and one
//! order for what came as it came.

use super::Measured;
use crate::error::{Error, Result};
use crate::model::{At, Case, CheckpointSpec, ChildName, Children};
use crate::trace::{Point, Within};

/// The points of a case, in the order of its checkpoints; the last is the end of every child where those are captured.
pub(super) fn points(case: &Case) -> Vec<Point> {
    let point = |(index, spec): (usize, &CheckpointSpec)| Point {
        hardware: spec.hardware,
        after: index.checked_sub(1).filter(|_| spec.in_turn),
        settle: spec.settle,
        within: spec.child.clone().map_or(Within::Main, Within::Child),
        ..Point::new(spec.at.clone(), spec.hit)
    };
    let mut points: Vec<Point> = case.checkpoints.iter().enumerate().map(point).collect();
    if case.children == Children::Capture {
        points.push(Point {
            within: Within::EveryChild,
            ..Point::new(At::Exit, 1)
        });
    }
    points
}

/// The checkpoint that the end of a child is: called as the child is, with the limits of the case.
pub(super) fn end_of_child(case: &Case, child: Option<ChildName>) -> Result<CheckpointSpec> {
    let child = child.ok_or_else(|| Error::tool("a child without a name has ended"))?;
    let name = child.to_string();
    if case.checkpoints.iter().any(|spec| spec.name == name) {
        return Err(
            Error::not_judged(format!("checkpoint `{name}` has the name of a child of the target"))
                .detail("children = \"capture\" makes a checkpoint of that name: rename yours"),
        );
    }
    Ok(end_spec(case, name, Some(child)))
}

/// A checkpoint at the end of a child, of that name.
pub(crate) fn end_spec(case: &Case, name: String, child: Option<ChildName>) -> CheckpointSpec {
    CheckpointSpec {
        place: case.place.clone(),
        child,
        limits: case.child_limits.clone(),
        ..CheckpointSpec::new(name, At::Exit)
    }
}

/// The last checkpoint that was reached in the process of the one with this index.
pub(super) fn last_of_process(case: &Case, reached: &[usize], index: usize) -> Option<usize> {
    let process = |index: usize| case.checkpoints.get(index).map(|spec| spec.child.as_ref());
    let mut reached = reached.iter().rev().copied();
    reached.find(|other| process(*other) == process(index))
}

/// Processes run at the same time: what they reached is put in the order of the case, children that ended in that of their
/// birth. A case without checkpoints in children is left as it was walked.
pub(super) fn put_in_order(case: &Case, measured: &mut Measured) {
    if matches!(case.children, Children::Ignore | Children::Detach) {
        return;
    }
    let planned = case.checkpoints.len();
    let mut children: Vec<(usize, CheckpointSpec)> = std::mem::take(&mut measured.children).into_iter().enumerate().collect();
    children.sort_by(|(_, one), (_, other)| {
        let order = |spec: &CheckpointSpec| spec.child.as_ref().map(|child| (child.path().to_vec(), spec.name.clone()));
        order(one).cmp(&order(other))
    });
    let place = |index: usize| match index.checked_sub(planned) {
        None => index,
        Some(was) => planned + children.iter().position(|(old, _)| *old == was).unwrap_or(was),
    };
    for (index, _) in &mut measured.maps {
        *index = place(*index);
    }
    let maps = std::mem::take(&mut measured.maps);
    let captures = std::mem::take(&mut measured.captures);
    // The last map may be without its capture, where reading stopped.
    let mut both: Vec<_> = maps
        .into_iter()
        .zip(captures.into_iter().map(Some).chain(std::iter::repeat_with(|| None)))
        .collect();
    both.sort_by_key(|((index, _), _)| *index);
    for (map, capture) in both {
        measured.maps.push(map);
        measured.captures.extend(capture);
    }
    measured.children = children.into_iter().map(|(_, spec)| spec).collect();
}
