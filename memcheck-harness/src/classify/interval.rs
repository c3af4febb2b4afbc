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
    /// By elimination or by access bits.
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
#[derive(Default)]
pub(super) struct Claims {
    claims: Vec<Claim>,
    items: Vec<Item>,
}

/// Ranges of the areas with their roles, and the things they belong to.
pub(super) struct Cuts {
    /// Their figures are not known yet.
    pub(super) pieces: Vec<Piece>,
    /// Of each piece, the index of its area: in order.
    pub(super) areas: Vec<usize>,
    pub(super) items: Vec<Item>,
}

/// The role of memory that nobody claims, and why; absent where that is not known.
pub(super) type Floor = fn(&Area<'_>) -> Option<(Role, Evidence)>;

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
    let Claims { mut claims, items } = claims;
    claims.sort_by_key(|claim| claim.start);
    let mut next = 0;
    // The strongest claim that began is on top; those that ended below it stay until they come up.
    let mut active: BinaryHeap<(Priority, u64, Reverse<u64>, usize)> = BinaryHeap::new();
    let mut keeper = Keeper::new(process, floor, &claims, items);
    let starts = |index: usize| claims.get(index).map_or(u64::MAX, |claim| claim.start);
    for (area_index, area) in process.areas.iter().enumerate() {
        // Nearly all: one claim, of the whole area.
        if active.is_empty()
            && let Some(claim) = claims.get(next)
            && (claim.start, claim.end) == (area.start, area.end)
            && starts(next + 1) >= area.end
        {
            keeper.cut((area.start, area.end), area_index, Some(next));
            next += 1;
            continue;
        }
        let mut at = area.start;
        let mut before = None;
        while at < area.end {
            while let Some(claim) = claims.get(next).filter(|claim| claim.start <= at) {
                active.push((claim.priority, claim.start, Reverse(claim.end), next));
                next += 1;
            }
            while active.peek().is_some_and(|(_, _, end, _)| end.0 <= at) {
                active.pop();
            }
            let best = active.peek().map(|(_, _, end, index)| (end.0, *index));
            let until = area.end.min(starts(next)).min(best.map_or(u64::MAX, |(end, _)| end));
            let claim = best.map(|(_, index)| index);
            match keeper.cuts.pieces.last_mut() {
                Some(last) if before == Some(claim) => last.end = until,
                _ => keeper.cut((at, until), area_index, claim),
            }
            before = Some(claim);
            at = until;
        }
    }
    keeper.cuts
}

/// Cuts ranges, and numbers the items that they are cut for.
struct Keeper<'c> {
    process: &'c Process<'c>,
    floor: Floor,
    claims: &'c [Claim],
    items: Vec<Item>,
    /// By the index of an item.
    numbers: Vec<Option<usize>>,
    /// An area, and the number of the item that is its floor.
    last: Option<(usize, usize)>,
    cuts: Cuts,
}

impl<'c> Keeper<'c> {
    fn new(process: &'c Process<'c>, floor: Floor, claims: &'c [Claim], items: Vec<Item>) -> Self {
        // One for each area, and for what cuts one: a large one that grew would be copied.
        let likely = process.areas.len() + claims.len();
        Self {
            process,
            floor,
            claims,
            last: None,
            numbers: vec![None; items.len()],
            cuts: Cuts {
                pieces: Vec::with_capacity(likely),
                areas: Vec::with_capacity(likely),
                items: Vec::with_capacity(likely),
            },
            items,
        }
    }

    /// A range of an area, for a claim or for none.
    fn cut(&mut self, (start, end): (u64, u64), area: usize, claim: Option<usize>) {
        let kept = &mut self.cuts.items;
        let at = self.process.areas.get(area);
        let known = claim.and_then(|index| self.claims.get(index));
        let known = known.and_then(|claim| Some((claim, self.items.get_mut(claim.item.0)?)));
        let (role, item, evidence) = match known {
            Some((claim, item)) => {
                let number = self.numbers.get(claim.item.0).copied().flatten().unwrap_or(kept.len());
                if number == kept.len() {
                    let subject = std::mem::take(&mut item.subject);
                    kept.push(Item { subject, ..*item });
                    if let Some(known) = self.numbers.get_mut(claim.item.0) {
                        *known = Some(number);
                    }
                }
                (item.role, number, claim.evidence.clone())
            }
            None => {
                let unknown = || {
                    let text = Cow::Borrowed("nobody knows");
                    let confidence = Confidence::Unknown;
                    (Role::Unclassified, Evidence { text, confidence })
                };
                let (role, evidence) = at.and_then(self.floor).unwrap_or_else(unknown);
                let number = match self.last {
                    Some((last, number)) if last == area => number,
                    _ => {
                        let subject = Name::default();
                        kept.push(Item {
                            role,
                            subject,
                            tid: None,
                        });
                        kept.len() - 1
                    }
                };
                self.last = Some((area, number));
                (role, number, evidence)
            }
        };
        self.cuts.areas.push(area);
        self.cuts.pieces.push(Piece {
            start,
            end,
            role,
            item,
            perms: at.map(|area| area.region.perms).unwrap_or_default(),
            resident_bytes: None,
            anon_bytes: None,
            swap_bytes: None,
            proportional_bytes: None,
            committed: None,
            noreserve: None,
            evidence,
        });
    }
}
