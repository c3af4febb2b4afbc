//! `Claims`: who says that a range is what, and how strongly; and the cut of the regions by the strongest claims.
//! It decides nothing about roles itself.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::{Confidence, Evidence, Item, Name, Piece, Role};

use super::process::{Area, Process};

/// Strength of a claim, weakest first. A stack lies inside a chunk or a heap and not the other way round, so it is
/// stronger; what the kernel or a file says of a whole region is weaker than a structure found inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// By elimination.
    Shape,
    /// Inaccessible padding between an object's segments.
    Hole,
    /// By the kernel's name or by an address the kernel records.
    Name,
    /// A program header.
    Segment,
    /// `PT_GNU_RELRO`, part of a segment.
    Relro,
    /// A large allocation.
    Chunk,
    /// An alternate signal stack.
    SignalStack,
    /// The loader's own allocations.
    Loader,
    /// A heap of an arena.
    Arena,
    /// The executable's thread-local storage inside the loader's allocation.
    Tls,
    /// A thread's stack.
    Stack,
    /// A guard of a stack.
    Guard,
}

/// Index of an item before unused ones are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ItemId(usize);

struct Claim {
    start: u64,
    end: u64,
    priority: Priority,
    item: ItemId,
    evidence: Evidence,
}

/// All claims and the items they speak of.
pub(super) struct Claims {
    claims: Vec<Claim>,
    items: Vec<Item>,
}

/// Ranges of the areas with their roles, and the things they belong to.
pub(super) struct Cuts {
    /// Their figures are not known yet.
    pub(super) pieces: Vec<Piece>,
    pub(super) items: Vec<Item>,
}

/// Of memory that nobody claims, the role, the subject of the item, and why.
pub(super) type Floor = fn(&Area<'_>) -> (Role, Name, Evidence);

/// Evidence that follows from a checked structure.
pub(super) fn certain(text: impl Into<Cow<'static, str>>) -> Evidence {
    Evidence {
        text: text.into(),
        confidence: Confidence::Certain,
    }
}

/// Evidence from a shape or by elimination.
pub(super) fn likely(text: impl Into<Cow<'static, str>>) -> Evidence {
    Evidence {
        text: text.into(),
        confidence: Confidence::Likely,
    }
}

impl Claims {
    /// None yet; about as many are expected.
    pub(super) fn new(expected: usize) -> Self {
        Self {
            claims: Vec::with_capacity(expected),
            items: Vec::with_capacity(expected),
        }
    }

    /// A new thing that ranges can belong to.
    pub(super) fn item(&mut self, role: Role, subject: Name, tid: Option<i32>) -> ItemId {
        self.items.push(Item { role, subject, tid });
        ItemId(self.items.len() - 1)
    }

    /// Claims a range; an empty one is ignored. Bounds are page addresses: the kernel knows nothing finer.
    pub(super) fn add(&mut self, (start, end): (u64, u64), priority: Priority, item: ItemId, evidence: Evidence) {
        if start < end {
            self.claims.push(Claim {
                start,
                end,
                priority,
                item,
                evidence,
            });
        }
    }

    /// The ranges claimed with one of the priorities, sorted.
    pub(super) fn ranges(&self, wanted: impl Fn(Priority) -> bool) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = self
            .claims
            .iter()
            .filter(|claim| wanted(claim.priority))
            .map(|claim| (claim.start, claim.end))
            .collect();
        ranges.sort_unstable();
        ranges
    }

    /// The ranges claimed for a role, sorted.
    pub(super) fn ranges_of(&self, role: Role) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = self
            .claims
            .iter()
            .filter(|claim| self.items.get(claim.item.0).is_some_and(|item| item.role == role))
            .map(|claim| (claim.start, claim.end))
            .collect();
        ranges.sort_unstable();
        ranges
    }
}

