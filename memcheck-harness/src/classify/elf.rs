//! Claims of loaded objects: each segment by its program headers, the relocated read-only part cut out, zero-initialised
//! tails beyond the file. An object whose headers are not known is claimed by access bits.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Evidence, Hardening, Name, Object, ObjectKind, Role, Segment, SegmentKind};

use super::interval::{Claims, ItemId, Priority, certain, likely};
use super::process::{Area, Notes, Process, overlapping};

/// Program headers of one object we look at. Linkers write about ten; the bound keeps a forged file cheap.
const MAX_SEGMENTS: usize = 128;

/// An object that the program or the loader loaded.
pub(super) struct Loaded<'p> {
    object: &'p Object,
    /// The program's own (meaningless for the executable).
    pub(super) own: bool,
    /// File name.
    pub(super) name: Name,
}

impl Loaded<'_> {
    pub(super) fn kind(&self) -> ObjectKind {
        self.object.kind
    }

    pub(super) fn hardening(&self) -> Option<Hardening> {
        self.object.facts.as_ref().map(|facts| facts.hardening)
    }

    fn needs(&self) -> impl Iterator<Item = &Name> {
        self.object.facts.iter().flat_map(|facts| &facts.needed)
    }
}

/// Which loaded libraries are named as needed, and by whom. The loader compares `DT_NEEDED` with sonames and with the names
/// under which it found a file (glibc's elf/dl-load.c, `_dl_map_object`).
pub(super) fn needed(loaded: &[Loaded<'_>]) -> BTreeMap<Name, BTreeSet<Name>> {
    let mut found: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for library in loaded.iter().filter(|object| object.kind() != ObjectKind::Executable) {
        let soname = library.object.facts.as_ref().and_then(|facts| facts.soname.as_ref());
        let is_it = |name: &Name| soname == Some(name) || library.name.as_bytes() == name.file_name_bytes();
        let who = found.entry(library.name.clone()).or_default();
        who.clear();
        for object in loaded.iter().filter(|object| object.needs().any(is_it)) {
            who.insert(object.name.clone());
        }
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Headers,
    Text,
    Rodata,
    Relro,
    Data,
    Bss,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Exe,
    Lib,
    Platform,
}

fn role(owner: Owner, part: Part) -> Role {
    match (owner, part) {
        (Owner::Platform, _) => Role::Platform,
        (Owner::Exe, Part::Headers) => Role::ExeHeaders,
        (Owner::Exe, Part::Text) => Role::ExeText,
        (Owner::Exe, Part::Rodata) => Role::ExeRodata,
        (Owner::Exe, Part::Relro) => Role::ExeRelro,
        (Owner::Exe, Part::Data) => Role::ExeData,
        (Owner::Exe, Part::Bss) => Role::ExeBss,
        (Owner::Lib, Part::Headers) => Role::LibHeaders,
        (Owner::Lib, Part::Text) => Role::LibText,
        (Owner::Lib, Part::Rodata) => Role::LibRodata,
        (Owner::Lib, Part::Relro) => Role::LibRelro,
        (Owner::Lib, Part::Data) => Role::LibData,
        (Owner::Lib, Part::Bss) => Role::LibBss,
    }
}

/// The claims of one object.
struct Claimer<'p, 'c> {
    process: &'p Process<'p>,
    /// The areas that its segments may lie in.
    areas: &'p [Area<'p>],
    claims: &'c mut Claims,
    object: &'p Object,
    owner: Owner,
    file: &'c Name,
    /// System objects are one item each; of own ones each segment is.
    whole: Option<ItemId>,
}

/// Claims all loaded objects. Objects that are only mapped as data claim nothing and are not returned.
pub(super) fn claim<'p>(
    process: &'p Process<'p>,
    own: &dyn Fn(&Name) -> bool,
    claims: &mut Claims,
    notes: &mut Notes,
) -> Vec<Loaded<'p>> {
    let mut loaded = Vec::with_capacity(process.capture.objects.len());
    for object in &process.capture.objects {
        let own = object.kind != ObjectKind::Executable && own(&object.path);
        let owner = match object.kind {
            ObjectKind::Executable => Owner::Exe,
            _ if own => Owner::Lib,
            _ => Owner::Platform,
        };
        let name = object.path.file_name();
        let mut claimer = Claimer {
            process,
            areas: &process.areas,
            claims,
            object,
            owner,
            file: &name,
            whole: None,
        };
        let is_loaded = match &object.facts {
            Some(facts) => claimer.by_headers(&facts.segments),
            None => {
                let reason = object.facts_missing.as_deref().unwrap_or("unknown reason");
                notes.add(format!(
                    "The headers of {} are not known ({reason}): its segments are told by access bits.",
                    object.path
                ));
                claimer.by_access();
                true
            }
        };
        if is_loaded {
            loaded.push(Loaded { object, own, name });
        }
    }
    loaded
}

