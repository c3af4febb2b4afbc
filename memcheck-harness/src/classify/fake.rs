//! A fabricated process for tests: regions, words of memory and resident pages, in a few lines each. Tests only.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Capture, Class, ElfFacts, ElfType, Hardening, Memory, MemoryMap, Name, Object, ObjectKind, PageRun, PatchedPage, Perms,
    Recording, Region, Relro, Segment, SegmentKind, Status, Thread, Usage, UsageDetail, VmFlags, Wanted,
};

/// A process whose pages are all resident unless said otherwise.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) capture: Capture,
    words: BTreeMap<u64, u64>,
    /// Answer of every page scan; `None` makes scans fail.
    pub(super) runs: Option<Vec<PageRun>>,
}

impl Memory for Fake {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        for (i, byte) in buffer.iter_mut().enumerate() {
            let at = address + i as u64;
            let word = self.words.get(&(at & !7)).copied().unwrap_or(0);
            *byte = word.to_le_bytes()[(at & 7) as usize];
        }
        true
    }

    fn pages(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let clip = |run: &PageRun| PageRun {
            start: run.start.max(start),
            end: run.end.min(end),
            ..*run
        };
        let runs = self.runs.as_ref()?;
        Some(runs.iter().map(clip).filter(|run| run.start < run.end).collect())
    }

    /// Words that nobody set are zero, and nobody looks for those.
    fn search(&self, start: u64, end: u64, wanted: &mut Wanted<'_>) -> Vec<u64> {
        let mut found = Vec::new();
        for (at, word) in self.words.range(start..end.max(start)) {
            wanted(*at, &[word.to_le_bytes()], &mut found);
        }
        found
    }
}

impl Fake {
    pub(super) fn new() -> Self {
        Self {
            capture: Capture {
                page_bytes: 4096,
                pid: 1,
                exe: Name::from("/w/prog"),
                regions: vec![],
                status: Status::default(),
                stack_limit_bytes: Some(8 << 20),
                auxv: vec![],
                start_brk: None,
                start_stack: None,
                threads: vec![],
                objects: vec![],
                patched: vec![],
                finished_stacks: None,
                joined_mappings: 0,
                tree: None,
                by_mappings: false,
                without_chunks: false,
                recording: Recording::default(),
            },
            words: BTreeMap::new(),
            runs: Some(vec![]),
        }
    }

    /// A region; a name with a slash makes it a file whose inode is its name's length.
    pub(super) fn region(&mut self, (start, end): (u64, u64), perms: &str, name: &str) -> &mut Region {
        let has = |c| perms.contains(c);
        let inode = if name.contains('/') { name.len() as u64 } else { 0 };
        self.capture.regions.push(Region {
            start,
            end,
            perms: Perms {
                read: has('r'),
                write: has('w'),
                execute: has('x'),
                shared: has('s'),
            },
            offset: 0,
            dev: (0, 0),
            inode,
            name: Name::from(name),
            usage: Some(Usage {
                detail: Some(UsageDetail::default()),
                ..Usage::default()
            }),
            flags: Some(VmFlags::default()),
        });
        self.capture.regions.last_mut().unwrap()
    }

    pub(super) fn words(&mut self, at: u64, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            self.words.insert(at + 8 * i as u64, *word);
        }
    }

    pub(super) fn thread(&mut self, tid: i32, name: &str, tls_base: u64) {
        self.capture.threads.push(Thread {
            tid,
            name: Name::from(name),
            stack_pointer: Some(0),
            program_counter: Some(0),
            tls_base: Some(tls_base),
        });
    }

    pub(super) fn patched(&mut self, address: u64) {
        self.capture.patched.push(PatchedPage { address });
    }

    /// An object with load segments (flags, vaddr, filesz, memsz) and its relro range (vaddr, memsz).
    pub(super) fn object(
        &mut self,
        kind: ObjectKind,
        path: &str,
        bias: u64,
        loads: &[(u32, u64, u64, u64)],
        relro: Option<(u64, u64)>,
    ) -> &mut Object {
        let segment = |kind, flags, vaddr, filesz, memsz| Segment {
            kind,
            flags,
            offset: vaddr,
            vaddr,
            filesz,
            memsz,
            align: 4096,
        };
        let mut segments: Vec<Segment> = loads
            .iter()
            .map(|(flags, vaddr, filesz, memsz)| segment(SegmentKind::Load, *flags, *vaddr, *filesz, *memsz))
            .collect();
        segments.extend(relro.map(|(vaddr, memsz)| segment(SegmentKind::GnuRelro, 4, vaddr, memsz, memsz)));
        self.capture.objects.push(Object {
            path: Name::from(path),
            dev: (0, 0),
            inode: path.len() as u64,
            kind,
            bias,
            facts: Some(Arc::new(ElfFacts {
                class: Class::Elf64,
                machine: 62,
                elf_type: ElfType::Dyn,
                entry: 0,
                segments,
                interpreter: None,
                soname: None,
                needed: vec![],
                rpath: None,
                runpath: None,
                build_id: None,
                hardening: Hardening {
                    relro: Relro::Full,
                    nx: true,
                    pie: true,
                    canary: None,
                },
            })),
            facts_missing: None,
            symbols: Arc::default(),
            constants: Arc::default(),
        });
        self.capture.objects.last_mut().unwrap()
    }

    pub(super) fn run(&mut self, start: u64, end: u64) -> &mut PageRun {
        let run = PageRun {
            start,
            end,
            resident: true,
            anon: true,
            swapped: false,
            guard: false,
        };
        let runs = self.runs.get_or_insert_default();
        runs.push(run);
        runs.last_mut().unwrap()
    }

    /// The classified process; objects below `/w/` are own. Checks what holds for every map.
    pub(super) fn classify(&self) -> MemoryMap {
        let own = |path: &Name| path.as_bytes().starts_with(b"/w/");
        let map = super::classify(&self.capture, self, &own);
        covers_every_byte_once(&self.capture, &map);
        map
    }

    /// (start, end, role name) of each piece.
    pub(super) fn labels(&self) -> Vec<(u64, u64, &'static str)> {
        self.classify()
            .pieces
            .iter()
            .map(|piece| (piece.start, piece.end, piece.role.name()))
            .collect()
    }
}

/// The invariants of a map: pieces in order, no overlap, all of every region, one item each of the same role.
pub(super) fn covers_every_byte_once(capture: &Capture, map: &MemoryMap) {
    let mut covered: Vec<(u64, u64)> = vec![];
    for piece in &map.pieces {
        assert!(piece.start < piece.end);
        assert_eq!(map.items[piece.item].role, piece.role);
        match covered.last_mut() {
            Some(last) if last.1 == piece.start => last.1 = piece.end,
            last => {
                assert!(last.is_none_or(|last| last.1 < piece.start), "in order, none overlaps");
                covered.push((piece.start, piece.end));
            }
        }
    }
    let mut wanted: Vec<(u64, u64)> = vec![];
    let mut regions: Vec<&Region> = capture
        .regions
        .iter()
        .filter(|region| region.start < region.end && region.name.as_bytes() != b"[vsyscall]")
        .collect();
    regions.sort_by_key(|region| region.start);
    for region in regions {
        match wanted.last_mut() {
            Some(last) if last.1 >= region.start => last.1 = last.1.max(region.end),
            _ => wanted.push((region.start, region.end)),
        }
    }
    assert_eq!(covered, wanted);
}
