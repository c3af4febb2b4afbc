//! Whole classifications of fabricated processes: data in, pieces out. Real processes stand in `live_tests`.

use std::sync::Arc;

use proptest::prelude::*;

use super::fake::Fake;
use crate::model::{FinishedStack, Metric, ObjectKind, Role, StackState, VmFlags};

const MIB: u64 = 1 << 20;

fn program() -> Fake {
    let mut fake = Fake::new();
    let path = "/w/prog";
    fake.object(
        ObjectKind::Executable,
        path,
        0x10_0000,
        &[
            (4, 0, 0x500, 0x500),
            (5, 0x1000, 0x1800, 0x1800),
            (4, 0x3000, 0x100, 0x100),
            (6, 0x4d00, 0x800, 0x2000),
        ],
        Some((0x4d00, 0x300)),
    );
    fake.region((0x10_0000, 0x10_1000), "r--p", path);
    fake.region((0x10_1000, 0x10_3000), "r-xp", path).offset = 0x1000;
    fake.region((0x10_3000, 0x10_4000), "r--p", path).offset = 0x3000;
    fake.region((0x10_4000, 0x10_5000), "r--p", path).offset = 0x4000;
    fake.region((0x10_5000, 0x10_6000), "rw-p", path).offset = 0x5000;
    fake.region((0x10_6000, 0x10_7000), "rw-p", "");
    fake
}

/// A static glibc: the heads of its three lists at 0x105800, all in the program's data.
fn with_lists(fake: &mut Fake) {
    for (name, value) in [
        ("_dl_stack_used", 0x5800),
        ("_dl_stack_user", 0x5810),
        ("_dl_stack_cache", 0x5820),
    ] {
        Arc::make_mut(&mut fake.capture.objects[0].symbols).insert(name.to_owned(), value);
    }
}

const USED: u64 = 0x10_5800;
const USER: u64 = 0x10_5810;
const CACHE: u64 = 0x10_5820;

fn list(fake: &mut Fake, head: u64, pds: &[u64]) {
    let nodes: Vec<u64> = std::iter::once(head).chain(pds.iter().map(|pd| pd + 0x2c0)).collect();
    for (i, node) in nodes.iter().enumerate() {
        let next = nodes[(i + 1) % nodes.len()];
        let prev = nodes[(i + nodes.len() - 1) % nodes.len()];
        fake.words(*node, &[next, prev]);
    }
}

fn descriptor(fake: &mut Fake, pd: u64, block: u64, size: u64, guard: u64) {
    fake.words(pd, &[pd, 0, pd]);
    fake.words(pd + 0x690, &[block, size, guard]);
}

#[test]
fn a_program_is_cut_by_its_headers() {
    assert_eq!(
        program().labels(),
        [
            (0x10_0000, 0x10_1000, "exe.headers"),
            (0x10_1000, 0x10_3000, "exe.text"),
            (0x10_3000, 0x10_4000, "exe.rodata"),
            (0x10_4000, 0x10_5000, "exe.relro"),
            (0x10_5000, 0x10_6000, "exe.data"),
            (0x10_6000, 0x10_7000, "exe.bss"),
        ]
    );
}

#[test]
fn relro_is_cut_out_before_the_loader_protects_it() {
    let mut fake = program();
    fake.capture.regions.truncate(3);
    fake.region((0x10_4000, 0x10_6000), "rw-p", "/w/prog").offset = 0x4000;
    assert_eq!(
        fake.labels()[3..],
        [(0x10_4000, 0x10_5000, "exe.relro"), (0x10_5000, 0x10_6000, "exe.data")]
    );
    assert_eq!(fake.classify().pieces[3].evidence.text, "PT_GNU_RELRO, and writable now");
    assert_eq!(program().classify().pieces[3].evidence.text, "PT_GNU_RELRO");
}

#[test]
fn objects_are_own_or_platform_and_data_maps_of_objects_are_files() {
    let mut fake = program();
    fake.object(
        ObjectKind::Library,
        "/w/libown.so",
        0x20_0000,
        &[(5, 0, 0x1000, 0x1000)],
        None,
    );
    fake.region((0x20_0000, 0x20_1000), "r-xp", "/w/libown.so");
    fake.object(
        ObjectKind::Library,
        "/lib/libc.so.6",
        0x30_0000,
        &[(5, 0, 0x1000, 0x1000)],
        None,
    );
    fake.region((0x30_0000, 0x30_1000), "r-xp", "/lib/libc.so.6");
    fake.region((0x30_1000, 0x30_3000), "---p", "/lib/libc.so.6").offset = 0x1000;
    fake.object(ObjectKind::Library, "/w/flat.o", 0x40_0000, &[(5, 0, 0x1000, 0x1000)], None);
    fake.region((0x40_0000, 0x40_1000), "r--p", "/w/flat.o");
    let map = fake.classify();
    let tail: Vec<_> = map.pieces[6..].iter().map(|piece| piece.role.name()).collect();
    assert_eq!(tail, ["lib.text", "platform", "file-map", "file-map"]);
    assert!(map.own_objects.iter().map(ToString::to_string).eq(["libown.so"]));
    assert!(map.platform_objects.iter().map(ToString::to_string).eq(["libc.so.6"]));
    assert!(map.hardening.is_some());
}

