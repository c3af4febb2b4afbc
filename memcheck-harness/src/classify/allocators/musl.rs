//! musl's mallocng: every group of allocations with a mapping of its own, by the allocator's own list of them
//! (src/malloc/mallocng/meta.h of musl 1.2.1 and later). Found without symbols: the context and each page of its list hold the
//! same secret. Without that structure (the simple allocator of small static programs) nothing is claimed.

use std::collections::BTreeSet;

use crate::model::{Allocator, Name, Role};

use super::super::interval::{Claims, Priority, certain, likely};
use super::super::process::Process;

/// From the context's secret to its `meta_area_head`.
const AREA_HEAD: u64 = 56;

/// Bytes of a `meta_area`, of the part before its slots, and of a slot.
const AREA: u64 = 4096;
const SLOTS: u64 = 24;
const SLOT: u64 = 40;

/// Most pages of slots followed: 400 000 groups.
const MAX_AREAS: usize = 1 << 12;

/// Claims the groups, and the brk heap where the list of them lies.
pub(super) fn claim(process: &Process<'_>, claims: &mut Claims) {
    let Some((head, secret)) = context(process) else { return };
    let role = Role::Allocator(Allocator::Musl);
    let heap = claims.item(role, Name::default(), None);
    for area in &process.areas {
        if area.region.name.as_bytes() == b"[heap]" {
            let why = "the brk heap, where musl keeps the list of its allocations";
            claims.add((area.start, area.end), Priority::Chunk, heap, likely(why));
        }
    }
    let mut seen = BTreeSet::new();
    let mut at = head;
    while at != 0 && seen.len() < MAX_AREAS && seen.insert(at) {
        let Some([check, next, slots]) = process.words::<3>(at) else {
            return;
        };
        if check != secret {
            return;
        }
        for slot in 0..(slots & 0xffff_ffff).min((AREA - SLOTS) / SLOT) {
            let meta = at + SLOTS + slot * SLOT;
            let Some([_, _, group, _, bits]) = process.words::<5>(meta) else {
                continue;
            };
            // A group that is in use points back at its slot; one without pages lies inside another's.
            let pages = bits >> 12;
            let end = pages.checked_mul(4096).and_then(|bytes| group.checked_add(bytes));
            if let Some(end) = end
                && pages > 0
                && process.u64(group) == Some(meta)
                && process.covered(group, end, |area| area.plain_memory())
            {
                let item = claims.item(role, Name::default(), None);
                claims.add(
                    (group, end),
                    Priority::Chunk,
                    item,
                    certain("on the list of groups of musl's malloc"),
                );
            }
        }
        at = next;
    }
}

/// The first page of slots, and the secret in it and in the context in libc's data.
fn context(process: &Process<'_>) -> Option<(u64, u64)> {
    for area in &process.areas {
        let region = area.region;
        let of_object = process.capture.objects.iter().any(|object| {
            let near = object.bias.max(1) <= area.start && area.start - object.bias.min(area.start) < 1 << 30;
            (region.inode != 0 && (object.dev, object.inode) == (region.dev, region.inode))
                || (region.inode == 0 && region.name.is_empty() && near)
        });
        if !(of_object && region.perms.write && !region.perms.shared && area.size() <= 16 << 20) {
            continue;
        }
        let pointers = process.search(area.start, area.end, |_, word| word != 0 && word.is_multiple_of(AREA));
        for at in pointers {
            let Some(page) = process.u64(at) else { continue };
            let secret = at.checked_sub(AREA_HEAD).and_then(|start| process.u64(start));
            if let Some(secret) = secret.filter(|secret| *secret != 0)
                && process.u64(page) == Some(secret)
            {
                return Some((page, secret));
            }
        }
    }
    None
}
