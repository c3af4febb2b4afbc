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

/// As many claims as are put in order one by one.
const FEW: usize = 64;

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
/// numbered by address. `floor`: what memory of an area is that nobody claims. `measure`: gets each area with its pieces, whose
/// figures are not known yet.
pub(super) fn cut(process: &Process<'_>, claims: Claims, floor: Floor, mut measure: impl FnMut(&Area<'_>, &mut [Piece])) -> Cuts {
    let Claims { claims, items } = claims;
    let order = in_order(&claims);
    let mut next = 0;
    // The strongest claim that began is on top; those that ended below it stay until they come up.
    let mut active: BinaryHeap<(Priority, u64, Reverse<u64>, usize)> = BinaryHeap::new();
    let mut keeper = Keeper::new(floor, items, process.areas.len() + claims.len());
    let starts = |next: usize| order.get(next).map_or(u64::MAX, |(start, _)| *start);
    let claim = |next: usize| order.get(next).and_then(|(_, index)| Some((*index, claims.get(*index)?)));
    for area in &process.areas {
        let first = keeper.pieces.len();
        while active.peek().is_some_and(|(_, _, end, _)| end.0 <= area.start) {
            active.pop();
        }
        let whole = (area.start, area.end);
        let alone = claim(next).filter(|(_, claim)| (claim.start, claim.end) == whole && starts(next + 1) >= area.end);
        // Nearly all: nobody claims it, or one claim is of the whole area.
        if active.is_empty() && starts(next) >= area.end {
            keeper.cut(whole, area, None);
        } else if active.is_empty()
            && let Some((_, claim)) = alone
        {
            keeper.cut(whole, area, Some(claim));
            next += 1;
        } else {
            let mut at = area.start;
            let mut before = None;
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
                match keeper.pieces.last_mut() {
                    Some(last) if before == Some(index) => last.end = until,
                    _ => keeper.cut((at, until), area, index.and_then(|index| claims.get(index))),
                }
                before = Some(index);
                at = until;
            }
        }
        measure(area, keeper.pieces.get_mut(first..).unwrap_or_default());
    }
    Cuts {
        pieces: keeper.pieces,
        items: keeper.kept,
    }
}

/// Where the claims begin, and their indices: in order. Those of a small process are few and nearly so.
fn in_order(claims: &[Claim]) -> Vec<(u64, usize)> {
    let mut order: Vec<(u64, usize)> = Vec::with_capacity(claims.len());
    if claims.len() > FEW {
        order.extend(claims.iter().map(|claim| claim.start).zip(0..));
        order.sort_unstable();
        return order;
    }
    for (index, claim) in claims.iter().enumerate() {
        let behind = order.iter().rev().take_while(|(start, _)| *start > claim.start).count();
        order.insert(order.len() - behind, (claim.start, index));
    }
    order
}

/// Cuts ranges, and numbers the items that they are cut for.
struct Keeper {
    floor: Floor,
    items: Vec<Item>,
    /// By the index of an item.
    numbers: Vec<Option<usize>>,
    /// The first address of an area, and the number of the item that is its floor.
    last: Option<(u64, usize)>,
    pieces: Vec<Piece>,
    kept: Vec<Item>,
}

impl Keeper {
    fn new(floor: Floor, items: Vec<Item>, likely: usize) -> Self {
        // One for each area, and for what cuts one: a large one that grew would be copied.
        Self {
            floor,
            numbers: vec![None; items.len()],
            items,
            last: None,
            pieces: Vec::with_capacity(likely),
            kept: Vec::with_capacity(likely),
        }
    }

    /// A range of an area, for a claim or for none.
    fn cut(&mut self, (start, end): (u64, u64), area: &Area<'_>, claim: Option<&Claim>) {
        let known = claim.and_then(|claim| {
            let ItemId(index) = claim.item;
            Some((claim, self.items.get_mut(index)?, self.numbers.get_mut(index)?))
        });
        let (role, item, evidence) = match known {
            Some((claim, item, number)) => {
                let number = *number.get_or_insert_with(|| {
                    let subject = std::mem::take(&mut item.subject);
                    self.kept.push(Item { subject, ..*item });
                    self.kept.len() - 1
                });
                (item.role, number, claim.evidence.clone())
            }
            None => {
                let (role, subject, evidence) = (self.floor)(area);
                let number = match self.last {
                    Some((last, number)) if last == area.start => number,
                    _ => {
                        let tid = None;
                        self.kept.push(Item { role, subject, tid });
                        self.kept.len() - 1
                    }
                };
                self.last = Some((area.start, number));
                (role, number, evidence)
            }
        };
        let flags = area.region.flags.as_ref();
        self.pieces.push(Piece {
            start,
            end,
            role,
            item,
            perms: area.region.perms,
            resident_bytes: None,
            anon_bytes: None,
            swap_bytes: None,
            proportional_bytes: None,
            committed: flags.map(|flags| flags.has(b"ac")),
            noreserve: flags.map(|flags| flags.has(b"nr")),
            evidence,
        });
    }
}