#[test]
fn holes_between_segments_belong_to_the_object() {
    let mut fake = Fake::new();
    fake.object(
        ObjectKind::Library,
        "/w/libold.so",
        0x20_0000,
        &[(5, 0, 0x1000, 0x1000), (6, 0x20_0000, 0x1000, 0x1000)],
        None,
    );
    fake.region((0x20_0000, 0x20_1000), "r-xp", "/w/libold.so");
    fake.region((0x20_1000, 0x40_0000), "---p", "/w/libold.so");
    fake.region((0x40_0000, 0x40_1000), "rw-p", "/w/libold.so").offset = 0x20_0000;
    assert_eq!(fake.labels()[1], (0x20_1000, 0x40_0000, "lib.rodata"));
}

#[test]
fn objects_without_headers_are_told_by_access_bits() {
    let mut fake = program();
    fake.capture.objects[0].facts = None;
    let map = fake.classify();
    let roles: Vec<_> = map.pieces.iter().map(|piece| piece.role.name()).collect();
    assert_eq!(
        roles,
        ["exe.headers", "exe.text", "exe.rodata", "exe.rodata", "exe.data", "exe.bss"]
    );
    assert_eq!(map.notes.len(), 2, "headers and threads: {:?}", map.notes);
}

#[test]
fn names_and_shapes() {
    let mut fake = Fake::new();
    fake.capture.start_brk = Some(0x2000);
    fake.capture.start_stack = Some(0x7fff_0800);
    for (i, (perms, name, role)) in [
        ("rw-p", "", "anon-map"),
        ("---p", "", "anon-map"),
        ("rw-s", "/memfd:x (deleted)", "shared-map"),
        ("rw-p", "/memfd:y (deleted)", "shared-map"),
        ("rw-s", "/SYSV00000000 (deleted)", "shared-map"),
        ("rw-s", "/dev/zero (deleted)", "shared-map"),
        ("rw-s", "[anon_shmem:z]", "shared-map"),
        ("rw-s", "/data/base.db", "file-map"),
        ("r--p", "/data/file", "file-map"),
        ("r--p", "/usr/lib/locale/C.utf8/LC_CTYPE", "platform"),
        ("r-xp", "[vdso]", "platform"),
        ("r--p", "[vvar_vclock]", "platform"),
        ("r--p", "[uprobes]", "platform"),
        ("rw-p", "[anon:mine]", "anon-map"),
        ("rw-p", "[anon: glibc: malloc arena]", "thread-arena"),
        ("rw-p", "[anon: glibc: unused stack]", "thread-stack.cached"),
        ("rw-p", "[something new]", "unclassified"),
    ]
    .into_iter()
    .enumerate()
    {
        let start = 0x1_0000 * (i as u64 + 1);
        fake.region((start, start + 0x1000), perms, name);
        assert_eq!(fake.labels().last().unwrap().2, role, "{perms} {name}");
    }
    fake.region((0x7ffe_0000, 0x8000_0000), "rw-p", "");
    fake.region((0x1000, 0x4000), "rw-p", "[heap]");
    fake.region((0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000), "--xp", "[vsyscall]");
    let labels = fake.labels();
    assert_eq!(labels.last().unwrap().2, "main-stack");
    assert_eq!(labels[..2], [(0x1000, 0x2000, "exe.bss"), (0x2000, 0x4000, "main-heap")]);
    assert_eq!(fake.classify().process.mappings, Some(19));
}

/// Descriptor of the exited thread of `threads`.
const ENDED: u64 = 0x1000_0000 + 2 * MIB - 0x940;

/// Offset in a descriptor of glibc on x86-64.
const CANCELHANDLING: u64 = 0x308;

/// Two stacks that the kernel merged into one region, an exited one, a cached one, one the program supplied.
fn threads() -> Fake {
    let mut fake = program();
    with_lists(&mut fake);
    let base = 0x1000_0000;
    fake.region((base, base + 4 * MIB), "rw-p", "");
    fake.region((base + 4 * MIB, base + 4 * MIB + 0x1000), "---p", "");
    fake.region((base + 4 * MIB + 0x1000, base + 5 * MIB), "rw-p", "");
    for (i, pd) in [MIB, 2 * MIB, 3 * MIB].into_iter().enumerate() {
        descriptor(&mut fake, base + pd - 0x940, base + i as u64 * MIB, MIB, 0x1000);
    }
    // Supplied: unaligned, inside the rest of the region.
    descriptor(&mut fake, base + 4 * MIB - 0x1840, base + 3 * MIB + 0x10, MIB - 0x1010, 0);
    descriptor(&mut fake, base + 5 * MIB - 0x940, base + 4 * MIB, MIB, 0x1000);
    fake.words(ENDED + CANCELHANDLING, &[0x10]);
    let main = 0x10_6100;
    descriptor(&mut fake, main, 0, 0, 0);
    list(&mut fake, USED, &[base + MIB - 0x940, base + 2 * MIB - 0x940]);
    list(&mut fake, USER, &[base + 4 * MIB - 0x1840, main]);
    list(&mut fake, CACHE, &[base + 3 * MIB - 0x940, base + 5 * MIB - 0x940]);
    fake.thread(1, "prog", main);
    fake.thread(7, "worker", base + MIB - 0x940);
    fake.thread(8, "mine", base + 4 * MIB - 0x1840);
    fake
}

