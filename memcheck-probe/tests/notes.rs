//! The markers of this very test binary, read back from its file. The `forbid` below is itself a test: users may have it.
#![forbid(unsafe_code)]
#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::hint::black_box;

use memcheck_probe::checkpoint;

#[path = "support/notes.rs"]
mod notes;

/// Called with several types, so several copies are compiled.
#[inline(never)]
fn generic<T: Copy>(value: T) -> T {
    checkpoint!("generic");
    black_box(value)
}

#[inline(always)]
fn inlined() {
    checkpoint!(concat!("inlined", ".", 1));
}

fn looped() {
    for i in 0..black_box(3_u64) {
        checkpoint!("looped", i);
    }
}

fn sites(name: &str) -> Vec<notes::Note> {
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    notes::read(&file)
        .into_iter()
        .filter(|note| note.provider == "memcheck" && note.name == name)
        .collect()
}

#[test]
fn a_marker_is_a_nop_with_a_note() {
    checkpoint!("plain");
    let found = sites("plain");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].forms, "");
    let nop: &[u8] = if cfg!(target_arch = "x86_64") {
        &[0x90]
    } else {
        &[0x1f, 0x20, 0x03, 0xd5]
    };
    assert!(found[0].code.starts_with(nop), "{:x?}", found[0].code);
}

#[test]
fn one_use_may_give_several_sites() {
    assert_eq!(generic(1_u8), 1);
    assert_eq!(generic(1_u64), 1);
    inlined();
    inlined();
    looped();
    assert!(sites("generic").len() >= 2);
    assert!(!sites("inlined.1").is_empty());
    assert!(!sites("looped").is_empty());
}

#[test]
fn arguments_are_registers_of_eight_bytes() {
    checkpoint!("arguments", black_box(1), black_box(2), black_box(3), black_box(4),);
    let found = sites("arguments");
    assert_eq!(found.len(), 1);
    let forms: Vec<&str> = found[0].forms.split(' ').collect();
    assert_eq!(forms.len(), 4);
    let prefix = if cfg!(target_arch = "x86_64") { "8@%r" } else { "8@x" };
    assert!(forms.iter().all(|form| form.starts_with(prefix)), "{forms:?}");
}

#[test]
fn arguments_are_evaluated_once() {
    let mut calls = 0;
    let mut next = || {
        calls += 1;
        calls
    };
    checkpoint!("counted", next());
    assert_eq!(calls, 1);
}
