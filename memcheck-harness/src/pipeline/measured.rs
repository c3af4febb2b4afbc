//! What one launch of a case gave, whether it was run now or is recorded.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use super::kept;
use crate::model::{Case, CaseReport, CheckpointSpec, KeptCapture, MemoryMap, Problem, Series, Snapshot};
use crate::trace::Ended;
use crate::{budget, normalize};

/// What one launch of a case gave.
pub(crate) struct Measured {
    /// The checkpoints that were reached, in order.
    pub(super) reached: Vec<usize>,
    /// Their memory (by index: those of the case, then `children`), but for rounds of a long series: of these [`Measured::series`] alone tells.
    pub(super) maps: Vec<(usize, MemoryMap)>,
    /// Further checkpoints that this launch had: the ends of its children.
    pub(super) children: Vec<CheckpointSpec>,
    /// What each map was made of.
    pub(super) captures: Vec<KeptCapture>,
    /// What was read round by round.
    pub(super) series: Vec<Series>,
    pub(super) ended: Option<Ended>,
    pub(super) problem: Option<Problem>,
    pub(super) notes: Vec<String>,
    pub(super) duration: Duration,
    /// False when address-space randomisation is on: then the main stack's size differs from run to run.
    pub(super) main_stack_is_fixed: bool,
    /// Its states, once somebody asked for them.
    states: OnceCell<Snapshot>,
}

impl Measured {
    pub(super) fn failed(problem: Problem) -> Self {
        Self {
            problem: Some(problem),
            ..Self::nothing()
        }
    }

    pub(super) fn nothing() -> Self {
        Self {
            reached: Vec::new(),
            maps: Vec::new(),
            children: Vec::new(),
            captures: Vec::new(),
            series: Vec::new(),
            ended: None,
            problem: None,
            notes: Vec::new(),
            duration: Duration::ZERO,
            main_stack_is_fixed: false,
            states: OnceCell::new(),
        }
    }

    /// What a recorded launch of `spec` gave.
    pub(crate) fn recorded(
        spec: &Case,
        maps: Vec<(usize, MemoryMap)>,
        children: Vec<CheckpointSpec>,
        problem: Option<Problem>,
        case: &CaseReport,
    ) -> Self {
        let mut series = case.series.clone();
        budget::find_growth(spec, &mut series, page_bytes(&maps));
        Self {
            reached: maps.iter().map(|(index, _)| *index).collect(),
            maps,
            children,
            captures: Vec::new(),
            series,
            ended: None,
            problem,
            notes: case.notes.clone(),
            duration: case.duration,
            main_stack_is_fixed: kept::main_stack_is_fixed(&case.settings),
            states: OnceCell::new(),
        }
    }

    /// The case as it was in this launch: with a checkpoint for the end of each child that was captured.
    pub(super) fn of<'c>(&self, case: &'c Case) -> Cow<'c, Case> {
        if self.children.is_empty() {
            return Cow::Borrowed(case);
        }
        let mut whole = case.clone();
        whole.checkpoints.extend(self.children.iter().cloned());
        Cow::Owned(whole)
    }

    /// Its states. To be asked for when it is whole: they are put together once.
    pub(super) fn snapshot(&self, case: &Case) -> &Snapshot {
        self.states.get_or_init(|| self.states_of(case))
    }

    /// As `snapshot`, for good: whoever asks again has them put together again.
    pub(super) fn take_snapshot(&mut self, case: &Case) -> Snapshot {
        match self.states.take() {
            Some(states) => states,
            None => self.states_of(case),
        }
    }

    fn states_of(&self, case: &Case) -> Snapshot {
        normalize::snapshot(&self.of(case), &self.by_index(), self.main_stack_is_fixed)
    }

    /// The memory could not be read: what is known is no base for a snapshot.
    pub(super) fn is_by_mappings(&self) -> bool {
        self.maps.iter().any(|(_, map)| map.by_mappings)
    }

    pub(super) fn by_index(&self) -> Vec<(usize, &MemoryMap)> {
        self.maps.iter().map(|(index, map)| (*index, map)).collect()
    }
}

pub(super) fn page_bytes(maps: &[(usize, MemoryMap)]) -> u64 {
    maps.last().map_or(4096, |(_, map)| map.page_bytes)
}