#[test]
fn libc_lists_tell_the_state_of_every_stack() {
    let fake = threads();
    let base = 0x1000_0000;
    let map = fake.classify();
    assert!(map.thread_lists_known, "{:?}", map.notes);
    let labels: Vec<_> = map.pieces[6..]
        .iter()
        .map(|p| (p.start - base, p.end - base, p.role.name()))
        .collect();
    assert_eq!(
        labels,
        [
            (0, 0x1000, "guard"),
            (0x1000, MIB, "thread-stack.live"),
            (MIB, MIB + 0x1000, "guard"),
            (MIB + 0x1000, 2 * MIB, "thread-stack.exited"),
            (2 * MIB, 2 * MIB + 0x1000, "guard"),
            (2 * MIB + 0x1000, 3 * MIB, "thread-stack.cached"),
            (3 * MIB, 3 * MIB + 0x1000, "anon-map"),
            (3 * MIB + 0x1000, 4 * MIB - 0x1000, "thread-stack.user"),
            (4 * MIB - 0x1000, 4 * MIB, "anon-map"),
            (4 * MIB, 4 * MIB + 0x1000, "guard"),
            (4 * MIB + 0x1000, 5 * MIB, "thread-stack.cached"),
        ]
    );
    let threads: Vec<_> = map.threads.iter().map(|t| (t.tid, t.main, t.state, t.user_stack)).collect();
    assert_eq!(
        threads,
        [
            (Some(1), true, StackState::Live, false),
            (Some(7), false, StackState::Live, false),
            (None, false, StackState::Exited, false),
            (None, false, StackState::Cached, false),
            (Some(8), false, StackState::Live, true),
            (None, false, StackState::Cached, false),
        ]
    );
    let metric = |name| map.metric(&Metric::parse(name).unwrap());
    assert_eq!(metric("thread-stack.cached.count"), Some(2));
    assert_eq!(metric("threads.count"), Some(3));
}

#[test]
fn only_a_thread_that_ended_and_can_be_joined_left_its_stack() {
    const EXITING: u64 = 0x10;
    // `cancelhandling`, then the words at 0x620 and 0x628.
    for (state, join, exited, what) in [
        (0, [0, 0], 0, "joinable, being created"),
        (0, [ENDED, 1], 0, "detached, being created"),
        (EXITING, [0, 0], 1, "joinable, ended"),
        (EXITING | 0x8c, [0, 0], 1, "canceled, ended"),
        (EXITING, [ENDED, 1], 0, "detached, ending (2.36)"),
        (EXITING, [0, ENDED], 0, "detached, ending (2.35)"),
        (EXITING, [0, 3], 0, "detached, ending (2.43)"),
        (EXITING | 0x20, [0, 0], 0, "joined, not in the cache yet"),
    ] {
        let mut fake = threads();
        fake.words(ENDED + CANCELHANDLING, &[state]);
        fake.words(ENDED + 0x620, &join);
        let map = fake.classify();
        let metric = |name| map.metric(&Metric::parse(name).unwrap());
        assert_eq!(metric("thread-stack.exited.count"), Some(exited), "{what}");
        assert_eq!(metric("threads.count"), Some(3), "{what}");
        assert_eq!(map.threads.len() as u64, 5 + exited, "{what}");
        assert!(map.notes.is_empty(), "{what}: {:?}", map.notes);
        let piece = map.pieces.iter().find(|piece| piece.end == 0x1000_0000 + 2 * MIB).unwrap();
        let role = [Role::ThreadStackLive, Role::ThreadStackExited][exited as usize];
        assert_eq!(piece.role, role, "{what}");
    }
}

#[test]
fn a_broken_list_is_said_and_its_counts_are_absent() {
    let mut fake = threads();
    let node = 0x1000_0000 + MIB - 0x940 + 0x2c0;
    fake.words(node, &[node, USED]);
    let map = fake.classify();
    assert!(!map.thread_lists_known);
    assert_eq!(map.metric(&Metric::parse("thread-stack.exited.count").unwrap()), None);
    assert_eq!(map.metric(&Metric::parse("thread-stack.live.count").unwrap()), Some(1));
    assert_eq!(map.notes.len(), 1, "{:?}", map.notes);
}

