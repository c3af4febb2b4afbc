//! AArch64 without such a machine: threads in the memory of a made-up process whose C library and loader are Debian's own for it,
//! and the constants of the tracer's one file against the headers for it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use memcheck_harness::classify::classify;
use memcheck_harness::elf;
use memcheck_harness::model::{
    Capture, ElfFacts, Memory, MemoryMap, Metric, Name, Object, ObjectKind, PageRun, Perms, Recording, Region, SegmentKind,
    StackState, Status, Thread, Usage, VmFlags, Wanted,
};
use tempfile::TempDir;

use crate::stop::show;
use crate::tools::{command, output, root};

const LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";
const LIBC: u64 = 0x7f00_0000_0000;
const LOADER: u64 = 0x7f10_0000_0000;
const STACKS: u64 = 0x7f20_0000_0000;
const STACK: u64 = 1 << 20;

/// Words that were made up, over the files' own bytes.
struct Made {
    words: BTreeMap<u64, u64>,
    files: Vec<(u64, File, Arc<ElfFacts>)>,
}

impl Made {
    fn byte(&self, address: u64) -> Option<u8> {
        if let Some(word) = self.words.get(&(address & !7)) {
            return Some(word.to_le_bytes()[(address & 7) as usize]);
        }
        if (STACKS..STACKS + 16 * STACK).contains(&address) {
            return Some(0);
        }
        self.files.iter().find_map(|(bias, file, facts)| {
            let at = address.checked_sub(*bias)?;
            let load = facts
                .segments
                .iter()
                .find(|load| load.kind == SegmentKind::Load && (load.vaddr..load.vaddr + load.memsz).contains(&at))?;
            let inside = at - load.vaddr;
            let mut byte = [0];
            if inside < load.filesz {
                file.read_exact_at(&mut byte, load.offset + inside).ok()?;
            }
            Some(byte[0])
        })
    }

    fn set(&mut self, address: u64, words: &[u64]) {
        self.words.extend((address..).step_by(8).zip(words.iter().copied()));
    }
}

impl Memory for Made {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        (address..).zip(buffer).all(|(at, byte)| {
            let found = self.byte(at);
            *byte = found.unwrap_or(0);
            found.is_some()
        })
    }

    fn pages(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        Some(vec![PageRun {
            start,
            end,
            resident: true,
            anon: true,
            swapped: false,
            guard: false,
        }])
    }

    fn search(&self, start: u64, end: u64, wanted: &mut Wanted<'_>) -> Vec<u64> {
        let mut found = Vec::new();
        for (at, word) in self.words.range(start..end.max(start)) {
            wanted(*at, &[word.to_le_bytes()], &mut found);
        }
        found
    }
}

/// Every dynamic symbol of a file that classification may ask for.
fn symbols(file: &File) -> BTreeMap<String, u64> {
    let wanted: Vec<String> = elf::variables(file).unwrap().into_iter().map(|found| found.raw).collect();
    let plain: Vec<&str> = wanted.iter().map(|name| name.split('@').next().unwrap_or(name)).collect();
    elf::symbols(file, &plain).unwrap()
}

fn library(name: &str, bias: u64, kind: ObjectKind) -> (File, Object) {
    let path = Path::new(LIBRARIES).join(name);
    let file = File::open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: install libc6-dev-arm64-cross (.ci/run does)", path.display()));
    let facts = elf::facts(&file).unwrap();
    assert_eq!(facts.machine, 183);
    let object = Object {
        path: Name::from(path.to_str().unwrap()),
        dev: (1, 1),
        inode: bias >> 32,
        kind,
        bias,
        facts: Some(Arc::new(facts)),
        facts_missing: None,
        symbols: Arc::new(symbols(&file)),
        constants: Arc::default(),
    };
    (file, object)
}

fn region((start, end): (u64, u64), flags: u32, object: Option<&Object>) -> Region {
    Region {
        start,
        end,
        perms: Perms {
            read: flags & 4 != 0,
            write: flags & 2 != 0,
            execute: flags & 1 != 0,
            shared: false,
        },
        offset: 0,
        dev: object.map_or((0, 0), |object| object.dev),
        inode: object.map_or(0, |object| object.inode),
        name: object.map_or(Name::default(), |object| object.path.clone()),
        usage: Some(Usage::default()),
        flags: Some(VmFlags::default()),
    }
}

