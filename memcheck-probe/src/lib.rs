//! Checkpoint markers for programs measured by `cargo memcheck`: [`checkpoint!`] for Rust, [`HEADER`] for C and C++.
//!
//! ```
//! memcheck_probe::checkpoint!("spawned");
//! ```
//!
//! A marker is one `nop` in the code and a note in `.note.stapsdt`, a section that is never loaded: a SystemTap probe (USDT)
//! of the provider `memcheck`. Unobserved it costs that one instruction; it stays in optimised and stripped programs, and
//! gdb, perf and bpftrace read it too. In `memcheck.toml` it is reached with `at = { probe = "spawned" }`.
//!
//! Markers exist on 64-bit x86-64 and aarch64 Linux. Everywhere else (and under Miri) [`checkpoint!`] checks the name,
//! evaluates its arguments, and emits nothing.
//!
//! The crate has no dependencies, needs no `std` and allocates nothing.
//!
//! # Where ptrace is refused
//!
//! With the feature `cooperative` a marker stops its process by itself when `cargo memcheck --cooperative` asks for it. It is
//! no single `nop` then: without that request it costs a load and a comparison, and four system calls at the first one.
//!
//! # `unsafe`
//!
//! Inline assembly needs an `unsafe` block, and the macro puts one into the crate that uses it. That is permitted even
//! under `#![forbid(unsafe_code)]`, since rustc does not apply this lint to code from another crate's macro (a test of this
//! crate holds that). The assembly is a `nop` and data in an unloaded section: it touches no register, flag or memory.

#![no_std]

#[cfg(all(
    feature = "cooperative",
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
))]
mod cooperative;
#[cfg(all(
    feature = "cooperative",
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
))]
#[doc(hidden)]
pub use cooperative::stop as __stop;

/// Stops at a marker; nothing without the feature `cooperative`.
#[cfg(all(
    feature = "cooperative",
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
))]
#[doc(hidden)]
#[macro_export]
macro_rules! __cooperate {
    ($name:expr) => {
        $crate::__stop($name)
    };
}

/// Stops at a marker; nothing without the feature `cooperative`.
#[cfg(not(all(
    feature = "cooperative",
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
)))]
#[doc(hidden)]
#[macro_export]
macro_rules! __cooperate {
    ($name:expr) => {};
}

/// `memcheck.h`, the same markers for C and C++: `MEMCHECK_CHECKPOINT(name)` and `MEMCHECK_CHECKPOINT_STR("name")`.
/// `cargo memcheck` puts it on the include path of the C programs it builds; a build script may write it to `OUT_DIR`.
pub const HEADER: &str = include_str!("../include/memcheck.h");

/// Marks a checkpoint: `checkpoint!("name")`, or with up to four `u64` values that a tracer can read: `checkpoint!("name", a, b)`.
///
/// The name consists of ASCII letters, digits, `_`, `-` and `.`; it is checked at compile time, and `concat!(…)` is accepted.
/// One use may give several sites, when the function around it is inlined, unrolled or generic: the tool arms them all.
/// The compiler treats the marker as an access to all memory: stores before it have happened when the target stops there.
///
/// ```
/// # let batch: Vec<u64> = vec![1, 2, 3];
/// memcheck_probe::checkpoint!("loaded");
/// memcheck_probe::checkpoint!("batch-done", batch.len() as u64, batch[0]);
/// ```
///
/// ```compile_fail
/// memcheck_probe::checkpoint!("no spaces");
/// ```
///
/// ```compile_fail
/// let name = "not constant";
/// memcheck_probe::checkpoint!(name);
/// ```
#[macro_export]
macro_rules! checkpoint {
    ($name:expr $(,)?) => {
        $crate::__checkpoint!($name, "")
    };
    ($name:expr, $a:expr $(,)?) => {
        $crate::__checkpoint!($name, "8@{a}", a = $a)
    };
    ($name:expr, $a:expr, $b:expr $(,)?) => {
        $crate::__checkpoint!($name, "8@{a} 8@{b}", a = $a, b = $b)
    };
    ($name:expr, $a:expr, $b:expr, $c:expr $(,)?) => {
        $crate::__checkpoint!($name, "8@{a} 8@{b} 8@{c}", a = $a, b = $b, c = $c)
    };
    ($name:expr, $a:expr, $b:expr, $c:expr, $d:expr $(,)?) => {
        $crate::__checkpoint!($name, "8@{a} 8@{b} 8@{c} 8@{d}", a = $a, b = $b, c = $c, d = $d)
    };
}