#[test]
fn live_stacks_are_found_without_lists() {
    let mut fake = threads();
    Arc::make_mut(&mut fake.capture.objects[0].symbols).clear();
    // What stands beside the one list that is found is no list: as in versions before 2.34.
    fake.words(USED, &[0, 0]);
    // Nor can memory be searched, where the kernel does not tell which pages may be read.
    fake.runs = None;
    let map = fake.classify();
    assert!(!map.thread_lists_known);
    assert_eq!(map.metric(&Metric::parse("thread-stack.live.count").unwrap()), Some(1));
    assert_eq!(
        map.metric(&Metric::parse("thread-stack.user.count").unwrap()),
        Some(1),
        "not aligned: not libc's"
    );
    assert_eq!(map.notes.len(), 1, "{:?}", map.notes);
}

#[test]
fn the_lists_of_a_static_program_are_found_through_the_main_thread() {
    let expected = threads().classify();
    let mut fake = threads();
    Arc::make_mut(&mut fake.capture.objects[0].symbols).clear();
    assert_eq!(fake.classify().threads, expected.threads, "declared in order");
    // As compilers lay them out: the cache first.
    let base = 0x1000_0000;
    list(&mut fake, USED, &[base + 3 * MIB - 0x940, base + 5 * MIB - 0x940]);
    list(&mut fake, CACHE, &[base + MIB - 0x940, base + 2 * MIB - 0x940]);
    let map = fake.classify();
    assert!(map.thread_lists_known, "{:?}", map.notes);
    assert_eq!(map.threads, expected.threads);
}

#[test]
fn without_any_list_descriptors_are_found_by_their_own_addresses() {
    let base = 0x1000_0000;
    let mut fake = threads();
    fake.run(base, base + 5 * MIB);
    let expected = fake.classify();
    Arc::make_mut(&mut fake.capture.objects[0].symbols).clear();
    fake.words(USED, &[0, 0]);
    for cached in [base + 3 * MIB - 0x940, base + 5 * MIB - 0x940] {
        fake.words(cached + 0x2d0, &[u64::from(u32::MAX)]);
    }
    // The ring of the used ones has lost its head: they hold each other.
    let (live, ended) = (base + MIB - 0x940 + 0x2c0, ENDED + 0x2c0);
    fake.words(live, &[ended, ended]);
    fake.words(ended, &[live, live]);
    let map = fake.classify();
    assert!(map.thread_lists_known, "{:?}", map.notes);
    assert_eq!(map.threads, expected.threads);
    let exited = map.pieces.iter().find(|piece| piece.role == Role::ThreadStackExited).unwrap();
    assert_eq!(exited.evidence.confidence, crate::model::Confidence::Likely);
    // A descriptor on no ring is left over from another time.
    fake.words(ended, &[0, 0]);
    let map = fake.classify();
    assert_eq!(map.metric(&Metric::parse("thread-stack.exited.count").unwrap()), Some(0));
}

#[test]
fn a_stack_whose_end_was_watched_has_a_depth_and_an_owner() {
    let mut fake = threads();
    let watched = |tls_base, lowest| FinishedStack {
        tls_base,
        tid: 99,
        name: "gone".into(),
        lowest,
    };
    let end = 0x1000_0000 + 2 * MIB;
    fake.capture.finished_stacks = Some(vec![watched(ENDED, end - 0x5000)]);
    let map = fake.classify();
    let exited = map.threads.iter().find(|thread| thread.state == StackState::Exited).unwrap();
    assert_eq!((exited.tid, exited.deepest_bytes), (Some(99), Some(0x5000)));
    let cached = map.threads.iter().find(|thread| thread.state == StackState::Cached).unwrap();
    assert_eq!((cached.tid, cached.deepest_bytes), (None, None));
    // What cannot be of this stack is not believed.
    fake.capture.finished_stacks = Some(vec![watched(ENDED, 0x1000)]);
    let map = fake.classify();
    assert!(
        map.threads
            .iter()
            .all(|thread| thread.tid != Some(99) || thread.deepest_bytes.is_none())
    );
}

#[test]
fn the_lists_are_found_through_the_loader_without_symbols() {
    let mut fake = threads();
    Arc::make_mut(&mut fake.capture.objects[0].symbols).clear();
    // The heads are moved into the data of a loader.
    fake.object(
        ObjectKind::Interpreter,
        "/lib/ld-linux-x86-64.so.2",
        0x50_0000,
        &[(5, 0, 0x1000, 0x1000)],
        None,
    );
    fake.region((0x50_0000, 0x50_1000), "rw-p", "/lib/ld-linux-x86-64.so.2");
    let base = 0x1000_0000;
    list(&mut fake, 0x50_0000, &[base + MIB - 0x940, base + 2 * MIB - 0x940]);
    list(&mut fake, 0x50_0010, &[base + 4 * MIB - 0x1840, 0x10_6100]);
    list(&mut fake, 0x50_0020, &[base + 3 * MIB - 0x940, base + 5 * MIB - 0x940]);
    let map = fake.classify();
    assert!(map.thread_lists_known, "{:?}", map.notes);
    assert_eq!(map.metric(&Metric::parse("thread-stack.exited.count").unwrap()), Some(1));
}

