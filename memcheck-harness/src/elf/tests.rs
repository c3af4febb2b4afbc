//! Tests of the ELF reader on files that gcc links on the spot, on this test binary, and on damaged copies.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::{Class, SegmentKind};

/// Links a C program with the flags; gcc is part of what the tests need.
pub(crate) fn gcc(dir: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let c = dir.join(format!("{name}.c"));
    let out = dir.join(name);
    std::fs::write(&c, source).unwrap();
    run(
        "gcc",
        [OsStr::new("-O1"), c.as_os_str(), OsStr::new("-o"), out.as_os_str()]
            .into_iter()
            .chain(flags.iter().map(OsStr::new)),
    );
    out
}

fn run<'a>(program: &str, args: impl Iterator<Item = &'a OsStr>) {
    #[expect(clippy::disallowed_methods, reason = "a test builds its own fixture")]
    let output = std::process::Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const PLAIN: &str =
    "int answer = 42; __attribute__((noinline)) int leaf(int x) { return x + answer; } int main(void) { return leaf(-42); }";
/// Two live sites of one probe, and the note of a function that was dropped (address 0).
const PROBED: &str = r#"
#define NOTE(pc) ".pushsection .note.stapsdt,\"?\",\"note\"\n .balign 4\n .4byte 8, 2f-1f, 3\n .asciz \"stapsdt\"\n" \
  "1: .8byte " pc ", _.stapsdt.base, 0\n .asciz \"memcheck\"\n .asciz \"rea\\033dy\"\n .asciz \"\"\n2: .balign 4\n .popsection\n"
#define BASE ".ifndef _.stapsdt.base\n .pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n .weak _.stapsdt.base\n" \
  " .hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n .size _.stapsdt.base,1\n .popsection\n .endif\n"
int main(void) {
  __asm__ volatile("990: nop\n" NOTE("990b") BASE);
  __asm__ volatile("991: nop\n" NOTE("991b"));
  __asm__ volatile("992: ret\n" NOTE("992b") NOTE("0"));
  return 0;
}"#;

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

#[test]
fn hardening_follows_the_linkers_flags() {
    let dir = TempDir::new().unwrap();
    let hardening = |flags: &[&str]| facts(&open(&gcc(dir.path(), "a", PLAIN, flags))).unwrap().hardening;
    let expect = |relro, nx, pie, canary| Hardening { relro, nx, pie, canary };
    let no_canary = "-fno-stack-protector";
    assert_eq!(
        hardening(&["-pie", "-Wl,-z,relro,-z,now", "-fstack-protector-all"]),
        expect(Relro::Full, true, true, Some(true))
    );
    assert_eq!(
        hardening(&["-pie", "-Wl,-z,relro,-z,lazy", no_canary]),
        expect(Relro::Partial, true, true, Some(false))
    );
    assert_eq!(
        hardening(&["-no-pie", "-Wl,-z,norelro,-z,execstack", no_canary]),
        expect(Relro::No, false, false, Some(false))
    );
    // glibc's own static objects use the canary; without a symbol table nobody can tell.
    assert_eq!(hardening(&["-static", no_canary]).canary, Some(true));
    assert_eq!(hardening(&["-static", "-s"]).canary, None);
}

#[test]
fn facts_name_interpreter_libraries_and_paths() {
    let dir = TempDir::new().unwrap();
    let path = gcc(
        dir.path(),
        "a",
        PLAIN,
        &[
            "-pie",
            "-Wl,--no-as-needed,-rpath,/some/where",
            "-lm",
            "-Wl,--build-id=0xc0ffee0001",
        ],
    );
    let found = facts(&open(&path)).unwrap();
    assert_eq!((found.class, found.elf_type), (Class::Elf64, ElfType::Dyn));
    assert!(found.interpreter.unwrap().as_str().unwrap().contains("ld-linux"));
    assert_eq!(found.needed, [Name::from("libm.so.6"), Name::from("libc.so.6")]);
    assert_eq!(found.runpath.or(found.rpath), Some(Name::from("/some/where")));
    assert_eq!(found.build_id.as_deref(), Some("c0ffee0001"));
    assert!(found.segments.iter().any(|s| s.kind == SegmentKind::GnuRelro));
    let library = gcc(
        dir.path(),
        "b.so",
        "int f(void) { return 1; }",
        &["-shared", "-fPIC", "-Wl,-soname,libb.so.1"],
    );
    let found = facts(&open(&library)).unwrap();
    assert_eq!(found.soname, Some(Name::from("libb.so.1")));
    assert!(!found.hardening.pie);
}

#[test]
fn symbols_are_found_with_and_without_section_headers() {
    let dir = TempDir::new().unwrap();
    for hash in ["-Wl,--hash-style=gnu", "-Wl,--hash-style=sysv"] {
        let path = gcc(dir.path(), "a", PLAIN, &["-no-pie", "-rdynamic", hash]);
        let whole = symbols(&open(&path), &["answer", "leaf", "wer", "nothing", ""]).unwrap();
        assert_eq!(whole.keys().collect::<Vec<_>>(), ["answer", "leaf"]);
        let leaf = functions(&open(&path)).unwrap().into_iter().find(|f| f.name == "leaf");
        assert_eq!(Some(whole["leaf"]), leaf.map(|f| f.address));
        // e_shoff, e_shnum and e_shstrndx of the ELF-64 header: what --strip-section-headers does.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0x28..0x30].fill(0);
        bytes[0x3c..0x40].fill(0);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(symbols(&open(&path), &["answer", "leaf"]).unwrap(), whole, "{hash}");
    }
}

#[cfg(target_env = "gnu")]
#[test]
fn glibc_describes_its_threads_to_debuggers() {
    // Since glibc 2.34 the descriptors are in the dynamic symbols of libc, before in the full table of libpthread.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libraries = maps.lines().filter_map(|line| line.split_once('/'));
    let libraries = libraries.filter(|(_, path)| path.contains("libc.so.6") || path.contains("libpthread"));
    let wanted = ["_thread_db_sizeof_pthread", "_thread_db_pthread_tid"];
    let found = libraries.map(|(_, path)| symbols(&open(Path::new(&format!("/{path}"))), &wanted).unwrap());
    assert!(found.into_iter().any(|symbols| symbols.len() == 2));
}

/// In the program whatever the optimiser does elsewhere.
#[inline(never)]
fn never_inlined() -> u32 {
    std::hint::black_box(7)
}

#[test]
fn functions_are_demangled_without_hash() {
    assert_eq!(never_inlined(), 7);
    let all = functions(&open(Path::new("/proc/self/exe"))).unwrap();
    let here = all
        .iter()
        .find(|f| f.name.ends_with("elf::tests::never_inlined") && f.size > 0);
    let here = here.expect("this test's own function");
    assert!(here.raw.starts_with("_ZN") || here.raw.starts_with("_R"), "{here:?}");
    assert!(
        all.windows(2)
            .all(|pair| (pair[0].address, &pair[0].raw) < (pair[1].address, &pair[1].raw))
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn probes_are_the_sites_that_can_be_hit_even_in_a_stripped_file() {
    let dir = TempDir::new().unwrap();
    for flags in [&["-pie", "-s"][..], &["-no-pie"], &["-static", "-s"]] {
        let path = gcc(dir.path(), "a", PROBED, flags);
        let found = probes(&open(&path)).unwrap();
        assert_eq!(found.len(), 2, "{flags:?} {found:?}");
        for site in found {
            assert_eq!(
                (site.provider.as_str(), site.name.as_str(), site.semaphore),
                ("memcheck", "rea\\x1bdy", 0)
            );
        }
    }
    assert_eq!(probes(&open(&gcc(dir.path(), "b", PLAIN, &[]))).unwrap(), []);
}

#[test]
fn other_files_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("text");
    for content in [&b""[..], b"\x7fELF", b"#!/bin/sh\necho"] {
        std::fs::write(&path, content).unwrap();
        assert!(facts(&open(&path)).is_err());
    }
    assert!(facts(&open(Path::new("/dev/zero"))).is_err());
    assert!(facts(&open(Path::new("/"))).is_err());
}

/// A header of the other class and byte order, by the specification.
#[test]
fn a_32_bit_big_endian_header_is_read() {
    let mut bytes = b"\x7fELF\x01\x02\x01".to_vec();
    bytes.resize(16, 0);
    for half in [2_u16, 8] {
        bytes.extend(half.to_be_bytes()); // ET_EXEC, EM_MIPS
    }
    for word in [1_u32, 0x40_0123, 0x100, 0, 0] {
        bytes.extend(word.to_be_bytes()); // version, entry, phoff, shoff, flags
    }
    for half in [52_u16, 32, 1, 40, 0, 0] {
        bytes.extend(half.to_be_bytes());
    }
    bytes.resize(0x100, 0);
    for word in [1_u32, 0, 0x40_0000, 0x40_0000, 0x120, 0x200, 5, 0x1000] {
        bytes.extend(word.to_be_bytes());
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("be");
    std::fs::write(&path, bytes).unwrap();
    let found = facts(&open(&path)).unwrap();
    assert_eq!((found.class, found.machine, found.entry), (Class::Elf32, 8, 0x40_0123));
    assert_eq!(found.segments.len(), 1);
    assert_eq!(
        (found.segments[0].vaddr, found.segments[0].memsz, found.segments[0].flags),
        (0x40_0000, 0x200, 5)
    );
}

type Damage = (Vec<(prop::sample::Index, u8)>, Vec<(usize, u8)>, prop::sample::Index);

/// A damaged copy of a small real file: bytes overwritten, mostly where the tables are, or cut.
fn damaged() -> impl Strategy<Value = Damage> {
    (
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        prop::collection::vec((0_usize..0x400, prop_oneof![any::<u8>(), Just(0xff)]), 0..12),
        any::<prop::sample::Index>(),
    )
}

#[test]
fn a_damaged_file_is_an_error_or_an_answer_but_no_panic() {
    let dir = TempDir::new().unwrap();
    let good = std::fs::read(gcc(dir.path(), "a", PROBED, &["-pie", "-rdynamic"])).unwrap();
    let path = dir.path().join("damaged");
    proptest!(ProptestConfig::with_cases(400), |((anywhere, head, cut) in damaged())| {
        let mut bytes = good.clone();
        for (index, value) in &anywhere {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        for (at, value) in &head {
            bytes[*at] = *value;
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(good.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        let file = open(&path);
        let _ = (facts(&file), symbols(&file, &["main", "data_start"]), functions(&file), probes(&file));
        prop_assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64);
    });
}
