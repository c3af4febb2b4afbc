//! libc's own lists of thread stacks: where their heads are, and walking them. What a descriptor holds is `descriptor`'s.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Object, ObjectKind, SegmentKind, Thread};

use super::super::process::{Notes, Process};
use super::machine::Layout;
use super::{Descriptor, Found, List, MAX_ENTRIES, descriptor};

/// Offset in a field descriptor of libc: u32 size in bits, number of elements, offset (nptl_db/structs.def).
pub(super) fn field(process: &Process<'_>, name: &str) -> Option<u64> {
    let offset = match process.constants(name) {
        Some([_, _, offset]) => offset,
        None => process.u32(process.symbol(name)?.checked_add(8)?)?,
    };
    (offset < 1 << 16).then_some(u64::from(offset))
}

/// A size descriptor of libc: one u32.
pub(super) fn sized(process: &Process<'_>, name: &str) -> Option<u64> {
    let bytes = match process.constants(name) {
        Some([bytes, ..]) => bytes,
        None => process.u32(process.symbol(name)?)?,
    };
    (bytes < 1 << 16).then_some(u64::from(bytes))
}

/// Live threads by descriptor. Threads made by a bare `clone` share a TLS base; the oldest keeps it.
pub(super) fn live<'a>(process: &Process<'a>, layout: Layout) -> BTreeMap<u64, &'a Thread> {
    let mut threads: Vec<&Thread> = process.capture.threads.iter().collect();
    threads.sort_by_key(|thread| (thread.tid != process.capture.pid, thread.tid));
    let mut live = BTreeMap::new();
    for thread in threads {
        if let Some(base) = thread.tls_base.filter(|base| *base != 0) {
            live.entry(base.wrapping_sub(layout.to_tls)).or_insert(thread);
        }
    }
    live
}

/// The heads of the three lists.
pub(super) fn heads(
    process: &Process<'_>,
    layout: Layout,
    main: Option<u64>,
    live: &BTreeMap<u64, &Thread>,
) -> Option<[(List, u64); 3]> {
    let all = |used, user, cache| [(List::Used, used), (List::User, user), (List::Cache, cache)];
    let is_ring = |heads: &[(List, u64); 3]| heads.iter().all(|(_, head)| ring(process, *head));
    // A static program that loads a library brings a loader into memory whose lists nobody uses. But where something other than the
    // kernel has started the program, nothing tells the loader that did it from a library.
    let by_loader = |as_library: bool| {
        let is_it = |object: &&Object| (object.kind == ObjectKind::Library) == as_library;
        let mut objects = process.capture.objects.iter().filter(is_it);
        let loader = objects.find(|object| object.symbols.contains_key("_rtld_global"))?;
        let global = loader.bias.wrapping_add(*loader.symbols.get("_rtld_global")?);
        let used = global.wrapping_add(field(process, "_thread_db_rtld_global__dl_stack_used")?);
        let user = global.wrapping_add(field(process, "_thread_db_rtld_global__dl_stack_user")?);
        // Only in 2.33 the cache still lived in libpthread; later it follows the other two.
        let cache = process
            .symbol("stack_cache")
            .unwrap_or_else(|| used.max(user).wrapping_add(16));
        Some(all(used, user, cache))
    };
    let by_names = |used, user, cache| Some(all(process.symbol(used)?, process.symbol(user)?, process.symbol(cache)?));
    // libc's descriptors live in read-only data that may not be in memory; the ring of the main thread always is. It passes
    // through `_dl_stack_user`, which stands between the other two heads (2.34 and later): `_dl_stack_used` before it in the
    // loader, whose structure is declared so, and after it in a static program, where compilers lay variables out backwards.
    let by_ring = || {
        let user = head_in(process, layout, main?, process.interpreter()?)?;
        Some(all(user.wrapping_sub(16), user, user.wrapping_add(16)))
    };
    let by_static_ring = || {
        let user = head_in(process, layout, main?, process.executable()?)?;
        let (before, after) = (user.wrapping_sub(16), user.wrapping_add(16));
        // Unlike elsewhere, zeros are no answer: older versions keep something else beside the one head that was found.
        let set_up = |head: u64| process.u64(head).is_some_and(|next| next != 0);
        let lives = |head: u64| entries(process, layout, head).iter().any(|pd| live.contains_key(pd));
        let backwards = lives(before) && !lives(after);
        (set_up(before) && set_up(after)).then(|| {
            if backwards {
                all(before, user, after)
            } else {
                all(after, user, before)
            }
        })
    };
    // Zeros are no answer here: the main thread is on this list from the beginning.
    let is_used = |heads: &[(List, u64); 3]| process.u64(heads[1].1).is_some_and(|next| next != 0);
    by_loader(false)
        .filter(is_ring)
        .or_else(|| by_names("stack_used", "__stack_user", "stack_cache").filter(is_ring))
        .or_else(|| by_names("_dl_stack_used", "_dl_stack_user", "_dl_stack_cache").filter(is_ring))
        .or_else(|| by_ring().filter(is_ring))
        .or_else(|| by_static_ring().filter(is_ring))
        .or_else(|| by_loader(true).filter(is_ring).filter(is_used))
}