/// The site itself. Layout: an ELF note (length of owner, length of descriptor, type 3, owner `stapsdt`) whose descriptor is
/// the address of the `nop`, the link-time address of `.stapsdt.base` (by which a prelinked file's address is corrected), the
/// semaphore (none), provider, name and argument forms, as in
/// <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>.
#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
))]
#[doc(hidden)]
#[macro_export]
macro_rules! __checkpoint {
    ($name:expr, $forms:literal $(, $operand:ident = $value:expr)*) => {{
        const _: () = $crate::__check_name($name);
        $(let $operand: u64 = $value;)*
        $crate::__asm!(
            concat!(
                // Numeric labels are local to each copy of the assembly, so inlining and unrolling cannot clash.
                "990: nop\n",
                // "?": the note joins the section group of the code and goes when the linker drops that code.
                ".pushsection .note.stapsdt,\"?\",\"note\"\n",
                ".balign 4\n",
                ".4byte 992f-991f,994f-993f,3\n",
                "991: .asciz \"stapsdt\"\n",
                "992: .balign 4\n",
                "993: .8byte 990b,_.stapsdt.base,0\n",
                ".asciz \"memcheck\"\n",
                ".asciz \"", $name, "\"\n",
                ".asciz \"", $forms, "\"\n",
                "994: .balign 4\n",
                ".popsection\n",
                // One anchor for the whole linked file, kept ("R") although no code refers to it: gdb reads no note without it.
                ".ifndef _.stapsdt.base\n",
                ".pushsection .stapsdt.base,\"aGR\",\"progbits\",.stapsdt.base,comdat\n",
                ".weak _.stapsdt.base\n",
                ".hidden _.stapsdt.base\n",
                "_.stapsdt.base: .space 1\n",
                ".size _.stapsdt.base,1\n",
                ".popsection\n",
                ".endif",
            )
            $(, $operand = in(reg) $operand)*
        );
        $crate::__cooperate!($name);
    }};
}

/// Argument forms name registers as the GNU assembler of the architecture does; on x86-64 that is AT&T syntax (`%rax`).
#[cfg(target_arch = "x86_64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __asm {
    ($($asm:tt)*) => {
        // SAFETY: a `nop` and data in an unloaded section; no register, flag or memory changes.
        unsafe { ::core::arch::asm!($($asm)*, options(att_syntax, nostack, preserves_flags)) }
    };
}

/// Argument forms name registers as the GNU assembler of the architecture does.
#[cfg(target_arch = "aarch64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __asm {
    ($($asm:tt)*) => {
        // SAFETY: a `nop` and data in an unloaded section; no register, flag or memory changes.
        unsafe { ::core::arch::asm!($($asm)*, options(nostack, preserves_flags)) }
    };
}

/// Where there are no markers: the same checks and the same evaluation of the arguments.
#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
)))]
#[doc(hidden)]
#[macro_export]
macro_rules! __checkpoint {
    ($name:expr, $forms:literal $(, $operand:ident = $value:expr)*) => {{
        const _: () = $crate::__check_name(concat!($name));
        $(let _: u64 = $value;)*
    }};
}

/// Stops the compilation for a name that could not be written in `memcheck.toml` or that would upset the assembler.
#[doc(hidden)]
pub const fn __check_name(name: &str) {
    let bytes = name.as_bytes();
    assert!(
        !bytes.is_empty() && bytes.len() <= 128,
        "the name of a checkpoint has 1 to 128 characters"
    );
    let mut i = 0;
    while i < bytes.len() {
        assert!(
            bytes[i].is_ascii_alphanumeric() || matches!(bytes[i], b'_' | b'-' | b'.'),
            "the name of a checkpoint consists of ASCII letters, digits, `_`, `-` and `.`"
        );
        i += 1;
    }
}
