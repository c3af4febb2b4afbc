//! What we say about processes and files, held against independent sources: the kernel's figures as pmap sums them, readelf,
//! checksec, gdb, strace, cargo-insta, and programs that count for themselves. Behind the feature `oracles`, as it needs tools
//! beyond Rust and gcc; a tool that is missing fails the test by name.

#[cfg(test)]
#[path = "oracles/aarch64.rs"]
mod aarch64;
#[cfg(test)]
#[path = "oracles/allocators.rs"]
mod allocators;
#[cfg(test)]
#[path = "oracles/attach.rs"]
mod attach;
#[cfg(test)]
#[path = "oracles/checksec.rs"]
mod checksec;
#[cfg(test)]
#[path = "oracles/elf_files.rs"]
mod elf_files;
#[cfg(test)]
#[path = "oracles/formats.rs"]
mod formats;
#[cfg(test)]
#[path = "oracles/gdb.rs"]
mod gdb;
#[cfg(test)]
#[path = "oracles/glibc.rs"]
mod glibc;
#[cfg(test)]
#[path = "oracles/insta_files.rs"]
mod insta_files;
#[cfg(test)]
#[path = "oracles/kinds.rs"]
mod kinds;
#[cfg(test)]
#[path = "oracles/nested.rs"]
mod nested;
#[cfg(test)]
#[path = "oracles/pmap.rs"]
mod pmap;
#[cfg(test)]
#[path = "oracles/readelf.rs"]
mod readelf;
#[cfg(test)]
#[path = "oracles/show.rs"]
mod show;
#[cfg(test)]
#[path = "oracles/show_elf.rs"]
mod show_elf;
#[cfg(test)]
#[path = "oracles/stop.rs"]
mod stop;
#[cfg(test)]
#[path = "oracles/strace.rs"]
mod strace;
#[cfg(test)]
#[path = "oracles/systems.rs"]
mod systems;
#[cfg(test)]
#[path = "oracles/tools.rs"]
mod tools;
#[cfg(test)]
#[path = "oracles/truth.rs"]
mod truth;
