//! Every parser of bytes from outside, as one function each that takes any bytes and holds what must hold for all of them.
//! Compiled for tests (which run the corpora in `fuzz/corpus`) and under `cfg(fuzzing)` (the programs in `fuzz/`), never in a release.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what does not hold is to end the fuzzer"
)]

use std::io::Write as _;
use std::path::PathBuf;

use crate::model::{Class, ElfFacts, Region};
use crate::report::{Format, Style};
use crate::{capture, compare, config, elf, normalize, replay, report};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// Name → function; the names of the programs in `fuzz/` and of the folders in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("maps", maps),
    ("smaps", smaps),
    ("status", status),
    ("auxv", auxv),
    ("elf", elf),
    ("config", config),
    ("overrides", overrides),
    ("snapshot", snapshot),
    ("approved", approved),
    ("environment", environment),
    ("results", results),
    ("captures", captures),
];

/// `/proc/PID/maps`
pub fn maps(bytes: &[u8]) {
    if let Ok(regions) = capture::parse_maps(bytes) {
        in_order(&regions);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(regions.len(), lines, "a region of its own for each line");
    }
}

/// `/proc/PID/smaps`
pub fn smaps(bytes: &[u8]) {
    if let Ok(regions) = capture::parse_smaps(bytes) {
        in_order(&regions);
    }
}

/// No region is empty, and none begins before the one before it ended.
fn in_order(regions: &[Region]) {
    assert!(regions.iter().all(|region| region.start < region.end));
    assert!(regions.windows(2).all(|pair| pair[0].end <= pair[1].start));
}

/// `/proc/PID/status`, `limits` and `stat`, which share the words they are made of.
pub fn status(bytes: &[u8]) {
    let _ = capture::fuzzed::parse_limits(bytes);
    let _ = capture::fuzzed::parse_stat(bytes);
    if let Ok(status) = capture::fuzzed::parse_status(bytes) {
        assert!(
            status.reserved_bytes.is_none_or(|bytes| bytes % 1024 == 0),
            "the file counts in kB"
        );
    }
}

/// `/proc/PID/auxv`, of both sizes of word.
pub fn auxv(bytes: &[u8]) {
    for (class, pair) in [(Class::Elf64, 16), (Class::Elf32, 8)] {
        let read = capture::fuzzed::parse_auxv(bytes, class);
        assert!(read.len() <= bytes.len() / pair);
        assert!(read.iter().all(|(kind, _)| *kind != 0), "AT_NULL ends it");
    }
}

/// An ELF file: headers, dynamic section, symbols, notes with USDT probes, line tables.
pub fn elf(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("written");
    let facts = elf::facts(&file);
    if let Ok(facts) = &facts {
        laid_out(facts);
    }
    for found in [elf::functions(&file), elf::variables(&file)].into_iter().flatten() {
        if let Some(first) = found.first() {
            let _ = elf::function_at(&file, first.address);
        }
    }
    let _ = elf::probes(&file);
    if let Ok(mut found) = elf::symbols(&file, &["main", "_start", "malloc"]) {
        found.extend([("first".to_owned(), 0), ("last".to_owned(), u64::MAX)]);
        let constants = elf::constants(&file, &found).unwrap_or_default();
        assert!(constants.len() <= found.len());
    }
    let _ = elf::strings(&file, &["jemalloc"]);
    let _ = elf::lines(&file, "a.c");
    let _ = elf::debug_link(&file);
}

/// What the headers ask for can be laid out, and no byte twice.
fn laid_out(facts: &ElfFacts) {
    let map = elf::layout(facts, &crate::model::Name::from("file"), 4096);
    let mut ends: Vec<_> = map.pieces.iter().map(|piece| (piece.start, piece.end)).collect();
    ends.sort_unstable();
    assert!(ends.iter().all(|(start, end)| start <= end));
}

/// `memcheck.toml`
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let source = config::Source {
        root: PathBuf::from("/project"),
        path: PathBuf::from("/project/memcheck.toml"),
        text: text.to_owned(),
    };
    match config::plan(&source, None, &config::Overrides::default(), 4096) {
        Ok(plan) => {
            let mut names: Vec<_> = plan.cases.iter().map(|case| case.name.to_string()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), plan.cases.len(), "each case has a name of its own");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error says something"),
    }
}

/// What the tool hands to harness tests in a variable.
pub fn overrides(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(read) = config::Overrides::from_text(text) {
        assert_eq!(config::Overrides::from_text(&read.to_text()).ok(), Some(read));
    }
}

/// The text of a snapshot.
pub fn snapshot(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(read) = normalize::parse(text) {
        let canonical = normalize::render(&read);
        let again = normalize::parse(&canonical).expect("what we write can be read");
        assert_eq!(again, read, "parse(render(x)) == x");
    }
}