#[test]
fn before_libc_is_set_up_there_are_no_stacks_and_that_is_known() {
    let mut fake = program();
    fake.thread(1, "prog", 0);
    let map = fake.classify();
    assert!(map.thread_lists_known);
    assert_eq!(map.metric(&Metric::parse("thread-stack.exited.count").unwrap()), Some(0));
}

#[test]
fn guard_pages_inside_a_stack_are_guards_and_depth_is_measured_from_the_top() {
    let mut fake = threads();
    let base = 0x1000_0000;
    fake.capture.regions[6].flags = Some(VmFlags::new(vec![*b"gu"]));
    let guard = fake.run(base + 0x1000, base + 0x3000);
    (guard.resident, guard.anon, guard.guard) = (false, false, true);
    fake.run(base + MIB - 0x3000, base + MIB);
    let map = fake.classify();
    assert_eq!((map.pieces[7].end, map.pieces[7].role), (base + 0x3000, Role::Guard));
    assert_eq!(map.threads[1].deepest_bytes, Some(0x3000));
    assert_eq!(map.threads[2].deepest_bytes, None, "an exited thread's pages are gone");
}

/// Old versions of glibc give the pages of such a stack back as well.
#[test]
fn the_depth_of_an_ended_thread_s_own_stack_is_known_where_libc_leaves_it_alone() {
    let end = 0x1000_0000 + 4 * MIB - 0x1000;
    let depth = |old: bool, bytes: u64| {
        let mut fake = threads();
        fake.capture.threads.pop();
        fake.words(end - 0x840 + CANCELHANDLING, &[0x10]);
        fake.run(end - bytes, end);
        if old {
            let path = "/lib/libpthread-2.31.so";
            fake.object(ObjectKind::Library, path, 0x50_0000, &[(5, 0, 0x1000, 0x1000)], None);
            fake.region((0x50_0000, 0x50_1000), "r-xp", path);
        }
        let map = fake.classify();
        let user = map.threads.iter().find(|thread| thread.user_stack).unwrap();
        assert_eq!(user.state, StackState::Exited);
        user.deepest_bytes
    };
    assert_eq!((depth(false, 0x3000), depth(false, 0x2_0000)), (Some(0x3000), Some(0x2_0000)));
    assert_eq!((depth(true, 0x3000), depth(true, 0x2_0000)), (None, Some(0x2_0000)));
}

/// The page in which a stack inside an allocation begins holds other data as well: malloc's header, for one.
#[test]
fn the_depth_of_a_stack_inside_an_allocation_leaves_its_first_page_out() {
    let mut fake = threads();
    let (block, end) = (0x1000_0000 + 3 * MIB + 0x10, 0x1000_0000 + 4 * MIB - 0x1000);
    fake.run(block - 0x10, block + 0xff0);
    fake.run(end - 0x2000, end);
    let map = fake.classify();
    let user = map.threads.iter().find(|thread| thread.user_stack).unwrap();
    assert_eq!((user.stack.unwrap().0, user.deepest_bytes), (block, Some(0x2000)), "{user:?}");
}

fn signal_stack(fake: &mut Fake, start: u64) {
    for (range, perms) in [((start, start + 0x1000), "---p"), ((start + 0x1000, start + 0x3000), "rw-p")] {
        fake.region(range, perms, "").flags = Some(VmFlags::new(vec![*b"nh"]));
    }
}

#[test]
fn a_small_map_stack_above_one_page_without_access_is_a_signal_stack() {
    let mut fake = program();
    signal_stack(&mut fake, 0x100_0000);
    assert_eq!(
        fake.labels()[6..],
        [(0x100_0000, 0x100_1000, "guard"), (0x100_1000, 0x100_3000, "signal-stack")]
    );
}

/// An arena of two heaps; the second begins inside a merged region and is fully committed.
fn arenas() -> Fake {
    let mut fake = program();
    with_lists(&mut fake);
    let first = 64 * MIB;
    fake.words(first, &[first + 0x30, 0, 0x2_1000, 0x2_1000]);
    fake.region((first, first + 0x2_1000), "rw-p", "");
    fake.region((first + 0x2_1000, 2 * first), "---p", "");
    let second = 4 * first;
    fake.words(second, &[first + 0x30, first, 0x10_0000, 64 * MIB]);
    fake.region((second - 0x5000, second + 64 * MIB), "rw-p", "");
    // A chunk of 5 pages below it, as glibc 2.43 writes it.
    fake.words(second - 0x5000, &[0, (0x5000 - 16) | 2]);
    fake
}

#[test]
fn arenas_are_found_by_their_heap_headers() {
    let fake = arenas();
    let map = fake.classify();
    let arenas = map.arenas.as_ref().unwrap();
    assert_eq!(
        (arenas.len(), arenas[0].heaps.len(), arenas[0].heaps[0].committed_bytes),
        (1, 2, 0x2_1000)
    );
    let metric = |name| map.metric(&Metric::parse(name).unwrap());
    assert_eq!(metric("thread-arena.count"), Some(1));
    assert_eq!(metric("thread-arena.reserved"), Some(128 * MIB));
    assert_eq!(metric("thread-arena.committed"), Some(64 * MIB + 0x2_1000));
    assert_eq!(metric("mmap-chunk.reserved"), Some(0x5000));
    assert_eq!(metric("anon-map.reserved"), Some(0));
}

