//! Arming the points of a program that was just loaded: its executable before it runs, its libraries when the loader has
//! mapped them.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::elf::{self, Function, ProbeSite};
use crate::error::{Error, Result};
use crate::model::{At, Class, ElfFacts, Name, ProblemKind, Touched};

use super::arch::{self, Registers};
use super::breakpoint::{Owner, read_code};
use super::debug;
use super::loader::Loader;
use super::proc::{self, MappedFile};
use super::resolve::{self, Found};
use super::session::Session;

/// libc's function that calls `main`, its first argument (glibc `csu/libc-start.c`, musl `src/env/__libc_start_main.c`).
const START_MAIN: &str = "__libc_start_main";

/// One file with what was asked of it: each table is read once, and only if a point needs it.
struct Searched {
    file: File,
    /// Its path or (below `/proc`) a link to it, where its debug information may have been split off from.
    path: PathBuf,
    lines: BTreeMap<String, BTreeMap<u64, BTreeSet<u64>>>,
    variables: Option<Vec<Function>>,
    facts: OnceCell<Arc<ElfFacts>>,
    functions: Option<Vec<Function>>,
    probes: Option<Arc<Vec<ProbeSite>>>,
}

impl Searched {
    fn new(file: File, path: PathBuf) -> Self {
        Self {
            file,
            path,
            lines: BTreeMap::new(),
            variables: None,
            facts: OnceCell::new(),
            functions: None,
            probes: None,
        }
    }

    fn own_path(&self) -> PathBuf {
        let link = self.path.starts_with("/proc").then(|| std::fs::read_link(&self.path).ok());
        link.flatten().unwrap_or_else(|| self.path.clone())
    }

    /// An ELF file by its first bytes.
    fn is_elf(&self) -> bool {
        let mut magic = [0; 4];
        self.file.read_exact_at(&mut magic, 0).is_ok() && magic == *b"\x7fELF"
    }

