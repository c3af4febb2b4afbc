//! glibc's malloc from the inside: what each arena's chunks are, which threads use it, and the allocator's own books that
//! prove it. Claims no range; where a book does not balance the figures are marked as in doubt, with the reason.

mod attached;
mod books;
mod lists;
mod state;
mod walk;

use crate::model::{ArenaFact, ArenaUse, MallocFact};

use super::process::Process;
use super::threads::Found;
use attached::Addresses;
use state::State;
use walk::{Marks, Sums};

/// glibc's malloc is in the process, by its main arena.
pub(super) fn is_here(process: &Process<'_>) -> bool {
    state::find(process, &[]).is_some()
}

/// Fills in what is known of the secondary arenas, and returns the main one with malloc's books; `None` when it is not found.
/// `walks`: what their chunks are, too.
pub(super) fn examine(process: &Process<'_>, found: &Found<'_>, arenas: &mut [ArenaFact], walks: bool) -> Option<MallocFact> {
    let sizes: Vec<(u64, u64)> = arenas
        .iter()
        .map(|arena| (arena.address, heap_bytes(arena).unwrap_or(0)))
        .collect();
    let Some(states) = state::find(process, &sizes) else {
        for arena in arenas.iter_mut() {
            arena.doubt = Some("the main arena of malloc was not found".to_owned());
        }
        // No brk heap: whatever the main arena is, it has nothing there.
        let empty = arenas.is_empty() && brk_heap(process).is_none();
        return empty.then(|| MallocFact {
            main: ArenaFact {
                usage: Some(ArenaUse::default()),
                ..ArenaFact::default()
            },
            mmapped: None,
            mmapped_is_most: false,
        });
    };
    let base = main_base(process, &states.main);
    let books = books::mmapped(process, &states.main, base);
    let mmapped = books.map(|books| (books.count, books.bytes));
    let mmapped_is_most = books.is_some_and(|books| books.is_most);
    let mut main = ArenaFact {
        address: states.main.address,
        ..ArenaFact::default()
    };

    let addresses = sizes.iter().map(|(address, _)| *address).chain([main.address]);
    let mut left = lists::MAX_ENTRIES;
    let touched = !states.main.is_empty() || !arenas.is_empty();
    let mut attached = if touched {
        let caches = walks.then(|| states.main.has_caches());
        attached::find(process, found, &Addresses::new(addresses), caches, &mut left)
    } else {
        attached::Attached::default()
    };
    let mut marked = std::mem::take(&mut attached.cached);
    let attach = |arena: &mut ArenaFact, state: Option<&State>| {
        // The arena's own count proves that no thread was overlooked; old ones have none.
        let threads = attached.of(arena.address);
        let counted = state.and_then(|state| state.attached);
        arena.threads = (counted == Some(threads.len() as u64)).then_some(threads);
    };
    let by_arena = || states.secondary.iter().map(Option::as_ref).chain([Some(&states.main)]);
    if !walks {
        for (arena, state) in arenas.iter_mut().chain([&mut main]).zip(by_arena()) {
            // One without memory has no chunks.
            let is_empty = state.is_some_and(|state| state.is_main && state.is_empty());
            arena.usage = is_empty.then(ArenaUse::default);
            arena.doubt = (!is_empty).then(|| ArenaFact::NOT_WALKED.to_owned());
            attach(arena, state);
        }
        return Some(MallocFact {
            main,
            mmapped,
            mmapped_is_most,
        });
    }
    let mut common = states.doubt.clone().or_else(|| attached.doubt.clone());
    let all = states.secondary.iter().flatten().chain([&states.main]);
    match lists::fast(process, all, attached.safe, &mut left) {
        Ok(chunks) => marked.extend(chunks),
        Err(why) => {
            common.get_or_insert(why);
        }
    }
    let mut marks = match Marks::new(marked) {
        Some(marks) => marks,
        None => {
            common.get_or_insert_with(|| "a freed chunk is on two lists".to_owned());
            Marks::new(Vec::new())?
        }
    };

    let spans = main_span(process, &states.main, base);
    fill(process, &mut main, Some(&states.main), spans, (&mut marks, &mut left));
    for (arena, state) in arenas.iter_mut().zip(&states.secondary) {
        let spans = state
            .as_ref()
            .ok_or_else(|| "its state cannot be read".to_owned())
            .and_then(|state| heap_spans(arena, state));
        fill(process, arena, state.as_ref(), spans, (&mut marks, &mut left));
    }
    if common.is_none() && !marks.all_found() {
        common = Some("a list of freed chunks leads to something that is no chunk".to_owned());
    }
    for (arena, state) in arenas.iter_mut().chain([&mut main]).zip(by_arena()) {
        if arena.doubt.is_none() && arena.usage != Some(ArenaUse::default()) {
            arena.doubt.clone_from(&common);
        }
        attach(arena, state);
    }
    Some(MallocFact {
        main,
        mmapped,
        mmapped_is_most,
    })
}