impl Claimer<'_, '_> {
    fn item(&mut self, part: Part) -> ItemId {
        if self.owner == Owner::Platform {
            let (claims, file) = (&mut *self.claims, self.file);
            return *self
                .whole
                .get_or_insert_with(|| claims.item(Role::Platform, file.clone(), None));
        }
        self.claims.item(role(self.owner, part), self.file.clone(), None)
    }

    fn is_mine(&self, area: &Area<'_>) -> bool {
        area.region.inode != 0 && (area.region.dev, area.region.inode) == (self.object.dev, self.object.inode)
    }

    /// The program may have replaced pages of a segment (huge pages for text), and zero-initialised data has no file;
    /// a foreign file or shared memory at these addresses belongs to somebody else.
    fn may_be_mine(&self, area: &Area<'_>) -> bool {
        self.is_mine(area)
            || (!area.region.perms.shared && (area.private_anonymous() || area.region.name.as_bytes() == b"[heap]"))
    }

    fn add(&mut self, (start, end): (u64, u64), priority: Priority, part: Part, evidence: &Evidence) {
        if start >= end {
            return;
        }
        let mut item = None;
        for area in overlapping(self.areas, start, end) {
            if !self.may_be_mine(area) {
                continue;
            }
            let item = *item.get_or_insert_with(|| self.item(part));
            // Not protected yet, or by a libc that never does it for such a program (musl, for static ones at fixed addresses).
            let evidence = if part == Part::Relro && area.region.perms.write {
                certain("PT_GNU_RELRO, and writable now")
            } else {
                evidence.clone()
            };
            self.claims
                .add((start.max(area.start), end.min(area.end)), priority, item, evidence);
        }
    }

    /// False when the file is mapped as data only: its bytes do not lie where its headers want them.
    fn by_headers(&mut self, segments: &[Segment]) -> bool {
        let process = self.process;
        let bias = self.object.bias;
        let at = |vaddr: u64| bias.wrapping_add(vaddr);
        let loads: Vec<&Segment> = segments
            .iter()
            .filter(|segment| segment.kind == SegmentKind::Load)
            .take(MAX_SEGMENTS)
            .collect();
        if self.object.kind == ObjectKind::Library && !self.is_loaded(&loads) {
            return false;
        }
        // Of each, where it begins, where its file ends, and where it ends.
        let bounds = |load: &Segment| {
            let start = process.down(at(load.vaddr));
            let file_end = if load.filesz == 0 {
                start
            } else {
                process.up(at(load.vaddr.wrapping_add(load.filesz)))
            };
            let end = process.up(at(load.vaddr.wrapping_add(load.memsz))).max(file_end);
            (start, file_end, end)
        };
        let (first, last) = loads.iter().fold((u64::MAX, 0), |(first, last), load| {
            let (start, file_end, end) = bounds(load);
            (first.min(start).min(file_end), last.max(end))
        });
        self.areas = process.areas_in(first, last);
        let text_at = loads.iter().filter(|load| load.flags & 1 != 0).map(|load| load.vaddr).min();
        for load in &loads {
            let part = match load.flags {
                flags if flags & 2 != 0 => Part::Data,
                flags if flags & 1 != 0 => Part::Text,
                _ if text_at.is_some_and(|text| load.vaddr < text) => Part::Headers,
                _ => Part::Rodata,
            };
            let (start, file_end, end) = bounds(load);
            self.add((start, file_end), Priority::Segment, part, &certain("program header"));
            self.add(
                (file_end, end),
                Priority::Segment,
                Part::Bss,
                &certain("program header, beyond the file"),
            );
        }
        for relro in segments
            .iter()
            .filter(|segment| segment.kind == SegmentKind::GnuRelro)
            .take(1)
        {
            // The loader protects whole pages only and rounds both ends down: _dl_protect_relro in glibc's elf/dl-reloc.c.
            let (start, end) = (
                process.down(at(relro.vaddr)),
                process.down(at(relro.vaddr.wrapping_add(relro.memsz))),
            );
            for load in loads.iter().filter(|load| load.flags & 2 != 0) {
                let (from, to) = (
                    process.down(at(load.vaddr)),
                    process.up(at(load.vaddr.wrapping_add(load.memsz))),
                );
                self.add(
                    (start.max(from), end.min(to)),
                    Priority::Relro,
                    Part::Relro,
                    &certain("PT_GNU_RELRO"),
                );
            }
        }
        self.holes(&loads);
        true
    }

