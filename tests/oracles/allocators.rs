//! Memory of allocators and runtimes other than glibc's malloc: the distribution's jemalloc, mimalloc, tcmalloc and musl under a
//! program that counts its own bytes, and CPython, Java and Go as they come.

use std::path::{Path, PathBuf};

use memcheck_harness::model::{At, MemoryMap, Metric, Role};
use tempfile::TempDir;

use crate::stop::{probe, show, visit};
use crate::tools::{command, hex, output, root, system_program};

const SOURCE: &str = "tests/fixtures/allocations.c";

fn metric(map: &MemoryMap, name: &str) -> u64 {
    map.metric(&Metric::parse(name).unwrap())
        .unwrap_or_else(|| panic!("{name} is absent\n{}", show(map)))
}

fn compile(dir: &Path, compiler: &str, flags: &[&str]) -> PathBuf {
    let program = dir.join("allocations");
    let mut command = command(compiler);
    command
        .args(["-O1", "-fno-builtin", "-I"])
        .arg(root().join("memcheck-probe/include"));
    output(command.arg(root().join(SOURCE)).args(flags).arg("-o").arg(&program));
    program
}

/// All that the program allocated lies in memory of the allocator, its own mapping does not, and little else is there.
fn holds(program: &Path, name: &str) {
    let mut seen = None;
    let ended = visit(program, &[], &[probe("filled")], |_, _, _, map| seen = Some(map.clone()));
    let map = seen.unwrap();
    let (mut live, mut own) = (0, (0, 0));
    for line in ended.output.stdout.as_str().unwrap().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["live", bytes] => live = hex(bytes),
            ["is", "anon-map", start, bytes] => own = (hex(start), hex(start) + hex(bytes)),
            _ => panic!("{line}"),
        }
    }
    let anon = metric(&map, &format!("allocator.{name}.anon"));
    assert!(
        (live..live + live / 4 + (2 << 20)).contains(&anon),
        "{live} live, {anon} anonymous\n{}",
        show(&map)
    );
    assert!(metric(&map, &format!("allocator.{name}.reserved")) >= anon);
    assert!(metric(&map, &format!("allocator.{name}.count")) >= 1);
    for piece in map.pieces.iter().filter(|piece| piece.start < own.1 && own.0 < piece.end) {
        assert_eq!(piece.role, Role::AnonMap, "{}", show(&map));
    }
    // Nothing of it is left elsewhere: pages of a few tables at most.
    let others = metric(&map, "anon-map.anon") + metric(&map, "main-heap.anon");
    assert!(others < 256 << 10, "{others}\n{}", show(&map));
    assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0);
}

/// A library of the distribution by its name.
fn library(name: &str, package: &str) -> String {
    let path = format!("/usr/lib/x86_64-linux-gnu/{name}");
    assert!(
        Path::new(&path).exists(),
        "{path} is missing: install {package} (.ci/run does)"
    );
    path
}

fn linked(name: &str, file: &str, package: &str) {
    let dir = TempDir::new().unwrap();
    let program = compile(dir.path(), "cc", &["-Wl,--no-as-needed", &library(file, package)]);
    holds(&program, name);
}

#[test]
fn jemalloc() {
    linked("jemalloc", "libjemalloc.so.2", "libjemalloc2");
}

#[test]
fn mimalloc() {
    linked("mimalloc", "libmimalloc.so.2", "libmimalloc2.0");
}

#[test]
fn tcmalloc() {
    linked("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4");
}

#[test]
fn musl_shared_static_and_stripped() {
    for flags in [&[][..], &["-static"], &["-static", "-s"]] {
        let dir = TempDir::new().unwrap();
        holds(&compile(dir.path(), "musl-gcc", flags), "musl");
    }
}

fn at_exit(program: &Path, args: &[&str]) -> MemoryMap {
    let mut seen = None;
    visit(program, args, &[At::Exit], |_, _, _, map| seen = Some(map.clone()));
    seen.unwrap()
}

#[test]
fn cpython() {
    // 100 000 objects of 133 bytes, 144 in the object allocator; alive at the end, as the process ends without clearing up.
    let program = "import os; x = [bytes(100) for i in range(100000)]; os._exit(0)";
    let map = at_exit(&system_program("python3"), &["-S", "-c", program]);
    let anon = metric(&map, "allocator.cpython.anon");
    assert!((14_400_000..17_000_000).contains(&anon), "{anon}\n{}", show(&map));
    assert_eq!(metric(&map, "allocator.cpython.reserved") % (1 << 20), 0, "{}", show(&map));
}

#[test]
fn java() {
    let map = at_exit(&system_program("java"), &["-XX:+UseSerialGC", "-Xmx64m", "-version"]);
    assert!(metric(&map, "allocator.jvm.reserved") >= 64 << 20, "{}", show(&map));
    assert!(
        metric(&map, "allocator.jvm.anon") > 0 && metric(&map, "anon-map.count") == 0,
        "{}",
        show(&map)
    );
}

#[test]
fn go() {
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("main.go");
    let text = "package main\nvar x [][]byte\nfunc main() { for i := 0; i < 1000; i++ { b := make([]byte, 10000); b[5000] = 1; x = append(x, b) } }\n";
    std::fs::write(&source, text).unwrap();
    let program = dir.path().join("program");
    let mut build = command("go");
    build
        .env("GOCACHE", dir.path().join("cache"))
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off");
    output(build.args(["build", "-ldflags", "-s -w", "-o"]).arg(&program).arg(&source));
    let map = at_exit(&program, &[]);
    // A thousand slices, a page each at least.
    let anon = metric(&map, "allocator.go.anon");
    assert!((4 << 20..16 << 20).contains(&anon), "{anon}\n{}", show(&map));
    assert_eq!(metric(&map, "anon-map.count"), 0, "{}", show(&map));
}