/// Four threads, on stacks of 1 MiB each with a guard page: main's in the loader's memory, one that lives, one that ended and
/// was not joined, one that is cached, one whose stack the program supplied.
fn process(offsets: &dyn Fn(&str) -> u64, with_descriptors: bool) -> MemoryMap {
    let (libc_file, mut libc) = library("libc.so.6", LIBC, ObjectKind::Library);
    let (loader_file, loader) = library("ld-linux-aarch64.so.1", LOADER, ObjectKind::Interpreter);
    let list = offsets("pthread_list");
    let size = offsets("sizeof_pthread");
    let head = |name: &str| LOADER + loader.symbols["_rtld_global"] + offsets(&format!("rtld_global__{name}"));
    // glibc keeps the three lists side by side; for the third it has no descriptor.
    let heads = [head("dl_stack_used"), head("dl_stack_user")];
    let cache = heads.iter().max().unwrap() + 16;
    let mut memory = Made {
        words: BTreeMap::new(),
        files: Vec::new(),
    };
    let pd = |n: u64| STACKS + (n + 1) * STACK - size.next_multiple_of(64);
    for n in 0..5 {
        // stackblock, stackblock_size, guardsize: 32 bytes after `nextevent`, aligned (nptl/descr.h).
        let stack = ((offsets("pthread_nextevent") + 8).next_multiple_of(16)) + 32;
        let block = [STACKS + n * STACK, STACK, 4096];
        memory.set(pd(n) + stack, if n == 4 { &[0, 0, 0] } else { &block });
        memory.set(pd(n) + list, &[0, 0]);
    }
    // The thread that ended says so (EXITING in `cancelhandling`, 0x48 after the list).
    memory.set(pd(1) + list + 0x48, &[0x10]);
    let mut ring = |head: u64, members: &[u64]| {
        let nodes: Vec<u64> = std::iter::once(head).chain(members.iter().map(|n| pd(*n) + list)).collect();
        for (i, node) in nodes.iter().enumerate() {
            let next = nodes[(i + 1) % nodes.len()];
            let before = nodes[(i + nodes.len() - 1) % nodes.len()];
            memory.set(*node, &[next, before]);
        }
    };
    ring(heads[0], &[0, 1]);
    ring(heads[1], &[3, 4]);
    ring(cache, &[2]);
    let thread = |tid: i32, n: u64| Thread {
        tid,
        name: Name::from("t"),
        stack_pointer: Some(0),
        program_counter: Some(0),
        // On AArch64 the descriptor ends where TPIDR_EL0 points.
        tls_base: Some(pd(n) + size),
    };
    let mut regions = Vec::new();
    for object in [&libc, &loader] {
        for load in &object.facts.as_ref().unwrap().segments {
            if load.kind == SegmentKind::Load {
                let start = (object.bias + load.vaddr) & !0xfff;
                let end = (object.bias + load.vaddr + load.memsz).next_multiple_of(4096);
                regions.push(region((start, end), load.flags, Some(object)));
            }
        }
    }
    regions.push(region((STACKS, STACKS + 5 * STACK), 6, None));
    if !with_descriptors {
        Arc::make_mut(&mut libc.symbols).retain(|name, _| !name.starts_with("_thread_db_"));
    }
    memory.files = vec![
        (LIBC, libc_file, libc.facts.clone().unwrap()),
        (LOADER, loader_file, loader.facts.clone().unwrap()),
    ];
    let capture = Capture {
        page_bytes: 4096,
        pid: 1,
        exe: Name::from("/w/program"),
        regions,
        status: Status::default(),
        stack_limit_bytes: Some(8 << 20),
        auxv: Vec::new(),
        start_brk: None,
        start_stack: None,
        threads: vec![thread(1, 4), thread(7, 0), thread(8, 3)],
        objects: vec![libc, loader],
        patched: Vec::new(),
        finished_stacks: None,
        by_mappings: false,
        without_chunks: false,
        joined_mappings: 0,
        tree: None,
        recording: Recording::default(),
    };
    classify(&capture, &memory, &|_| false)
}

