//! What `show FILE` prints, read back as a user reads it, against readelf: every program header of every file of `elf_files`, those
//! for 32-bit ARM and AArch64 among them; and what `compare --headers` says of them.

use std::fs::File;
use std::path::Path;

use memcheck_harness::elf;
use memcheck_harness::model::{ElfFile, MemoryMap, Name};
use memcheck_harness::report::{self, Style};

use crate::elf_files;
use crate::tools::{hex, run};

fn described(path: &Path) -> (ElfFile, MemoryMap) {
    let name = Name::new(path.as_os_str().as_encoded_bytes());
    let file = elf::describe(&File::open(path).unwrap(), &name).unwrap();
    let layout = elf::layout(&file.facts, &name.file_name(), 4096);
    (file, layout)
}

fn printed(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    write(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Kind, offset, address, size in the file and in memory, flags, alignment.
type Header = (String, [u64; 4], String, u64);

/// `  LOAD  0xf08  0x1f08  308  312  RW  0x1000`
fn ours(text: &str) -> Vec<Header> {
    let rows = text.lines().skip_while(|line| !line.starts_with("  header ")).skip(1);
    let header = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, offset, address, in_file, in_memory, flags @ .., align] = &words[..] else {
            panic!("{line}")
        };
        let sizes = [
            hex(offset),
            hex(address),
            in_file.parse().unwrap(),
            in_memory.parse().unwrap(),
        ];
        ((*kind).to_owned(), sizes, flags.concat(), hex(align))
    };
    rows.take_while(|line| !line.is_empty()).map(header).collect()
}

fn readelfs(text: &str) -> Vec<Header> {
    let table = text.split_once("Program Headers:").unwrap().1;
    let header = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, offset, address, _, in_file, in_memory, flags @ .., align] = &words[..] else {
            return None;
        };
        let is_row = [offset, address, in_file, in_memory, align]
            .iter()
            .all(|word| word.starts_with("0x"));
        is_row.then(|| {
            let sizes = [offset, address, in_file, in_memory].map(|word| hex(word));
            ((*kind).to_owned(), sizes, flags.concat(), hex(align))
        })
    };
    table.lines().filter_map(header).collect()
}

#[test]
fn headers_as_printed_are_those_of_readelf() {
    for path in elf_files::all() {
        let (file, layout) = described(&path);
        let text = printed(|out| report::elf_file(&file, &layout, Style::default(), out));
        let theirs = readelfs(&run("readelf", &["-lW".as_ref(), path.as_os_str()]));
        assert!(!theirs.is_empty(), "{}", path.display());
        let ours = ours(&text);
        assert_eq!(ours.len(), theirs.len(), "{text}");
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            // A kind without a name here is told by its number.
            let known = !ours.0.starts_with("0x");
            assert_eq!((&ours.1, &ours.2, ours.3), (&theirs.1, &theirs.2, theirs.3), "{text}");
            assert!(!known || ours.0 == theirs.0, "{} is {}\n{text}", ours.0, theirs.0);
        }
    }
}

#[test]
fn relro_of_32_bit_arm_is_told_with_its_cost() {
    let files = elf_files::of_other_machines();
    let of = |name: &str| described(files.iter().find(|path| path.ends_with(name)).unwrap());
    let ((before, old), (now, new)) = (of("arm-norelro"), of("arm-relro-now"));
    let text = printed(|out| report::elf_differences(&before, &now, Style::default(), out));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["RELRO none → full", "GNU_RELRO none → ", "canary no → yes"] {
        assert!(words.contains(part), "{part} in {text}");
    }
    let case = memcheck_harness::pipeline::layouts("arm", old, new);
    let causes: Vec<&str> = case.report.checkpoints[0]
        .causes
        .iter()
        .map(|cause| cause.cause.as_str())
        .collect();
    assert!(
        causes
            .iter()
            .any(|cause| cause.starts_with("GNU_RELRO added (relro none → full)")),
        "{causes:?}"
    );
}
