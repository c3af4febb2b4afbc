//! Names of functions by their addresses, for the threads of a classified process: which function each was started with.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;

use super::objects::{self, FileId, ObjectCache};
use super::procdir::ProcDir;
use crate::elf;
use crate::error::Result;
use crate::model::{Capture, MemoryMap, Name, ObjectKind, Region};

/// Names that were looked up, by file and address in it; absent where no symbol table has one.
pub(super) type Names = BTreeMap<(FileId, u64), Option<Name>>;

/// Names the functions that threads were started with. One whose file cannot be read, or has no symbol there, stays unnamed.
/// `dir` opens the directory of the process; only a name that was not looked up before needs it.
///
/// # Errors
/// Those of `dir`.
pub(super) fn name_starts(
    capture: &Capture,
    map: &mut MemoryMap,
    cache: &mut ObjectCache,
    dir: &dyn Fn() -> Result<ProcDir>,
) -> Result<()> {
    // Threads of a pool start in one function.
    let mut named: BTreeMap<u64, Option<Name>> = BTreeMap::new();
    for thread in &mut map.threads {
        let Some(address) = thread.start_address else { continue };
        thread.start_function = match named.entry(address) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => place.insert(name(capture, address, cache, dir)?).clone(),
        };
    }
    Ok(())
}

fn name(capture: &Capture, address: u64, cache: &mut ObjectCache, dir: &dyn Fn() -> Result<ProcDir>) -> Result<Option<Name>> {
    let Some(region) = capture.regions.iter().find(|region| region.contains(address)) else {
        return Ok(None);
    };
    let id = (region.dev, region.inode);
    let of_file = |object: &&crate::model::Object| (object.dev, object.inode) == id && object.bias <= address;
    let Some(object) = capture.objects.iter().filter(of_file).max_by_key(|object| object.bias) else {
        return Ok(None);
    };
    let in_file = address - object.bias;
    if let Some(known) = cache.functions.get(&(id, in_file)) {
        return Ok(known.clone());
    }
    let regions: Vec<&Region> = capture
        .regions
        .iter()
        .filter(|region| (region.dev, region.inode) == id)
        .collect();
    let read = |file: File| elf::remembered(&file, &format!("function at {in_file}"), || elf::function_at(&file, in_file)).ok();
    let found = objects::open(&dir()?, id, &regions, object.kind == ObjectKind::Executable)
        .ok()
        .and_then(read)
        .and_then(|name| name.as_deref().map(Name::from));
    cache.functions.insert((id, in_file), found.clone());
    Ok(found)
}