/// The file of a snapshot, as insta writes it.
pub fn approved(bytes: &[u8]) {
    let Ok(file) = compare::fuzzed::parse(bytes.to_vec(), "fuzzed.snap") else {
        return;
    };
    let written = compare::fuzzed::accepted_bytes(&file);
    let again = compare::fuzzed::parse(written.clone(), "fuzzed.snap").expect("what we write can be read");
    assert_eq!(
        compare::fuzzed::accepted_bytes(&again),
        written,
        "written once, it stays as it is"
    );
}

/// The text of an environment of record.
pub fn environment(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = compare::fuzzed::parse_environment(text, None);
}

/// A results file, and every format it can be rendered in.
pub fn results(bytes: &[u8]) {
    let Ok(read) = report::read_results(bytes) else { return };
    let written = report::results(&read);
    let again = report::read_results(&written).expect("what we write can be read");
    assert_eq!(report::results(&again), written, "written once, it stays as it is");
    for format in FORMATS {
        let _ = report::render(&read, *format, Style::default(), "");
    }
}

const FORMATS: &[Format] = &[
    Format::Human,
    Format::Markdown,
    Format::Comment,
    Format::Junit,
    Format::Github,
    Format::Sarif,
    Format::Bencher,
    Format::GhBenchmark,
    Format::Patch,
    Format::Outputs,
];

/// A file of raw captures, which are classified: threads, arenas and chunks are found by following what it holds. The kernel's
/// `[vsyscall]` page belongs to no process and is left out.
pub fn captures(bytes: &[u8]) {
    let Ok(read) = report::read_captures(bytes, None) else {
        return;
    };
    for capture in &read {
        let map = replay::classified(&capture.kept);
        let told: u64 = map.pieces.iter().map(|piece| piece.end - piece.start).sum();
        let regions = capture.kept.capture.regions.iter();
        let mapped = regions.filter(|region| region.name.as_bytes() != b"[vsyscall]");
        assert_eq!(
            told,
            mapped.map(|region| region.end - region.start).sum::<u64>(),
            "every byte has one role"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Inputs that once did harm, and the seeds of the fuzzer, stay harmless.
    #[test]
    fn the_corpora_do_no_harm() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(corpus.join(name))
                .unwrap_or_else(|error| panic!("no corpus {name}: {error}"))
                .map(|entry| entry.unwrap().path())
                .collect();
            assert!(!inputs.is_empty(), "no corpus {name}");
            for input in inputs {
                target(&fs::read(&input).unwrap());
            }
        }
    }

    /// Knuth's MMIX generator: the same numbers in every run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
        }
    }

    /// What parsers stumble over: ends of lines, signs, numbers at the edge of their width.
    const PIECES: &[&[u8]] = &[
        b"\r",
        b"\n",
        b"\0",
        b"-",
        b"\"",
        b"[",
        b"{",
        b" kB",
        b"\xff\xff\xff\xff",
        b"9223372036854775808",
        b"18446744073709551616",
        b"0x",
        b"ffffffffffffffff",
        b"<<<<<<< ",
        b"\\x",
        b"\xe2\x80\xae",
    ];

    fn changed(inputs: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = inputs[numbers.below(inputs.len())].clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len() + 1);
            let to = at + numbers.below((bytes.len() - at).min(64) + 1);
            match numbers.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
                1 => drop(bytes.drain(at..to)),
                2 => bytes.truncate(at),
                3 => {
                    let again = bytes[at..to].to_vec();
                    bytes.splice(at..at, again);
                }
                4 => {
                    let other = &inputs[numbers.below(inputs.len())];
                    let from = numbers.below(other.len() + 1);
                    bytes.splice(at.., other[from..].iter().copied());
                }
                5 => drop(bytes.splice(at..to, PIECES[numbers.below(PIECES.len())].iter().copied())),
                _ => drop(bytes.splice(at..at, PIECES[numbers.below(PIECES.len())].iter().copied())),
            }
        }
        bytes.truncate(64 << 10);
        bytes
    }

    /// The short form of the fuzzers, for every commit: changes of the corpora by fixed numbers, the same for the same corpora whatever
    /// the code is, so that it is a verdict on the change. What coverage leads to takes `just fuzz`.
    #[test]
    fn changes_of_the_corpora_do_no_harm() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let mut paths: Vec<_> = fs::read_dir(corpus.join(name))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            paths.sort();
            let inputs: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
            let mut numbers = Numbers(2_026);
            let runs = match *name {
                "captures" | "results" | "elf" | "config" => 800,
                _ => 8000,
            };
            for run in 0..runs {
                let input = changed(&inputs, &mut numbers);
                let harmless = std::panic::catch_unwind(|| target(&input));
                assert!(harmless.is_ok(), "{name}, run {run}: {}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn a_program_for_each_target() {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
        let mut found: Vec<String> = fs::read_dir(programs)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort_unstable();
        let mut known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        known.sort_unstable();
        assert_eq!(found, known);
    }
}