    /// Old linkers spread the segments of a library over 2 MiB steps; what lies between stays mapped without access.
    fn holes(&mut self, loads: &[&Segment]) {
        let bias = self.object.bias;
        let (Some(first), Some(last)) = (
            loads.iter().map(|load| bias.wrapping_add(load.vaddr)).min(),
            loads
                .iter()
                .map(|load| bias.wrapping_add(load.vaddr.wrapping_add(load.memsz)))
                .max(),
        ) else {
            return;
        };
        let process = self.process;
        for area in overlapping(self.areas, process.down(first), process.up(last)) {
            let perms = area.region.perms;
            if !(perms.read || perms.write || perms.execute) && self.may_be_mine(area) {
                let range = (area.start.max(process.down(first)), area.end.min(process.up(last)));
                self.add(
                    range,
                    Priority::Hole,
                    Part::Rodata,
                    &certain("hole between the segments of an object"),
                );
            }
        }
    }

    /// Mapped as its headers say, code as code. A debugger or a symbolizer maps whole files flat instead.
    fn is_loaded(&self, loads: &[&Segment]) -> bool {
        let consistent = |load: &&&Segment| {
            let start = self.process.down(self.object.bias.wrapping_add(load.vaddr));
            self.process.area_at(start).is_some_and(|area| {
                self.is_mine(area)
                    && !area.region.perms.shared
                    && area.region.offset.wrapping_add(start - area.start) == self.process.down(load.offset)
                    && (load.flags & 1 == 0 || area.region.perms.execute)
            })
        };
        let with_file = || loads.iter().filter(|load| load.filesz > 0);
        if with_file().any(|load| load.flags & 1 != 0) {
            with_file().filter(|load| load.flags & 1 != 0).any(|load| consistent(&load))
        } else {
            with_file().next().is_some() && with_file().all(|load| consistent(&load))
        }
    }

    fn by_access(&mut self) {
        let process = self.process;
        let text_at = process
            .areas
            .iter()
            .find(|area| self.is_mine(area) && area.region.perms.execute)
            .map(|area| area.start);
        let mut data_end = None;
        for area in process.areas.iter().filter(|area| !area.region.perms.shared) {
            if !self.is_mine(area) {
                if data_end == Some(area.start) && area.plain_memory() && area.region.name.is_empty() {
                    self.add(
                        (area.start, area.end),
                        Priority::Segment,
                        Part::Bss,
                        &likely("follows the data of an object"),
                    );
                }
                continue;
            }
            let perms = area.region.perms;
            let part = if perms.write {
                Part::Data
            } else if perms.execute {
                Part::Text
            } else if area.flag(b"ac") {
                // An accounted read-only file mapping was writable once.
                Part::Relro
            } else if text_at.is_some_and(|text| area.start < text) {
                Part::Headers
            } else {
                Part::Rodata
            };
            data_end = perms.write.then_some(area.end);
            self.add(
                (area.start, area.end),
                Priority::Segment,
                part,
                &likely("access bits of an object without known headers"),
            );
        }
    }
}