/// What libc's own descriptors say: `u32[3]` (bits, count, offset), or one `u32` for a size. Read by readelf's addresses.
fn descriptor(name: &str) -> u64 {
    let path = Path::new(LIBRARIES).join("libc.so.6");
    let text = output(command("readelf").args(["-W", "--dyn-syms"]).arg(&path));
    let symbol = format!("_thread_db_{name}@");
    let line = text
        .lines()
        .find(|line| line.contains(&format!(" {symbol}")))
        .unwrap_or_else(|| panic!("{symbol}"));
    let address = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    let headers = output(command("readelf").args(["-W", "-l"]).arg(&path));
    let (offset, vaddr) = headers
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |i: usize| u64::from_str_radix(words.get(i)?.trim_start_matches("0x"), 16).ok();
            (words.first() == Some(&"LOAD"))
                .then(|| Some((number(1)?, number(2)?, number(4)?)))
                .flatten()
        })
        .find(|(_, vaddr, size)| (*vaddr..vaddr + size).contains(&address))
        .map(|(offset, vaddr, _)| (offset, vaddr))
        .unwrap();
    let at = offset + (address - vaddr) + if name.starts_with("sizeof") { 0 } else { 8 };
    let mut word = [0; 4];
    File::open(&path).unwrap().read_exact_at(&mut word, at).unwrap();
    u64::from(u32::from_le_bytes(word))
}

#[track_caller]
fn states_are_right(map: &MemoryMap) {
    assert!(map.thread_lists_known, "{}", show(map));
    let states: Vec<_> = map.threads.iter().map(|t| (t.tid, t.main, t.state, t.user_stack)).collect();
    assert_eq!(
        states,
        [
            (Some(1), true, StackState::Live, false),
            (Some(7), false, StackState::Live, false),
            (None, false, StackState::Exited, false),
            (None, false, StackState::Cached, false),
            (Some(8), false, StackState::Live, true),
        ],
        "{}",
        show(map)
    );
    for name in ["live", "exited", "cached", "user"] {
        let metric = |measure: &str| map.metric(&Metric::parse(&format!("thread-stack.{name}.{measure}")).unwrap());
        assert_eq!(
            (metric("count"), metric("reserved")),
            (Some(1), Some(STACK - 4096)),
            "{name}\n{}",
            show(map)
        );
    }
}

#[test]
fn threads_of_a_process_with_the_real_libc_of_aarch64() {
    let offsets = |name: &str| descriptor(name);
    states_are_right(&process(&offsets, true));
    // Where the page with the descriptors is not in memory: by the table, and by what the main thread's list leads to.
    states_are_right(&process(&offsets, false));
    assert_eq!(offsets("pthread_list"), 0xc0, "as the table has it");
}

/// The constants of the tracer for AArch64, which are not even compiled here, and the headers for that machine.
#[test]
fn registers_and_frames_are_those_of_the_kernels_headers() {
    let source = fs::read_to_string(root().join("memcheck-harness/src/trace/arch.rs")).unwrap();
    let part = source.split("//! AArch64").nth(1).unwrap();
    let constant = |name: &str| -> String {
        let line = part
            .lines()
            .find_map(|line| line.split_once(&format!("const {name}: ")))
            .unwrap_or_else(|| panic!("{name}"));
        line.1.split_once(" = ").unwrap().1.trim_end_matches(';').replace('_', "")
    };
    let program = format!(
        "#define _GNU_SOURCE\n#include <stddef.h>\n#include <elf.h>\n#include <signal.h>\n#include <ucontext.h>\n#include <asm/ptrace.h>\n\
         #define SAME(a, b) _Static_assert((a) == (b), #a)\n\
         SAME(sizeof(struct user_pt_regs), 8 * {words});\nSAME(offsetof(struct user_pt_regs, pc), 8 * {pc});\n\
         SAME(offsetof(struct user_pt_regs, sp), 8 * {sp});\nSAME(offsetof(struct user_pt_regs, regs), 8 * {argument});\n\
         SAME(NT_ARM_TLS, {tls});\nSAME(NT_ARM_SYSTEM_CALL, {call});\n\
         SAME(sizeof(siginfo_t) + offsetof(ucontext_t, uc_mcontext.pc), {frame_pc});\n\
         SAME(sizeof(siginfo_t) + offsetof(ucontext_t, uc_mcontext.sp), {frame_sp});\nSAME(TRAP_BRKPT, {trap});\n",
        words = constant("WORDS"),
        pc = constant("PC"),
        sp = constant("SP"),
        argument = constant("ARGUMENT"),
        tls = constant("NT_ARM_TLS"),
        call = constant("NT_ARM_SYSTEM_CALL"),
        frame_pc = constant("FRAME_PC"),
        frame_sp = constant("FRAME_SP"),
        trap = constant("TRAP_CODE"),
    );
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("constants.c");
    fs::write(&file, program).unwrap();
    let _ = output(command("aarch64-linux-gnu-gcc").args(["-c", "-o", "/dev/null"]).arg(&file));
}
