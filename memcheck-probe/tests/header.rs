//! `memcheck.h` compiled by the machine's C compiler: no warning, and the notes a Rust marker gives too.
#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops where it fails, and runs a compiler"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "support/notes.rs"]
mod notes;

const PROGRAM: &str = r#"
#include "memcheck.h"
static inline void step(void) { MEMCHECK_CHECKPOINT(inlined); }
int main(void)
{
    int i;
    MEMCHECK_CHECKPOINT(bare_word);
    MEMCHECK_CHECKPOINT_STR("touch-20.1");
    for (i = 0; i < 3; i++)
        step();
    if (i)
        MEMCHECK_CHECKPOINT(after);
    else
        return 1;
    step();
    return 0;
}
"#;

fn compile(flags: &[&str]) -> PathBuf {
    let stem: String = flags.concat().chars().filter(char::is_ascii_alphanumeric).collect();
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("header-{stem}.c"));
    std::fs::write(&source, PROGRAM).unwrap();
    let program = source.with_extension("out");
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic"])
        .args(flags)
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

#[test]
fn the_header_gives_the_same_notes_without_a_warning() {
    for flags in [
        &["-std=c99", "-O0"][..],
        &["-std=c99", "-O2", "-s"],
        &["-std=gnu17", "-O2", "-flto", "-no-pie"],
        &["-std=c99", "-O2", "-DMEMCHECK_COOPERATIVE"],
        &["-std=gnu17", "-O2", "-DMEMCHECK_COOPERATIVE"],
    ] {
        let found = notes::read(&std::fs::read(compile(flags)).unwrap());
        for name in ["bare_word", "touch-20.1", "inlined", "after"] {
            let sites: Vec<_> = found
                .iter()
                .filter(|note| note.provider == "memcheck" && note.name == name)
                .collect();
            assert!(!sites.is_empty(), "{name} with {flags:?}");
            let nop: &[u8] = if cfg!(target_arch = "x86_64") {
                &[0x90]
            } else {
                &[0x1f, 0x20, 0x03, 0xd5]
            };
            assert!(
                sites.iter().all(|note| note.code.starts_with(nop) && note.forms.is_empty()),
                "{name} with {flags:?}"
            );
        }
    }
}

#[test]
fn the_constant_is_the_header() {
    assert_eq!(
        memcheck_probe::HEADER,
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/memcheck.h")).unwrap()
    );
}