/// Spans of memory to walk, and the bytes of the arena that they are part of.
type Spans = Result<(Vec<(u64, u64)>, u64), String>;

fn fill(
    process: &Process<'_>,
    arena: &mut ArenaFact,
    state: Option<&State>,
    spans: Spans,
    (marks, left): (&mut Marks, &mut usize),
) {
    let Some(state) = state else {
        arena.doubt = spans.err();
        return;
    };
    match spans.and_then(|spans| figures(process, state, spans, marks)) {
        Ok((usage, binned)) => {
            arena.usage = Some(usage);
            arena.doubt = match lists::binned(process, state, left) {
                _ if state.locked => Some("its lock is held: a thread was stopped inside malloc".to_owned()),
                Ok(listed) if listed == binned => None,
                Ok(_) => Some("its bins do not hold what its chunks say is free: a thread was stopped inside malloc".to_owned()),
                Err(why) => Some(why),
            };
        }
        Err(_) if state.locked => arena.doubt = Some("its lock is held: a thread was stopped inside malloc".to_owned()),
        Err(why) => arena.doubt = Some(why),
    }
}

/// The walk through all spans: the sums, and what the bins must hold.
fn figures(
    process: &Process<'_>,
    state: &State,
    (spans, bytes): (Vec<(u64, u64)>, u64),
    marks: &mut Marks,
) -> Result<(ArenaUse, (u64, u64)), String> {
    let mut sums = Sums::default();
    for span in spans {
        walk::span(process, span, (state.top, state.is_main), marks, &mut sums)?;
    }
    let mut usage = sums.usage;
    let walked = usage
        .used_bytes
        .saturating_add(usage.free_bytes)
        .saturating_add(usage.top_bytes);
    usage.overhead_bytes = bytes.saturating_sub(walked);
    Ok((usage, sums.binned))
}

/// Σ `heap_info.size`: what the arena must have from the system.
fn heap_bytes(arena: &ArenaFact) -> Option<u64> {
    arena
        .heaps
        .iter()
        .try_fold(0_u64, |sum, heap| sum.checked_add(heap.size_bytes))
}

/// The chunks of a secondary arena: after its state in the first heap, after the header in others.
fn heap_spans(arena: &ArenaFact, state: &State) -> Spans {
    let bytes = heap_bytes(arena).unwrap_or(0);
    if state.system_bytes != bytes {
        return Err(format!(
            "its heaps sum to {bytes} bytes, it says it has {}",
            state.system_bytes
        ));
    }
    let first = arena
        .heaps
        .iter()
        .find(|heap| (0x20..=0x30).contains(&arena.address.wrapping_sub(heap.start)))
        .ok_or("its first heap is missing")?;
    let header = arena.address - first.start;
    let ends = |heap: &crate::model::HeapFact| heap.start.saturating_add(heap.size_bytes);
    if !arena.heaps.iter().any(|heap| (heap.start..ends(heap)).contains(&state.top)) {
        return Err("its top lies outside of its heaps".to_owned());
    }
    let spans = arena
        .heaps
        .iter()
        .map(|heap| {
            let from = if heap.start == first.start {
                state.end
            } else {
                heap.start + header
            };
            (from.next_multiple_of(16), ends(heap))
        })
        .collect();
    Ok((spans, bytes))
}

/// The brk heap from the kernel's own start of it.
fn brk_heap(process: &Process<'_>) -> Option<(u64, u64)> {
    let named = |name: &[u8]| name == b"[heap]";
    let mut areas = process.areas.iter().filter(|area| named(area.region.name.as_bytes()));
    let first = areas.next()?;
    Some((first.start, areas.next_back().map_or(first.end, |last| last.end)))
}

/// Where the main arena begins: as many bytes below the end of its top as it has from the system.
fn main_base(process: &Process<'_>, main: &State) -> Option<u64> {
    if main.is_empty() {
        return None;
    }
    let top = lists::size(process.u64(main.top.checked_add(8)?)?);
    main.top.checked_add(top)?.checked_sub(main.system_bytes)
}

/// The chunks of the main arena. They are one span while nobody else moves the program break.
fn main_span(process: &Process<'_>, main: &State, base: Option<u64>) -> Spans {
    if main.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let (start, end) = brk_heap(process).ok_or("it does not lie in the brk heap")?;
    let base = base.ok_or("its top cannot be read")?;
    let top_end = base.saturating_add(main.system_bytes);
    if !(start <= base && top_end == end) {
        return Err("it does not fill the brk heap: the program moves the break itself".to_owned());
    }
    Ok((vec![(base.next_multiple_of(16), end)], main.system_bytes))
}