/// Cuts every area by the strongest claim at each address: each byte of each area is in exactly one cut. Among equally
/// strong claims the one that begins later, then the shorter one, wins. Items nobody kept are dropped; the others are
/// numbered by address. `floor`: what memory of an area is that nobody claims.
pub(super) fn cut(process: &Process<'_>, claims: Claims, floor: Floor) -> Cuts {
    let Claims { claims, items } = claims;
    let mut order: Vec<(u64, usize)> = claims.iter().map(|claim| claim.start).zip(0..).collect();
    order.sort_unstable();
    let mut next = 0;
    // The strongest claim that began is on top; those that ended below it stay until they come up.
    let mut active: BinaryHeap<(Priority, u64, Reverse<u64>, usize)> = BinaryHeap::new();
    let mut keeper = Keeper::new(floor, items, process.areas.len() + claims.len());
    let starts = |next: usize| order.get(next).map_or(u64::MAX, |(start, _)| *start);
    let claim = |next: usize| order.get(next).and_then(|(_, index)| Some((*index, claims.get(*index)?)));
    for area in &process.areas {
        let whole = (area.start, area.end);
        while active.peek().is_some_and(|(_, _, end, _)| end.0 <= area.start) {
            active.pop();
        }
        // Nearly all: nobody claims it, or one claim is of the whole area.
        if active.is_empty() {
            if starts(next) >= area.end {
                keeper.unclaimed(whole, area, &mut None);
                continue;
            }
            if let Some((_, claim)) = claim(next)
                && (claim.start, claim.end) == whole
                && starts(next + 1) >= area.end
            {
                keeper.claimed(whole, area, claim);
                next += 1;
                continue;
            }
        }
        let mut at = area.start;
        let mut before = None;
        let mut floor_item = None;
        while at < area.end {
            while let Some((index, claim)) = claim(next).filter(|(_, claim)| claim.start <= at) {
                active.push((claim.priority, claim.start, Reverse(claim.end), index));
                next += 1;
            }
            while active.peek().is_some_and(|(_, _, end, _)| end.0 <= at) {
                active.pop();
            }
            let best = active.peek().map(|(_, _, end, index)| (end.0, *index));
            let until = area.end.min(starts(next)).min(best.map_or(u64::MAX, |(end, _)| end));
            let index = best.map(|(_, index)| index);
            match (keeper.cuts.pieces.last_mut(), index.and_then(|index| claims.get(index))) {
                (Some(last), _) if before == Some(index) => last.end = until,
                (_, Some(claim)) => keeper.claimed((at, until), area, claim),
                (_, None) => keeper.unclaimed((at, until), area, &mut floor_item),
            }
            before = Some(index);
            at = until;
        }
    }
    keeper.cuts
}

/// Cuts ranges, and numbers the items that they are cut for.
struct Keeper {
    floor: Floor,
    items: Vec<Item>,
    /// By the index of an item.
    numbers: Vec<Option<usize>>,
    cuts: Cuts,
}

impl Keeper {
    fn new(floor: Floor, items: Vec<Item>, likely: usize) -> Self {
        // One for each area, and for what cuts one: a large one that grew would be copied.
        Self {
            floor,
            numbers: vec![None; items.len()],
            items,
            cuts: Cuts {
                pieces: Vec::with_capacity(likely),
                items: Vec::with_capacity(likely),
            },
        }
    }

    /// A range of an area, for a claim.
    fn claimed(&mut self, range: (u64, u64), area: &Area<'_>, claim: &Claim) {
        let ItemId(index) = claim.item;
        let (Some(item), Some(number)) = (self.items.get_mut(index), self.numbers.get_mut(index)) else {
            return;
        };
        let kept = &mut self.cuts.items;
        let number = *number.get_or_insert_with(|| {
            let subject = std::mem::take(&mut item.subject);
            kept.push(Item { subject, ..*item });
            kept.len() - 1
        });
        self.cuts
            .pieces
            .push(piece(range, area, (item.role, number), claim.evidence.clone()));
    }

    /// A range of an area that nobody claims; `item` is that of all such ranges of it.
    fn unclaimed(&mut self, range: (u64, u64), area: &Area<'_>, item: &mut Option<usize>) {
        let (role, subject, evidence) = (self.floor)(area);
        let kept = &mut self.cuts.items;
        let number = *item.get_or_insert_with(|| {
            kept.push(Item {
                role,
                subject,
                tid: None,
            });
            kept.len() - 1
        });
        self.cuts.pieces.push(piece(range, area, (role, number), evidence));
    }
}

fn piece((start, end): (u64, u64), area: &Area<'_>, (role, item): (Role, usize), evidence: Evidence) -> Piece {
    Piece {
        start,
        end,
        role,
        item,
        perms: area.region.perms,
        resident_bytes: None,
        anon_bytes: None,
        swap_bytes: None,
        proportional_bytes: None,
        committed: None,
        noreserve: None,
        evidence,
    }
}