#[test]
fn a_heap_whose_tail_is_not_reserved_or_whose_chain_is_cyclic_is_none() {
    let mut fake = arenas();
    fake.words(64 * MIB, &[64 * MIB + 0x30, 256 * MIB]);
    assert_eq!(fake.classify().arenas.unwrap(), []);
    let mut fake = arenas();
    fake.capture.regions[7].perms.read = true;
    assert_eq!(fake.classify().arenas.unwrap(), []);
}

#[test]
fn without_glibc_the_arenas_are_absent_not_zero() {
    let map = program().classify();
    assert_eq!(
        (map.arenas.clone(), map.metric(&Metric::parse("thread-arena.count").unwrap())),
        (None, None)
    );
}

#[test]
fn large_allocations_are_stepped_through() {
    let mut fake = program();
    with_lists(&mut fake);
    let start = 0x100_0000;
    fake.region((start, start + 0x40_0000), "rw-p", "");
    fake.words(start, &[0, 0x10_0002]);
    fake.words(start + 0x10_0000, &[0, 0x2002]);
    fake.words(start + 0x20_0000, &[0, 0x10_0002]);
    // Looks like a small chunk where no mapping is known to begin: data.
    fake.words(start + 0x18_0000, &[0, 0x2002]);
    for page in [0, 0x10_0000, 0x18_0000, 0x20_0000] {
        fake.run(start + page, start + page + 0x1000);
    }
    let labels: Vec<_> = fake.labels()[6..].iter().map(|l| (l.0 - start, l.1 - start, l.2)).collect();
    assert_eq!(
        labels,
        [
            (0, 0x10_0000, "mmap-chunk"),
            (0x10_0000, 0x10_2000, "mmap-chunk"),
            (0x10_2000, 0x20_0000, "anon-map"),
            (0x20_0000, 0x30_0000, "mmap-chunk"),
            (0x30_0000, 0x40_0000, "anon-map"),
        ]
    );
}

#[test]
fn cut_regions_share_their_figures_by_pages() {
    let mut fake = threads();
    let base = 0x1000_0000;
    let usage = fake.capture.regions[6].usage.as_mut().unwrap();
    (usage.resident_bytes, usage.anon_bytes) = (0x3000, 0x3000);
    usage.detail.as_mut().unwrap().proportional_bytes = 0x3000;
    fake.run(base + MIB - 0x2000, base + MIB);
    fake.run(base + 2 * MIB - 0x1000, base + 2 * MIB);
    let map = fake.classify();
    let sum = |role| map.sum(|r| r == role);
    assert_eq!(sum(Role::ThreadStackLive).anon, Some(0x2000));
    assert_eq!(sum(Role::ThreadStackExited).anon, Some(0x1000));
    assert_eq!(map.pieces[7].proportional_bytes, None);

    // A scan that disagrees with smaps is not believed, and a missing one neither.
    fake.runs.as_mut().unwrap().pop();
    let map = fake.classify();
    assert_eq!(map.sum(|r| r == Role::ThreadStackLive).anon, None);
    assert_eq!(map.notes.len(), 2, "{:?}", map.notes);
    fake.runs = None;
    assert_eq!(fake.classify().sum(|r| r == Role::ThreadStackLive).anon, None);
}

#[test]
fn swapped_pages_of_a_cut_region_sum_to_what_smaps_says() {
    let mut fake = threads();
    let base = 0x1000_0000;
    fake.capture.regions[6].usage.as_mut().unwrap().swap_bytes = 0x5000;
    for (start, end) in [(MIB - 0x2000, MIB), (2 * MIB - 0x3000, 2 * MIB)] {
        let run = fake.run(base + start, base + end);
        (run.resident, run.anon, run.swapped) = (false, false, true);
    }
    let map = fake.classify();
    let swap = |role| {
        map.pieces
            .iter()
            .filter(|piece| piece.role == role)
            .map(|piece| piece.swap_bytes)
            .sum::<Option<u64>>()
    };
    assert_eq!(
        (swap(Role::ThreadStackLive), swap(Role::ThreadStackExited)),
        (Some(0x2000), Some(0x3000))
    );
    assert_eq!((swap(Role::ThreadStackCached), map.process.swap), (Some(0), Some(0x5000)));
    // A stack that is swapped out is as deep as it was.
    assert_eq!(map.threads[1].deepest_bytes, Some(0x2000));
}

/// Without knowing libc there is no word on stacks: no number, rather than none.
#[test]
fn threads_without_known_stacks_have_no_count_of_them() {
    let mut fake = threads();
    let facts = Arc::make_mut(fake.capture.objects[0].facts.as_mut().unwrap());
    facts.machine = 8;
    let map = fake.classify();
    let metric = |name| map.metric(&Metric::parse(name).unwrap());
    assert_eq!(metric("threads.count"), Some(3));
    for name in [
        "thread-stack.live.count",
        "thread-stack.user.count",
        "thread-stack.exited.count",
        "thread-stack.reserved",
    ] {
        assert_eq!(metric(name), None, "{name}");
    }
    assert_eq!(metric("main-stack.count"), Some(0));
}

