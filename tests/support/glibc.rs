//! The C libraries of other releases, as `.ci/glibcs` unpacks them, and how a program is built against one of them.

use std::path::{Path, PathBuf};

/// The unpacked root of a release; `tmp` is `CARGO_TARGET_TMPDIR` of the test.
///
/// # Panics
/// When it is not there.
#[must_use]
#[track_caller]
pub fn root(tmp: &str, release: &str) -> PathBuf {
    let root = Path::new(tmp).join("../tools/glibc").join(release);
    assert!(root.join("complete").exists(), "no C library of {release}: run .ci/glibcs");
    root.canonicalize()
        .unwrap_or_else(|error| unreachable!("{}: {error}", root.display()))
}

/// Arguments of gcc for a program that this release's loader starts.
#[must_use]
pub fn flags(root: &Path) -> Vec<String> {
    let (library, development) = (root.join("lib/x86_64-linux-gnu"), root.join("usr/lib/x86_64-linux-gnu"));
    let at = |flag: &str, path: &Path| format!("{flag}{}", path.display());
    let mut flags = vec![
        at("--sysroot=", root),
        at("-B", &development),
        at("-L", &development),
        at("-Wl,--dynamic-linker=", &library.join("ld-linux-x86-64.so.2")),
        at("-Wl,-rpath,", &library),
    ];
    flags.extend(["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"].map(str::to_owned));
    // What the unwinder of a newer gcc asks of libc; nothing here unwinds.
    if root.ends_with("bullseye") {
        flags.push("-Wl,--defsym,_dl_find_object=0".to_owned());
    }
    flags
}
