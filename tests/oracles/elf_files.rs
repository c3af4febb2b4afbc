//! The ELF files that two tests look at: programs and libraries of the distribution, and one C source built in every way that
//! the facts tell apart.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::tools::{cc, command, output, root};

/// Present on every Debian or Ubuntu, or installed by `.ci/run`; below `/usr` unless merged otherwise.
const SYSTEM: [&str; 32] = [
    "/bin/bash",
    "/bin/cat",
    "/bin/dash",
    "/bin/grep",
    "/bin/gzip",
    "/bin/ls",
    "/bin/mount",
    "/bin/ps",
    "/bin/sed",
    "/bin/tar",
    "/sbin/ldconfig",
    "/usr/bin/as",
    "/usr/bin/dpkg",
    "/usr/bin/env",
    "/usr/bin/find",
    "/usr/bin/gcc",
    "/usr/bin/gdb",
    "/usr/bin/git",
    "/usr/bin/ld",
    "/usr/bin/perl",
    "/usr/bin/pmap",
    "/usr/bin/python3",
    "/usr/bin/readelf",
    "/usr/bin/sqlite3",
    "/usr/bin/strace",
    "/usr/bin/xargs",
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libstdc++.so.6",
    "libsqlite3.so.0",
    "ld-linux",
];

/// Where libraries lie, by distribution and machine.
const LIBRARIES: [&str; 4] = [
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];

/// Builds of `examples/c/pointers.c`: name and flags.
pub(crate) const BUILDS: [(&str, &[&str]); 14] = [
    ("norelro", &["-Wl,-z,norelro"]),
    ("relro", &["-Wl,-z,relro", "-Wl,-z,lazy"]),
    ("relro-now", &["-Wl,-z,relro", "-Wl,-z,now"]),
    ("no-pie", &["-no-pie", "-fno-pie"]),
    ("static", &["-static"]),
    ("static-pie", &["-static-pie"]),
    ("execstack", &["-z", "execstack"]),
    ("protected", &["-fstack-protector-all"]),
    ("rpath", &["-Wl,-rpath,/opt/a:/opt/b", "-Wl,--disable-new-dtags"]),
    ("runpath", &["-Wl,-rpath,$ORIGIN/../lib", "-Wl,--enable-new-dtags"]),
    ("stripped", &["-s", "-Wl,-z,now"]),
    ("noseparate", &["-Wl,-z,noseparate-code", "-Wl,--build-id=0x0123456789abcdef"]),
    ("sysv-hash", &["-Wl,--hash-style=sysv", "-Wl,--build-id=none"]),
    ("shared.so", &["-shared", "-fPIC", "-Wl,-soname,libpointers.so.1"]),
];

/// Builds of the same source for machines that nothing of it can run on: name, compiler and flags.
const CROSS: [(&str, &str, &[&str]); 6] = [
    ("arm-norelro", "arm-linux-gnueabihf-gcc", &["-Wl,-z,norelro"]),
    ("arm-relro", "arm-linux-gnueabihf-gcc", &["-Wl,-z,relro", "-Wl,-z,lazy"]),
    (
        "arm-relro-now",
        "arm-linux-gnueabihf-gcc",
        &["-Wl,-z,relro", "-Wl,-z,now", "-fstack-protector-all"],
    ),
    ("arm-static", "arm-linux-gnueabihf-gcc", &["-static"]),
    ("aarch64-relro-now", "aarch64-linux-gnu-gcc", &["-Wl,-z,relro", "-Wl,-z,now"]),
    (
        "aarch64-norelro.so",
        "aarch64-linux-gnu-gcc",
        &["-shared", "-fPIC", "-Wl,-z,norelro"],
    ),
];

fn library(name: &str) -> Option<PathBuf> {
    LIBRARIES
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .and_then(|found| found.to_str())
                .is_some_and(|found| found.starts_with(name))
        })
}

/// The files of the distribution that are there: at least 20.
pub(crate) fn of_the_system() -> Vec<PathBuf> {
    let files: Vec<PathBuf> = SYSTEM
        .iter()
        .filter_map(|name| {
            if name.starts_with('/') {
                Some(PathBuf::from(name))
            } else {
                library(name)
            }
        })
        .filter(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")))
        .collect();
    assert!(files.len() >= 20, "only {files:?}");
    files
}

/// One of [`BUILDS`], made once.
pub(crate) fn build(name: &str) -> PathBuf {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        std::thread::scope(|scope| {
            for half in BUILDS.chunks(BUILDS.len().div_ceil(2)) {
                let dir: &Path = dir.path();
                scope.spawn(move || {
                    for (name, flags) in half {
                        cc(dir, name, "examples/c/pointers.c", flags);
                    }
                });
            }
        });
        dir
    });
    dir.path().join(name)
}

/// Those of other machines, made once.
pub(crate) fn of_other_machines() -> Vec<PathBuf> {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        for (name, compiler, flags) in CROSS {
            let mut cc = command(compiler);
            cc.args(["-g", "-O1", "-I"]).arg(root().join("memcheck-probe/include"));
            cc.arg(root().join("examples/c/pointers.c")).args(flags);
            output(cc.arg("-o").arg(dir.path().join(name)));
        }
        dir
    });
    CROSS.iter().map(|(name, ..)| dir.path().join(name)).collect()
}

/// All of them.
pub(crate) fn all() -> Vec<PathBuf> {
    let mut files = of_the_system();
    files.extend(of_other_machines());
    files.extend(BUILDS.iter().map(|(name, _)| build(name)));
    files
}