#[test]
fn page_runs_that_overlap_count_once() {
    let mut fake = threads();
    let base = 0x1000_0000;
    fake.capture.regions[6].usage.as_mut().unwrap().resident_bytes = 0x5000;
    fake.run(base + 0x3000, base + 0x8000);
    fake.run(base + 0x4000, base + 0x6000);
    let map = fake.classify();
    assert_eq!(map.pieces[7].resident_bytes, Some(0x5000), "{:?}", map.notes);
}

#[test]
fn breakpoint_pages_are_ours_and_the_text_keeps_its_size() {
    let mut fake = program();
    let usage = fake.capture.regions[1].usage.as_mut().unwrap();
    (usage.resident_bytes, usage.anon_bytes) = (0x2000, 0x1000);
    fake.patched(0x10_1000);
    fake.patched(0x10_2000);
    fake.run(0x10_1000, 0x10_2000).resident = true;
    let map = fake.classify();
    let text = map.sum(|role| role == Role::ExeText);
    assert_eq!(
        (text.reserved, text.anon, text.resident, text.count),
        (0x2000, Some(0), Some(0x2000), 1)
    );
    assert_eq!(
        (map.breakpoint_anon_bytes, map.process.anon, map.process.resident),
        (0x1000, Some(0), Some(0x2000))
    );
    let memcheck = map.by_role()[&Role::Memcheck];
    assert_eq!((memcheck.count, memcheck.reserved, memcheck.anon), (1, 0, Some(0x1000)));
    assert_eq!(map.metric(&Metric::parse("memcheck.anon").unwrap()), Some(0x1000));
    assert_eq!(map.metric(&Metric::parse("own.anon").unwrap()), Some(0));
    assert!(!program().classify().by_role().contains_key(&Role::Memcheck));
}

#[test]
fn totals_come_from_the_regions() {
    let mut fake = program();
    fake.capture.regions[1].perms.write = true;
    fake.capture.regions[5].flags = Some(VmFlags::new(vec![*b"ac", *b"nr"]));
    fake.capture.status.peak_resident_bytes = Some(5);
    let totals = fake.classify().process;
    assert_eq!(
        (totals.reserved, totals.mappings, totals.wx),
        (Some(0x7000), Some(6), Some(0x2000))
    );
    assert_eq!(
        (totals.commit, totals.noreserve, totals.peak, totals.locked),
        (Some(0x1000), Some(0x1000), Some(5), None)
    );
    // Huge pages are counted apart, and that is said.
    assert_eq!(fake.classify().notes, []);
    fake.capture.regions[2]
        .usage
        .as_mut()
        .unwrap()
        .detail
        .as_mut()
        .unwrap()
        .hugetlb_bytes = 4 * MIB;
    let map = fake.classify();
    assert!(
        map.notes.len() == 1 && map.notes[0].text.starts_with("4 MiB of huge pages"),
        "{:?}",
        map.notes
    );
    assert_eq!(map.process.resident, Some(0));
    fake.capture.regions[0].flags = None;
    fake.capture.regions[0].usage = None;
    let totals = fake.classify().process;
    assert_eq!((totals.commit, totals.anon, totals.pss), (None, None, None));
}

#[test]
fn the_loader_owns_its_link_maps_and_the_main_tls_but_not_what_merged_with_them() {
    let mut fake = program();
    with_lists(&mut fake);
    let dynamic = crate::model::Segment {
        kind: crate::model::SegmentKind::Dynamic,
        flags: 6,
        offset: 0,
        vaddr: 0x4e00,
        filesz: 0x40,
        memsz: 0x40,
        align: 8,
    };
    let tls = crate::model::Segment {
        kind: crate::model::SegmentKind::Tls,
        flags: 4,
        offset: 0,
        vaddr: 0x3000,
        filesz: 0,
        memsz: 0x2100,
        align: 64,
    };
    let facts = fake.capture.objects[0].facts.as_mut().unwrap();
    Arc::make_mut(facts).segments.extend([dynamic, tls]);
    fake.words(0x10_4e00, &[1, 1, 21, 0x10_5900]);
    fake.words(0x10_5900, &[1, 0x100_4400]);
    // Link maps: one in a region that begins with three pages of the program; it points at its name two pages up.
    fake.region((0x100_0000, 0x100_6000), "rw-p", "");
    fake.words(0x100_4400, &[0, 0x100_5100, 0, 0x100_4400]);
    // The descriptor of the main thread, its block and a mapping of the program below.
    let pd = 0x200_8540;
    fake.region((0x200_0000, 0x200_9000), "rw-p", "");
    descriptor(&mut fake, pd, 0, 0, 0);
    fake.words(pd + 0x9c0, &[0x200_5000]);
    list(&mut fake, USER, &[pd]);
    fake.thread(1, "prog", pd);
    assert_eq!(
        fake.labels()[6..],
        [
            (0x100_0000, 0x100_4000, "anon-map"),
            (0x100_4000, 0x100_6000, "platform"),
            (0x200_0000, 0x200_5000, "anon-map"),
            (0x200_5000, 0x200_7000, "platform"),
            (0x200_7000, 0x200_8000, "tls"),
            (0x200_8000, 0x200_9000, "platform"),
        ]
    );
}

