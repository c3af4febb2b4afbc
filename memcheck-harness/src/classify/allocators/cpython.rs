//! CPython's object arenas, by the headers of the pools inside (`struct pool_header`, Include/internal/pycore_obmalloc.h).

use crate::model::{Allocator, Name, Role};

use super::super::interval::{Claims, Priority, certain};
use super::super::process::{Area, Process};

/// (bytes of a pool, bytes of an arena): 3.10 and later, before.
const SIZES: [(u64, u64); 2] = [(16 << 10, 1 << 20), (4 << 10, 256 << 10)];

/// Most places looked at in all.
const MAX_PROBES: usize = 1 << 16;

/// Claims the arenas in unnamed private memory.
pub(super) fn claim(process: &Process<'_>, claims: &mut Claims) {
    let mut probes = MAX_PROBES;
    let mut ends: Vec<u64> = claims
        .ranges(|priority| priority >= Priority::Chunk)
        .into_iter()
        .map(|(_, end)| end)
        .collect();
    ends.sort_unstable();
    for (pool, arena) in SIZES {
        let mut found = false;
        for area in process
            .areas
            .iter()
            .filter(|area| area.plain_memory() && area.region.name.is_empty())
        {
            for range in arenas(process, area, (pool, arena), &ends, &mut probes) {
                found = true;
                let item = claims.item(Role::Allocator(Allocator::CPython), Name::default(), None);
                claims.add(
                    range,
                    Priority::Chunk,
                    item,
                    certain("holds pools of CPython's object allocator"),
                );
            }
        }
        if found {
            return;
        }
    }
}

/// Ranges of arenas in an area. Pools are handed out upwards, so the first one found of an arena is its first; the arena may
/// begin up to a pool earlier, where its mapping does: where something else ends. `ends`: of what is known, sorted.
fn arenas(
    process: &Process<'_>,
    area: &Area<'_>,
    (pool, arena): (u64, u64),
    ends: &[u64],
    probes: &mut usize,
) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = area.start.next_multiple_of(pool);
    let mut free = area.start;
    while at < area.end && *probes > 0 {
        *probes -= 1;
        if is_pool(process, at, pool) {
            let known = ends[..ends.partition_point(|end| *end <= at)].last();
            let free_from = known.map_or(free, |end| free.max(*end));
            let start = if at - free_from < pool { free_from } else { at };
            let end = area.end.min(start.saturating_add(arena));
            found.push((start, end));
            free = end;
            at = end.next_multiple_of(pool);
        } else {
            let Some(next) = at.checked_add(pool) else { break };
            at = next;
        }
    }
    found
}

/// Words of a pool's header: count of used blocks, free block, two neighbours, (arena index, size class), (next, last offset).
fn is_pool(process: &Process<'_>, at: u64, pool: u64) -> bool {
    let Some([count, free, _, _, classes, offsets]) = process.words::<6>(at) else {
        return false;
    };
    let (class, next, last) = (classes >> 32, offsets & 0xffff_ffff, offsets >> 32);
    let block = (class + 1) * 16;
    class < 32
        && (count & 0xffff_ffff) <= pool / 16
        && (free == 0 || (at..at + pool).contains(&free))
        && last == pool - block
        && next >= 48
        && next <= last + block
        && (next - 48) % block == 0
}
