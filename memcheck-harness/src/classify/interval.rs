//! `Claims`: who says that a range is what, and how strongly; and the cut of the regions by the strongest claims.
//! It decides nothing about roles itself.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::{Confidence, Evidence, Item, Name, Role};

use super::process::Process;

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

/// A range of one area with its role.
pub(super) struct Cut {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Index into the process's areas.
    pub(super) area: usize,
    pub(super) role: Role,
    /// Index into the final items.
    pub(super) item: usize,
    pub(super) evidence: Evidence,
}

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
    /// Makes room for one thing and one range of each region.
    pub(super) fn reserve(&mut self, regions: usize) {
        self.claims.reserve(regions);
        self.items.reserve(regions);
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
/// numbered by address.
pub(super) fn cut(process: &Process<'_>, claims: Claims) -> (Vec<Cut>, Vec<Item>) {
    let Claims { mut claims, mut items } = claims;
    claims.sort_by_key(|claim| claim.start);
    let mut pending = claims.iter().enumerate().peekable();
    // The strongest claim that began is on top; those that ended below it stay until they come up.
    let mut active: BinaryHeap<(Priority, u64, Reverse<u64>, usize)> = BinaryHeap::new();
    // (start, end, area, claim)
    let mut ranges: Vec<(u64, u64, usize, Option<usize>)> = Vec::with_capacity(process.areas.len());
    for (area_index, area) in process.areas.iter().enumerate() {
        let mut at = area.start;
        while at < area.end {
            while let Some((index, claim)) = pending.next_if(|(_, claim)| claim.start <= at) {
                active.push((claim.priority, claim.start, Reverse(claim.end), index));
            }
            while active.peek().is_some_and(|(_, _, end, _)| end.0 <= at) {
                active.pop();
            }
            let best = active.peek().map(|(_, _, end, index)| (end.0, *index));
            let next_claim = pending.peek().map_or(u64::MAX, |(_, claim)| claim.start);
            let until = area.end.min(next_claim).min(best.map_or(u64::MAX, |(end, _)| end));
            let claim = best.map(|(_, index)| index);
            match ranges.last_mut() {
                Some(last) if last.2 == area_index && last.3 == claim => last.1 = until,
                _ => ranges.push((at, until, area_index, claim)),
            }
            at = until;
        }
    }

    let mut kept: Vec<Item> = Vec::with_capacity(items.len());
    let mut numbers: Vec<Option<usize>> = vec![None; items.len()];
    let mut cuts = Vec::with_capacity(ranges.len());
    for (start, end, area, claim) in ranges {
        let known = claim
            .and_then(|index| claims.get(index))
            .and_then(|claim| Some((claim, items.get_mut(claim.item.0)?)));
        let (role, item, evidence) = match known {
            Some((claim, item)) => {
                let number = numbers.get(claim.item.0).copied().flatten().unwrap_or(kept.len());
                if number == kept.len() {
                    let subject = std::mem::take(&mut item.subject);
                    kept.push(Item { subject, ..*item });
                    if let Some(known) = numbers.get_mut(claim.item.0) {
                        *known = Some(number);
                    }
                }
                (item.role, number, claim.evidence.clone())
            }
            None => {
                kept.push(Item {
                    role: Role::Unclassified,
                    subject: Name::default(),
                    tid: None,
                });
                let text = Cow::Borrowed("nobody knows");
                (
                    Role::Unclassified,
                    kept.len() - 1,
                    Evidence {
                        text,
                        confidence: Confidence::Unknown,
                    },
                )
            }
        };
        cuts.push(Cut {
            start,
            end,
            area,
            role,
            item,
            evidence,
        });
    }
    (cuts, kept)
}
