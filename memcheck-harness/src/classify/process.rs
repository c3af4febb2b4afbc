//! `Process`: the capture as classification looks at it: regions in order without overlaps, bounded reads, each page scan
//! asked once. It knows no role.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::model::{Capture, Memory, Note, Object, ObjectKind, PageRun, Region, Segment, SegmentKind};

/// A region clipped so that no two overlap.
pub(super) struct Area<'a> {
    /// First address.
    pub(super) start: u64,
    /// One past the last address.
    pub(super) end: u64,
    /// What the kernel says of it.
    pub(super) region: &'a Region,
    /// Everybody asks.
    anonymous: Anonymous,
}

/// Whether a region is private memory of no file, and how that may be accessed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anonymous {
    /// It is not.
    No,
    /// Read and written.
    Plain,
    /// Not at all.
    Inaccessible,
    /// In another way.
    Other,
}

impl Anonymous {
    fn of(region: &Region) -> Self {
        let perms = region.perms;
        let name = region.name.as_bytes();
        let of_no_file = || region.inode == 0 && (name.is_empty() || name.starts_with(b"[anon:") || name.starts_with(b"[stack:"));
        if perms.shared || !(of_no_file() || name == b"/anon_hugepage (deleted)") {
            Self::No
        } else if perms.read && perms.write {
            Self::Plain
        } else if perms.read || perms.write || perms.execute {
            Self::Other
        } else {
            Self::Inaccessible
        }
    }
}

impl Area<'_> {
    /// Private memory of no file, the special regions of the kernel (`[heap]`, `[stack]`, `[vdso]`) left out.
    /// With huge pages glibc's heaps appear as a deleted `/anon_hugepage`; old kernels name stacks `[stack:TID]`.
    pub(super) fn private_anonymous(&self) -> bool {
        self.anonymous != Anonymous::No
    }

    /// Readable and writable, private and of no file.
    pub(super) fn plain_memory(&self) -> bool {
        self.anonymous == Anonymous::Plain
    }

    /// Not accessible at all, private and of no file.
    pub(super) fn inaccessible(&self) -> bool {
        self.anonymous == Anonymous::Inaccessible
    }

    /// A `VmFlags` code is known to be set.
    pub(super) fn flag(&self, code: &[u8; 2]) -> bool {
        self.region.flags.as_ref().is_some_and(|flags| flags.has(code))
    }

    pub(super) fn size(&self) -> u64 {
        self.end - self.start
    }
}

/// Those of the areas, which are in order, that overlap a range.
pub(super) fn overlapping<'p, 'a>(areas: &'p [Area<'a>], start: u64, end: u64) -> &'p [Area<'a>] {
    let from = areas.partition_point(|area| area.end <= start);
    let rest = areas.get(from..).unwrap_or(&[]);
    rest.get(..rest.partition_point(|area| area.start < end)).unwrap_or(&[])
}

/// Remarks, each once, in a stable order.
#[derive(Default)]
pub(super) struct Notes(BTreeSet<Note>);

impl Notes {
    pub(super) fn add(&mut self, text: impl Into<String>) {
        self.0.insert(Note { text: text.into() });
    }

    pub(super) fn into_vec(self) -> Vec<Note> {
        self.0.into_iter().collect()
    }
}

/// An area, and a region of the file whose objects may have static data there.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) area: &'p Area<'p>,
    owner: Option<&'p Region>,
}

/// Shared memory is never read: it may be a device.
fn readable(area: &Area<'_>) -> bool {
    area.region.perms.read && !area.region.perms.shared
}

/// Page runs of one area, sorted; absent when the kernel could not tell.
type Runs = Option<Rc<[PageRun]>>;

/// A capture with its memory.
pub(super) struct Process<'a> {
    pub(super) capture: &'a Capture,
    /// Bytes per page, a power of two.
    pub(super) page: u64,
    pub(super) areas: Vec<Area<'a>>,
    memory: &'a dyn Memory,
    /// By start of the area. Asking once keeps a recording small and its replay exact.
    scans: RefCell<BTreeMap<u64, Runs>>,
    /// Index of the area in which words were read last.
    last: Cell<usize>,
}

