//! Names of functions by their addresses, for the threads of a classified process: which function each was started with.

use std::collections::BTreeMap;

use super::objects::{self, FileId, ObjectCache};
use super::procdir::ProcDir;
use crate::elf;
use crate::model::{Capture, MemoryMap, Name, ObjectKind, Region};

/// Names that were looked up, by file and address in it; absent where no symbol table has one.
pub(super) type Names = BTreeMap<(FileId, u64), Option<Name>>;

/// Names the functions that threads were started with. One whose file cannot be read, or has no symbol there, stays unnamed.
pub(super) fn name_starts(dir: &ProcDir, capture: &Capture, map: &mut MemoryMap, cache: &mut ObjectCache) {
    for thread in &mut map.threads {
        if let Some(address) = thread.start_address {
            thread.start_function = name(dir, capture, address, cache);
        }
    }
}

fn name(dir: &ProcDir, capture: &Capture, address: u64, cache: &mut ObjectCache) -> Option<Name> {
    let region = capture.regions.iter().find(|region| region.contains(address))?;
    let id = (region.dev, region.inode);
    let of_file = |object: &&crate::model::Object| (object.dev, object.inode) == id && object.bias <= address;
    let object = capture.objects.iter().filter(of_file).max_by_key(|object| object.bias)?;
    let in_file = address - object.bias;
    if let Some(known) = cache.functions.get(&(id, in_file)) {
        return known.clone();
    }
    let regions: Vec<&Region> = capture
        .regions
        .iter()
        .filter(|region| (region.dev, region.inode) == id)
        .collect();
    let found = objects::open(dir, id, &regions, object.kind == ObjectKind::Executable)
        .ok()
        .and_then(|(file, _)| elf::function_at(&file, in_file).ok().flatten())
        .map(|name| Name::from(name.as_str()));
    cache.functions.insert((id, in_file), found.clone());
    found
}