fn chaos() -> impl Strategy<Value = Fake> {
    let region = (0_u64..64, 0_u64..12, 0_usize..6, 0_usize..7, any::<[u16; 4]>());
    // Words that look like pointers into the fabricated space, sizes, and anything.
    let word = prop_oneof![
        (0_u64..80).prop_map(|page| page * 0x1000),
        (0_u64..0x8_0000).prop_map(|at| at * 16),
        Just(64 * MIB),
        Just(64 * MIB + 0x30),
        Just(0x2_1000),
        (1_u64..9).prop_map(|pages| (pages * 0x1000) | 2),
        any::<u64>(),
    ];
    let words = prop::collection::vec((0_u64..0x8_0000, word), 0..400);
    let thread = (1_i32..5, 0_u64..0x8_0000);
    let run = (0_u64..64, 0_u64..8, any::<[bool; 4]>());
    (
        prop::collection::vec(region, 0..30),
        words,
        prop::collection::vec(thread, 0..5),
        prop::collection::vec(run, 0..20),
        any::<[u64; 4]>(),
        any::<bool>(),
    )
        .prop_map(|(regions, words, threads, runs, odd, huge)| {
            let mut fake = program();
            with_lists(&mut fake);
            // Either a small space where ranges collide, or one with heaps of 64 MiB.
            let scale = if huge { 4 * MIB } else { 0x1_0000 };
            for (page, pages, perms, name, usage) in regions {
                let perms = ["rw-p", "---p", "r--p", "r-xp", "rw-s", "rwxp"][perms];
                let name = ["", "", "[heap]", "[stack]", "/w/prog", "[anon: glibc: malloc]", "/x"][name];
                let region = fake.region((page * scale, (page + pages) * scale), perms, name);
                let usage_of = region.usage.as_mut().unwrap();
                (usage_of.resident_bytes, usage_of.anon_bytes) = (u64::from(usage[0]) * 4096, u64::MAX - u64::from(usage[1]));
                region.flags = Some(VmFlags::new(vec![*b"nh", *b"gu"]));
            }
            for (at, word) in words {
                fake.words(at * 8 * (scale / 0x1_0000), &[word]);
            }
            for (tid, base) in threads {
                fake.thread(tid, "t", base * 64);
            }
            for (page, pages, [resident, anon, swapped, guard]) in runs {
                let run = fake.run(page * scale, (page + pages) * scale);
                (run.resident, run.anon, run.swapped, run.guard) = (resident, anon, swapped, guard);
            }
            fake.capture.start_brk = Some(odd[0]);
            fake.capture.start_stack = Some(odd[1]);
            fake.patched(odd[2]);
            fake.patched(0x10_1000);
            if huge {
                fake.capture.objects[0].bias = odd[3];
            }
            fake
        })
}

/// Words that point where the main arena would begin below the address space.
#[test]
fn a_forged_arena_at_the_lowest_addresses_is_none() {
    let mut fake = Fake::new();
    fake.object(ObjectKind::Executable, "/w/prog", 0, &[(6, 0, 0x2000, 0x2000)], None);
    fake.region((0, 0x2000), "rw-p", "/w/prog");
    fake.words(0, &[0x800_u64.wrapping_neg(), 0x7f8_u64.wrapping_neg()]);
    let map = fake.classify();
    assert_eq!(map.malloc, None);
}

proptest! {
    #[test]
    fn whatever_the_process_holds_every_byte_has_one_role(fake in chaos()) {
        let map = fake.classify();
        let _ = map.by_role();
        for metric in Metric::all() {
            let _ = map.metric(&metric);
        }
    }

    #[test]
    fn the_order_of_regions_does_not_matter(fake in chaos(), seed in any::<u64>()) {
        let mut fake = fake;
        fake.capture.regions.sort_by_key(|region| region.start);
        fake.capture.regions.dedup_by_key(|region| region.start);
        let map = fake.classify();
        let mut key = seed | 1;
        fake.capture.regions.sort_by_cached_key(|_| {
            key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            key >> 20
        });
        prop_assert_eq!(map, fake.classify());
    }

    #[test]
    fn forged_descriptors_and_heaps_stay_inside_what_is_mapped(words in prop::collection::vec((0_u64..0x1_0000, any::<u64>()), 0..64)) {
        let mut fake = threads();
        for (at, word) in words {
            fake.words(0x1000_0000 + at * 8 * 16, &[word]);
        }
        let map = fake.classify();
        prop_assert_eq!(map.process.reserved, Some(map.pieces.iter().map(|p| p.end - p.start).sum()));
    }
}