/// A list head whose neighbours point back at it, or one that nobody has set up yet (all zero).
pub(super) fn ring(process: &Process<'_>, head: u64) -> bool {
    match process.words::<2>(head) {
        Some([0, 0]) => true,
        Some([next, prev]) => next.checked_add(8).and_then(|at| process.u64(at)) == Some(head) && process.u64(prev) == Some(head),
        None => false,
    }
}

/// The element of the main thread's ring that lies in the data of an object: the head of the list.
fn head_in(process: &Process<'_>, layout: Layout, main: u64, object: &Object) -> Option<u64> {
    let segments = || {
        let facts = object.facts.iter();
        facts
            .flat_map(|facts| &facts.segments)
            .filter(|segment| segment.kind == SegmentKind::Load)
    };
    let inside = |at: u64| {
        let in_file = at.wrapping_sub(object.bias);
        segments().any(|segment| in_file.wrapping_sub(segment.vaddr) < segment.memsz)
            || process
                .area_at(at)
                .is_some_and(|area| area.region.inode != 0 && (area.region.dev, area.region.inode) == (object.dev, object.inode))
    };
    let first = main.checked_add(layout.list)?;
    let mut at = process.u64(first)?;
    for _ in 0..MAX_ENTRIES {
        if at == first {
            return None;
        }
        if inside(at) {
            return Some(at);
        }
        at = process.u64(at)?;
    }
    None
}

/// The descriptors on a list, as far as it can be followed.
fn entries(process: &Process<'_>, layout: Layout, head: u64) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut at = process.u64(head);
    while let Some(entry) = at.filter(|entry| *entry != head) {
        if found.len() >= MAX_ENTRIES || !found.insert(entry.wrapping_sub(layout.list)) {
            break;
        }
        at = process.u64(entry);
    }
    found
}

/// glibc before 2.34 keeps threads in libpthread: without it there are none.
pub(super) fn old_glibc_without_threads(process: &Process<'_>) -> bool {
    let named = |start: &[u8]| {
        process
            .capture
            .objects
            .iter()
            .any(|object| object.path.file_name_bytes().starts_with(start))
    };
    named(b"libc-2.") && !named(b"libpthread")
}

/// Follows one list. False when it is not a well-formed ring.
pub(super) fn walk<'a>(
    process: &Process<'_>,
    layout: Layout,
    (list, head): (List, u64),
    live: &BTreeMap<u64, &'a Thread>,
    found: &mut Found<'a>,
    notes: &mut Notes,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut before = head;
    let Some(mut at) = process.u64(head) else { return false };
    while at != head && at != 0 {
        if seen.len() >= MAX_ENTRIES || !seen.insert(at) {
            return false;
        }
        let Some([next, prev]) = process.words::<2>(at) else {
            return false;
        };
        let pd = at.wrapping_sub(layout.list);
        let Some(descriptor) = descriptor::read(process, layout, pd, list, live.get(&pd).copied()) else {
            return false;
        };
        if prev != before {
            return false;
        }
        if list == List::User && descriptor.block == 0 {
            found.main.get_or_insert(pd);
        }
        let unjoined = descriptor.thread.is_none() && list != List::Cache && descriptor::unjoined(process, layout, pd, notes);
        found.descriptors.entry(pd).or_insert(Descriptor { unjoined, ..descriptor });
        (before, at) = (at, next);
    }
    true
}