    fn facts(&self) -> Result<&ElfFacts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let facts = elf::remembered(&self.file, "facts", || elf::facts(&self.file))?;
        Ok(self.facts.get_or_init(|| facts))
    }

    fn symbol(&self, name: &str) -> Result<BTreeSet<u64>> {
        let found = elf::remembered(&self.file, &format!("symbol {name}"), || elf::symbols(&self.file, &[name]))?;
        Ok(found.get(name).copied().into_iter().collect())
    }

    /// Addresses of a function. Of its table, which can be large, nothing is remembered but what was found.
    fn function(&mut self, name: &str) -> Result<BTreeSet<u64>> {
        let (file, functions) = (&self.file, &mut self.functions);
        let find = || {
            if functions.is_none() {
                *functions = Some(elf::functions(file)?);
            }
            match resolve::function(functions.as_deref().unwrap_or_default(), name) {
                Found::Nowhere => Ok(BTreeSet::new()),
                Found::At(addresses) => Ok(addresses),
                Found::Ambiguous(names) => Err(Error::config(format!("function `{name}` is the end of several names"))
                    .detail(format!("write one of them in full: {}", names.join(", ")))),
            }
        };
        elf::remembered(file, &format!("function {name}"), find).map(Arc::unwrap_or_clone)
    }

    /// Addresses (without bias) of the semaphores of a probe: counters that tell the program that somebody looks. And whether a
    /// note names one outside of the data of its own file, which is left alone.
    fn semaphores(&self, at: &At) -> Result<(BTreeSet<u64>, bool)> {
        let At::Probe { provider, name } = at else {
            return Ok((BTreeSet::new(), false));
        };
        let sites = self.probes.iter().flat_map(|sites| sites.iter());
        let named: BTreeSet<u64> = sites
            .filter(|site| site.semaphore != 0 && site.provider == *provider && site.name == *name)
            .map(|site| site.semaphore)
            .collect();
        if named.is_empty() {
            return Ok((named, false));
        }
        let facts = self.facts()?;
        let (own, foreign): (BTreeSet<u64>, BTreeSet<u64>) =
            named.into_iter().partition(|address| resolve::is_data(facts, *address));
        Ok((own, !foreign.is_empty()))
    }

    /// Addresses (without bias) of a point; empty when the file does not have it. Only code: a breakpoint in data would
    /// change what the program computes.
    fn find(&mut self, at: &At) -> Result<BTreeSet<u64>> {
        let mut found = self.look_up(at)?;
        if !found.is_empty() {
            let facts = self.facts()?;
            found.retain(|address| resolve::is_code(facts, *address));
        }
        Ok(found)
    }

    fn look_up(&mut self, at: &At) -> Result<BTreeSet<u64>> {
        Ok(match at {
            At::Main => self.symbol("main")?,
            At::Probe { provider, name } => {
                if self.probes.is_none() {
                    self.probes = Some(elf::remembered(&self.file, "probes", || elf::probes(&self.file))?);
                }
                resolve::probe(self.probes.as_deref().map_or(&[], Vec::as_slice), provider, name)
            }
            At::Function(name) | At::Returns(name) => self.function(name)?,
            At::Line { file, line } => {
                if !self.lines.contains_key(file) {
                    let mut lines = elf::lines(&self.file, file)?;
                    if lines.is_empty()
                        && let Some(debug) = debug::file_of(&self.file, &self.own_path())
                    {
                        lines = elf::lines(&debug, file)?;
                    }
                    self.lines.insert(file.clone(), lines);
                }
                let of_file = self.lines.get(file);
                of_file
                    .and_then(|lines| lines.get(&u64::from(*line)))
                    .cloned()
                    .unwrap_or_default()
            }
            _ => BTreeSet::new(),
        })
    }

    /// Address (without bias) and size of a variable.
    fn variable(&mut self, name: &str) -> Result<Option<(u64, u64)>> {
        if self.variables.is_none() {
            self.variables = Some(elf::variables(&self.file)?);
        }
        let variables = self.variables.as_deref().unwrap_or_default();
        match resolve::function(variables, name) {
            Found::Nowhere => Ok(None),
            Found::At(addresses) if addresses.len() == 1 => Ok(variables
                .iter()
                .find(|one| addresses.contains(&one.address))
                .map(|one| (one.address, one.size))),
            Found::At(_) => {
                Err(Error::config(format!("there are several variables `{name}`")).detail("watch one with a name of its own"))
            }
            Found::Ambiguous(names) => Err(Error::config(format!("variable `{name}` is the end of several names"))
                .detail(format!("write one of them in full: {}", names.join(", ")))),
        }
    }
}

impl Session {
    /// Arms the program that a process has just loaded and not run yet. `tid` is its only thread.
    pub(super) fn arm(&mut self, tid: i32) -> Result<()> {
        self.arm_program(tid, true)
    }

    /// Arms a program in the middle of its course: in a copy that fork made, its libraries are mapped.
    pub(super) fn arm_running(&mut self, tid: i32) -> Result<()> {
        self.arm_program(tid, false)
    }

    /// Arms the points of a process that shares the memory of another one, beside those of that one.
    pub(super) fn arm_sharing(&mut self, tid: i32) -> Result<()> {
        let loader = std::mem::take(&mut self.image(tid).loader);
        let armed = self.arm_running(tid);
        self.image(tid).loader = loader;
        armed
    }