impl<'a> Process<'a> {
    pub(super) fn new(capture: &'a Capture, memory: &'a dyn Memory, notes: &mut Notes) -> Self {
        let page = if capture.page_bytes.is_power_of_two() {
            capture.page_bytes
        } else {
            4096
        };
        let mut areas: Vec<Area<'a>> = Vec::with_capacity(capture.regions.len());
        let mut add = |region: &'a Region| {
            // The kernel does not count it either.
            if region.start >= region.end || region.name.as_bytes() == b"[vsyscall]" {
                return;
            }
            let free_from = areas.last().map_or(0, |area| area.end);
            if region.start < free_from {
                notes.add("The list of regions overlaps itself: the process was not at rest when it was read.");
            }
            let start = region.start.max(free_from);
            if start < region.end {
                areas.push(Area {
                    start,
                    end: region.end,
                    region,
                    anonymous: Anonymous::of(region),
                });
            }
        };
        // The kernel's are in order; a capture may come from anywhere.
        let place = |region: &'a Region| (region.start, region.end, &region.name);
        if capture.regions.is_sorted_by(|one, next| place(one) <= place(next)) {
            capture.regions.iter().for_each(add);
        } else {
            let mut regions: Vec<&Region> = capture.regions.iter().collect();
            regions.sort_by(|one, other| place(one).cmp(&place(other)));
            regions.into_iter().for_each(&mut add);
        }
        Self {
            capture,
            page,
            areas,
            memory,
            scans: RefCell::new(BTreeMap::new()),
            last: Cell::new(0),
        }
    }

    /// The address rounded down to a page.
    pub(super) fn down(&self, address: u64) -> u64 {
        address & !(self.page - 1)
    }

    /// The address rounded up to a page (the last page of the address space rounds down).
    pub(super) fn up(&self, address: u64) -> u64 {
        self.down(address.saturating_add(self.page - 1))
    }

    /// The area an address lies in.
    pub(super) fn area_at(&self, address: u64) -> Option<&Area<'a>> {
        let index = self.areas.partition_point(|area| area.end <= address);
        self.areas.get(index).filter(|area| area.start <= address)
    }

    /// The areas that overlap a range, in order.
    pub(super) fn areas_in(&self, start: u64, end: u64) -> &[Area<'a>] {
        overlapping(&self.areas, start, end)
    }

    /// True when the range is not empty, has no hole, and all its areas satisfy the condition.
    pub(super) fn covered(&self, start: u64, end: u64, condition: impl Fn(&Area<'_>) -> bool) -> bool {
        let mut at = start;
        for area in self.areas_in(start, end) {
            if area.start > at || !condition(area) {
                return false;
            }
            at = area.end;
        }
        start < end && at >= end
    }

    /// Reads words of private readable memory.
    pub(super) fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let mut buffer = [[0_u8; 8]; N];
        self.read(address, buffer.as_flattened_mut())
            .then(|| buffer.map(u64::from_le_bytes))
    }

    /// Fills a buffer, whatever its size: there are many, and the code is the same.
    #[inline(never)]
    pub(super) fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(buffer.len() as u64) else {
            return false;
        };
        let is_readable = self.last_area_at(address).is_some_and(|area| match end <= area.end {
            true => readable(area),
            false => self.covered(address, end, readable),
        });
        is_readable && self.memory.read(address, buffer)
    }

    /// The area of an address: what is read one after another mostly lies in one.
    fn last_area_at(&self, address: u64) -> Option<&Area<'a>> {
        let holds = |area: &&Area<'_>| area.start <= address && address < area.end;
        let known = self.areas.get(self.last.get()).filter(holds);
        known.or_else(|| {
            self.last.set(self.areas.partition_point(|area| area.end <= address));
            self.areas.get(self.last.get()).filter(holds)
        })
    }

    /// These addresses are read next.
    pub(super) fn expect(&self, addresses: &[u64]) {
        self.memory.expect(addresses);
    }

    /// Addresses of the wanted words in the private readable part of a range: [`Memory::search`].
    pub(super) fn search(&self, start: u64, end: u64, wanted: impl Fn(u64, u64) -> bool) -> Vec<u64> {
        let is_wanted = |at: u64, word: &[u8; 8]| wanted(at, u64::from_le_bytes(*word));
        let each = |at: u64, words: &[[u8; 8]], found: &mut Vec<u64>| {
            let words = (0_u64..).zip(words).map(|(index, word)| (at.wrapping_add(8 * index), word));
            found.extend(words.filter(|(at, word)| is_wanted(*at, word)).map(|(at, _)| at));
        };
        let mut look = |first: u64, words: &[[u8; 8]], found: &mut Vec<u64>| {
            let (groups, rest) = words.as_chunks::<8>();
            let mut at = first;
            for group in groups {
                // Few are wanted: eight at once are asked whether one is.
                let words = (0_u64..).zip(group);
                if words.fold(false, |any, (index, word)| any | is_wanted(at.wrapping_add(8 * index), word)) {
                    each(at, group, found);
                }
                at = at.wrapping_add(64);
            }
            each(at, rest, found);
        };
        let mut found = Vec::new();
        for area in self.areas_in(start, end) {
            if readable(area) {
                let more = self.memory.search(area.start.max(start), area.end.min(end), &mut look);
                if found.is_empty() {
                    found = more;
                } else {
                    found.extend(more);
                }
            }
        }
        found
    }

    /// Reads one word.
    pub(super) fn u64(&self, address: u64) -> Option<u64> {
        self.words::<1>(address).map(|[word]| word)
    }

    /// Reads four bytes.
    pub(super) fn u32(&self, address: u64) -> Option<u32> {
        let area = self.last_area_at(address)?;
        if !readable(area) || area.end - address < 4 {
            return None;
        }
        self.memory.u32(address)
    }

    /// The page runs of an area, sorted by address.
    pub(super) fn runs(&self, area: &Area<'_>) -> Runs {
        self.scans
            .borrow_mut()
            .entry(area.start)
            .or_insert_with(|| {
                let mut runs = self.memory.pages(area.start, area.end)?;
                // A recording may come from anywhere: whatever it says, runs are in order and apart.
                runs.sort_by_key(|run| (run.start, run.end));
                let mut free_from = area.start;
                runs.retain_mut(|run| {
                    run.start = run.start.max(free_from);
                    run.end = run.end.min(area.end);
                    free_from = free_from.max(run.end);
                    run.start < run.end
                });
                Some(runs.into())
            })
            .clone()
    }

    /// The runs of one page of an area, where nobody has asked for those of all of it; a recording may hold these only.
    pub(super) fn runs_of_page(&self, area: &Area<'_>, page: u64) -> Runs {
        let is_asked = self.scans.borrow().contains_key(&area.start);
        let alone = || self.memory.pages(page, page.checked_add(self.page)?);
        if is_asked { None } else { alone() }.map_or_else(|| self.runs(area), |runs| Some(runs.into()))
    }

    /// The executable, when the capture names it.
    pub(super) fn executable(&self) -> Option<&'a Object> {
        self.capture
            .objects
            .iter()
            .find(|object| object.kind == ObjectKind::Executable)
    }

    /// The dynamic loader.
    pub(super) fn interpreter(&self) -> Option<&'a Object> {
        self.capture
            .objects
            .iter()
            .find(|object| object.kind == ObjectKind::Interpreter)
    }

    /// Address of a symbol that capture looked up in any object.
    pub(super) fn symbol(&self, name: &str) -> Option<u64> {
        self.capture
            .objects
            .iter()
            .find_map(|object| object.symbols.get(name).map(|value| object.bias.wrapping_add(*value)))
    }

    /// The area of an address, and whose static data may be there.
    pub(super) fn place(&self, at: u64) -> Option<Place<'_>> {
        let index = self.areas.partition_point(|area| area.end <= at);
        let area = self.areas.get(index).filter(|area| area.start <= at)?;
        let of_file = |area: &&Area<'_>| area.region.inode != 0 && !area.private_anonymous();
        // Zero-initialised data follows what is written to. A file that is read through a mapping may lie anywhere.
        let behind = || {
            let before = self.areas.get(index.checked_sub(1)?)?;
            Some(before).filter(|before| before.end == area.start && before.region.perms.write)
        };
        let owner = Some(area).filter(of_file).or_else(|| behind().filter(of_file));
        Some(Place {
            area,
            owner: owner.map(|area| area.region),
        })
    }

    /// In what the headers of a loaded object say is its own, in its file or directly behind: no memory that anybody allocated.
    pub(super) fn is_static_data(&self, place: &Place<'_>, at: u64) -> bool {
        let Some(region) = place.owner else { return false };
        let mut objects = self.capture.objects.iter();
        objects.any(|object| {
            let in_file = at.wrapping_sub(object.bias);
            let holds =
                |segment: &Segment| segment.kind == SegmentKind::Load && in_file.wrapping_sub(segment.vaddr) < segment.memsz;
            (object.dev, object.inode) == (region.dev, region.inode)
                && object.facts.as_ref().is_some_and(|facts| facts.segments.iter().any(holds))
        })
    }

    /// The words at a symbol that never change, as its file has them, where capture read them.
    pub(super) fn constants(&self, name: &str) -> Option<[u32; 3]> {
        self.capture
            .objects
            .iter()
            .find_map(|object| object.constants.get(name).copied())
    }

    /// `e_machine` of the executable, else of any object.
    pub(super) fn machine(&self) -> Option<u16> {
        let facts = self.executable().and_then(|object| object.facts.as_ref());
        facts
            .or_else(|| self.capture.objects.iter().find_map(|object| object.facts.as_ref()))
            .map(|facts| facts.machine)
    }
}