    fn arm_program(&mut self, tid: i32, starts: bool) -> Result<()> {
        let open = self.open_points(tid);
        let needs_code = open
            .iter()
            .any(|(_, at)| at.is_code() || matches!(at, At::Touch(Touched::Symbol(_) | Touched::Stack)));
        if !needs_code && tid != self.main {
            return Ok(());
        }
        // Without a point in the code the registers tell as much: a program in compatibility mode has fewer. (Not so one for x32, which
        // kernels run only where they are asked to at boot.)
        if !needs_code {
            return match Registers::read(tid) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Err(not_native()),
                _ => Ok(()),
            };
        }
        let exe = File::open(format!("/proc/{tid}/exe"))
            .map_err(|error| Error::machine(format!("could not open the target's executable through /proc: {error}")))?;
        let mut exe = Searched::new(exe, PathBuf::from(format!("/proc/{tid}/exe")));
        let facts = exe.facts()?;
        if facts.class != Class::Elf64 || Some(facts.machine) != arch::MACHINE {
            return Err(not_native());
        }
        let auxv = proc::auxiliary_vector(tid).unwrap_or_default();
        let entry = proc::find_auxiliary(&auxv, proc::AT_ENTRY)
            .ok_or_else(|| Error::machine("could not read the target's auxiliary vector"))?;
        let bias = entry.wrapping_sub(facts.entry);
        let is_dynamic = facts.interpreter.is_some();
        let image = self.image(tid);
        image.loader = Loader::new(facts, bias);
        if starts {
            image.auxv = auxv;
        }
        let mut libraries = false;
        for (index, at) in open {
            let found = exe.find(&at)?;
            for address in &found {
                self.plant(tid, address.wrapping_add(bias), Owner::Point(index), &at)?;
            }
            if !found.is_empty() {
                self.image(tid).loader.in_program.insert(index);
            }
            if let At::Touch(Touched::Symbol(name)) = &at {
                let (address, bytes) = watchable(name, exe.variable(name)?)?;
                let place = Some((address.wrapping_add(bias), bytes));
                self.image(tid).loader.touched.push((index, place));
            }
            if at == At::Touch(Touched::Stack) {
                self.image(tid).loader.touched.push((index, None));
            }
            let (semaphores, foreign) = exe.semaphores(&at)?;
            self.foreign_semaphore(foreign, &at);
            for semaphore in semaphores {
                self.raise(tid, index, semaphore.wrapping_add(bias), bias);
            }
            // A probe may have further sites in libraries; anything else that was found is found.
            libraries |= matches!(at, At::Probe { .. }) || (found.is_empty() && at.is_code());
            if at == At::Main && found.is_empty() && !is_dynamic && starts {
                return Err(no_main("it has no symbol of that name, and no libc that could tell"));
            }
        }
        let waits = !self.image(tid).loader.touched.is_empty();
        let needs_entry = waits || (is_dynamic && libraries);
        if !needs_entry {
            return Ok(());
        }
        if !starts {
            return self.arm_libraries(tid, false);
        }
        // Who asks for what leaves the code alone gets it for our own purposes, too.
        let is_hard = waits || self.points.iter().any(|counted| counted.point.hardware);
        if is_hard && self.watch_code(tid, Owner::Entry, entry) {
            return Ok(());
        }
        self.plant(tid, entry, Owner::Entry, &At::Exec)
    }

    /// Memory is watched from the program's entry on: what the loader writes there is not the program's doing.
    fn watch_touched(&mut self, tid: i32) -> Result<()> {
        for (index, variable) in std::mem::take(&mut self.image(tid).loader.touched) {
            match variable {
                Some((address, bytes)) => self.watch_variable(tid, index, address, bytes)?,
                None => self.guard_stack(tid, index)?,
            }
        }
        Ok(())
    }

    /// The program's entry point is reached, or was (`starts` is false then): the loader has mapped the libraries.
    pub(super) fn arm_libraries(&mut self, tid: i32, starts: bool) -> Result<()> {
        self.watch_touched(tid)?;
        let open = self.may_be_in_libraries(tid);
        if !self.image(tid).loader.is_there() || open.is_empty() {
            return Ok(());
        }
        let main_armed = self.search_libraries(tid, &open)?;
        if starts && !main_armed && open.iter().any(|(_, at)| *at == At::Main) {
            return Err(no_main(
                "it has no symbol of that name, and its libc has no __libc_start_main",
            ));
        }
        self.watch_loader(tid, &open)
    }

    /// The loader has mapped or unmapped libraries.
    pub(super) fn libraries_changed(&mut self, tid: i32) -> Result<()> {
        let open = self.may_be_in_libraries(tid);
        if open.is_empty() {
            let retired = self.image(tid).breakpoints.retire(tid, Owner::Loader);
            return retired.map_err(|error| Error::tool(format!("could not take a breakpoint out of the target: {error}")));
        }
        self.search_libraries(tid, &open).map(drop)
    }

    /// Stops at the loader's own place for debuggers whenever it maps or unmaps a library, as long as a point may be in one.
    fn watch_loader(&mut self, tid: i32, open: &[(usize, At)]) -> Result<()> {
        // `main` is called by a libc that is there from the beginning.
        if open.iter().all(|(_, at)| *at == At::Main) {
            return Ok(());
        }
        match self.image(tid).loader.breakpoint(tid) {
            Some(address) => self.plant(tid, address, Owner::Loader, &At::Exec),
            None => {
                self.remark(
                    "the program's loader has no place to watch it at: libraries that it loads later are not searched".to_owned(),
                );
                Ok(())
            }
        }
    }

    /// Points that are looked for in libraries: a probe may have sites anywhere, anything else is not what the program itself
    /// has.
    fn may_be_in_libraries(&mut self, tid: i32) -> Vec<(usize, At)> {
        let mut open = self.open_points(tid);
        open.retain(|(index, at)| match at {
            At::Probe { .. } => true,
            at => at.is_code() && !self.image(tid).loader.in_program.contains(index),
        });
        open
    }

    /// Arms the libraries that were mapped since the last time; forgets those that are gone. True when among them is the libc
    /// that will call `main`.
    fn search_libraries(&mut self, tid: i32, open: &[(usize, At)]) -> Result<bool> {
        let entry = self.image(tid).loader.entry;
        let mut mapped = proc::executable_files(tid);
        let program: Vec<((u32, u32), u64)> = mapped
            .iter()
            .filter(|one| (one.start..one.end).contains(&entry))
            .map(|one| (one.dev, one.inode))
            .collect();
        mapped.retain(|one| !program.contains(&(one.dev, one.inode)));
        for gone in self.image(tid).loader.replace(&mapped) {
            // What is mapped there now, if anything, has never held a breakpoint of ours.
            self.image(tid).breakpoints.forget(gone.0, gone.1);
        }
        let mut files: BTreeMap<((u32, u32), u64), Vec<MappedFile>> = BTreeMap::new();
        for one in mapped.into_iter().filter(|one| self.image(tid).loader.take_new(one)) {
            files.entry((one.dev, one.inode)).or_default().push(one);
        }
        let question = format!("none of {:?}", open.iter().map(|(_, at)| at).collect::<Vec<_>>());
        let mut main_armed = false;
        for mappings in files.values() {
            main_armed |= self.arm_library(tid, mappings, open, &question)?;
        }
        Ok(main_armed)
    }

    /// Arms one library. True when it is the libc that will call `main`. `question` names the points: what is remembered under it is
    /// that a file has none of them.
    fn arm_library(&mut self, tid: i32, mappings: &[MappedFile], open: &[(usize, At)], question: &str) -> Result<bool> {
        let Some(first) = mappings.first() else {
            return Ok(false);
        };
        if proc::stamp_of(tid, first).is_some_and(|stamp| elf::known::<()>(stamp, question).is_some()) {
            return Ok(false);
        }
        let mut has_none = true;
        let mut library = match proc::open_mapped(tid, first) {
            Ok(file) => Searched::new(file, PathBuf::from(std::ffi::OsStr::from_bytes(first.path.as_bytes()))),
            Err(why) => {
                self.remark(not_searched(&first.path, &why));
                return Ok(false);
            }
        };
        if !library.is_elf() {
            return Ok(false);
        }
        let mut starts_main = false;
        for (index, at) in open {
            let (owner, found) = if *at == At::Main {
                (Owner::StartMain, library.symbol(START_MAIN))
            } else {
                (Owner::Point(*index), library.find(at))
            };
            let found = match found {
                Ok(found) => found,
                Err(error) if error.kind() == ProblemKind::Config => return Err(error),
                Err(error) => {
                    self.remark(not_searched(&first.path, &error.to_string()));
                    has_none = false;
                    continue;
                }
            };
            if found.is_empty() {
                continue;
            }
            has_none = false;
            let (semaphores, foreign) = library.semaphores(at)?;
            self.foreign_semaphore(foreign, at);
            let facts = library.facts()?;
            for mapped in mappings {
                let Some(bias) = resolve::bias(facts, mapped.start, mapped.offset, self.page_bytes) else {
                    continue;
                };
                let mut armed = false;
                for address in found.iter().map(|address| address.wrapping_add(bias)) {
                    if (mapped.start..mapped.end).contains(&address) {
                        self.plant(tid, address, owner, at)?;
                        armed = true;
                    }
                }
                starts_main |= armed && owner == Owner::StartMain;
                for semaphore in semaphores.iter().filter(|_| armed) {
                    self.raise(tid, *index, semaphore.wrapping_add(bias), mapped.start);
                }
            }
        }
        if has_none {
            let _ = elf::remembered(&library.file, question, || Ok(()));
        }
        Ok(starts_main)
    }

    /// libc is about to call `main`.
    pub(super) fn arm_main(&mut self, tid: i32, address: u64) -> Result<()> {
        for (index, at) in self.open_points(tid) {
            if at == At::Main {
                self.plant(tid, address, Owner::Point(index), &at)?;
            }
        }
        Ok(())
    }

    fn open_points(&self, tid: i32) -> Vec<(usize, At)> {
        let Some(process) = self.tasks.get(tid).map(|task| task.process) else {
            return Vec::new();
        };
        let points = self.points.iter().enumerate();
        points
            .filter(|(index, counted)| !counted.is_done() && self.is_within(*index, process))
            .map(|(index, counted)| (index, counted.point.at.clone()))
            .collect()
    }

    fn foreign_semaphore(&mut self, is_there: bool, at: &At) {
        if is_there {
            self.remark(format!(
                "a semaphore of {at} lies outside of the data of its own file: left alone, the probe may be skipped"
            ));
        }
    }

    /// Counts up a probe's semaphore, once per point: programs skip the work for a probe that nobody looks at.
    fn raise(&mut self, tid: i32, index: usize, address: u64, code: u64) {
        if self
            .image(tid)
            .breakpoints
            .raise(tid, address, Owner::Point(index), code)
            .is_err()
        {
            self.remark(format!(
                "the semaphore of a probe at {address:#x} could not be raised: the probe may be skipped"
            ));
            return;
        }
        self.remark(
            "the semaphore of a probe was counted up: the page of data that holds it is private memory by that".to_owned(),
        );
    }

    fn plant(&mut self, tid: i32, address: u64, owner: Owner, at: &At) -> Result<()> {
        let failed =
            |error: std::io::Error| Error::machine(format!("could not plant a breakpoint for {at} at {address:#x}: {error}"));
        let is_expected = |code| !matches!(at, At::Probe { .. }) || arch::is_nop(code);
        if let Owner::Point(index) = owner
            && self.points.get(index).is_some_and(|counted| counted.point.hardware)
            && (self.image(tid).breakpoints.is_planted(address) || is_expected(read_code(tid, address).map_err(failed)?))
            && self.watch_code(tid, owner, address)
        {
            return Ok(());
        }
        let page_bytes = self.page_bytes;
        let planted = self
            .image(tid)
            .breakpoints
            .plant(tid, address, owner, page_bytes, is_expected)
            .map_err(failed)?;
        if !planted {
            self.remark(format!("a site of {at} is not the nop that its note promises: not armed"));
        }
        Ok(())
    }
}

/// A variable that has bytes.
fn watchable(name: &str, found: Option<(u64, u64)>) -> Result<(u64, u64)> {
    match found {
        Some((_, 0)) => Err(Error::config(format!(
            "variable `{name}` cannot be watched: the symbol table does not tell its size"
        ))),
        Some(variable) => Ok(variable),
        None => Err(Error::config(format!("the program has no variable `{name}`"))
            .detail("a static or global variable is meant, by the name in the symbol table (nm); a stripped program has none")),
    }
}

fn not_searched(path: &Name, why: &str) -> String {
    format!("{path} was not searched for checkpoints: {why}")
}

fn not_native() -> Error {
    Error::machine("the target is no 64-bit program of this machine's own architecture")
        .detail("programs in compatibility mode (32-bit) cannot be measured")
}

fn no_main(why: &str) -> Error {
    Error::not_judged(format!("`main` of the target could not be found: {why}"))
        .detail("stop at \"exec\", at a probe, or at a function instead; or build the program with its symbols")
}
