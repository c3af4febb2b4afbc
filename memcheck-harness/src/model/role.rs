//! `Role`: what a byte of the address space is for. Each byte has exactly one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Memory allocators and runtimes other than glibc's malloc that can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is a product's own name")]
pub enum Allocator {
    Jemalloc,
    Mimalloc,
    Tcmalloc,
    Snmalloc,
    Musl,
    CPython,
    Jvm,
    Go,
}

/// What a range of memory is for. The declaration order is the order of rows in tables and snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The executable's ELF header and other read-only pages before its text.
    ExeHeaders,
    /// The executable's code.
    ExeText,
    /// The executable's read-only data after the text.
    ExeRodata,
    /// The executable's pages made read-only after relocation (`PT_GNU_RELRO`).
    ExeRelro,
    /// The executable's initialised writable data.
    ExeData,
    /// The executable's zero-initialised data beyond the file's last page.
    ExeBss,
    /// As [`Role::ExeHeaders`], of the program's own shared objects.
    LibHeaders,
    /// As [`Role::ExeText`], of own shared objects.
    LibText,
    /// As [`Role::ExeRodata`], of own shared objects.
    LibRodata,
    /// As [`Role::ExeRelro`], of own shared objects.
    LibRelro,
    /// As [`Role::ExeData`], of own shared objects.
    LibData,
    /// As [`Role::ExeBss`], of own shared objects.
    LibBss,
    /// The `brk` heap (`[heap]`), glibc's main arena among others.
    MainHeap,
    /// Heaps of glibc's secondary arenas: the committed part and the reserved tail of each.
    ThreadArena,
    /// One large `malloc` served by its own `mmap`.
    MmapChunk,
    /// Stack of a thread that runs.
    ThreadStackLive,
    /// Stack of a thread that ended and was neither joined nor detached.
    ThreadStackExited,
    /// Stack kept by glibc for the next thread; its thread is gone for good.
    ThreadStackCached,
    /// Stack the program supplied itself (`pthread_attr_setstack`).
    ThreadStackUser,
    /// Alternate signal stack (Rust's std maps one per thread).
    SignalStack,
    /// Inaccessible guard of a stack.
    Guard,
    /// Thread-local storage of the main thread, the executable's own whole pages of it.
    Tls,
    /// The main thread's stack (`[stack]`).
    MainStack,
    /// A file mapped by the program that is no loaded object.
    FileMap,
    /// Shared memory: memfd, System V, shared anonymous.
    SharedMap,
    /// Anonymous memory the program mapped itself.
    AnonMap,
    /// Memory of another allocator or runtime.
    Allocator(Allocator),
    /// Loader, libc, other system objects and their private memory, vdso and vvar. Not *own*.
    Platform,
    /// What the tool itself adds: private copies of text pages that hold breakpoints. Not *own*.
    Memcheck,
    /// Nothing known.
    Unclassified,
}

const ALLOCATORS: [(Allocator, &str); 8] = [
    (Allocator::Jemalloc, "allocator.jemalloc"),
    (Allocator::Mimalloc, "allocator.mimalloc"),
    (Allocator::Tcmalloc, "allocator.tcmalloc"),
    (Allocator::Snmalloc, "allocator.snmalloc"),
    (Allocator::Musl, "allocator.musl"),
    (Allocator::CPython, "allocator.cpython"),
    (Allocator::Jvm, "allocator.jvm"),
    (Allocator::Go, "allocator.go"),
];

impl Role {
    /// Every role, in row order.
    pub const ALL: [Self; 37] = [
        Self::ExeHeaders,
        Self::ExeText,
        Self::ExeRodata,
        Self::ExeRelro,
        Self::ExeData,
        Self::ExeBss,
        Self::LibHeaders,
        Self::LibText,
        Self::LibRodata,
        Self::LibRelro,
        Self::LibData,
        Self::LibBss,
        Self::MainHeap,
        Self::ThreadArena,
        Self::MmapChunk,
        Self::ThreadStackLive,
        Self::ThreadStackExited,
        Self::ThreadStackCached,
        Self::ThreadStackUser,
        Self::SignalStack,
        Self::Guard,
        Self::Tls,
        Self::MainStack,
        Self::FileMap,
        Self::SharedMap,
        Self::AnonMap,
        Self::Allocator(Allocator::Jemalloc),
        Self::Allocator(Allocator::Mimalloc),
        Self::Allocator(Allocator::Tcmalloc),
        Self::Allocator(Allocator::Snmalloc),
        Self::Allocator(Allocator::Musl),
        Self::Allocator(Allocator::CPython),
        Self::Allocator(Allocator::Jvm),
        Self::Allocator(Allocator::Go),
        Self::Platform,
        Self::Memcheck,
        Self::Unclassified,
    ];

    /// The one spelling used for roles, rows and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExeHeaders => "exe.headers",
            Self::ExeText => "exe.text",
            Self::ExeRodata => "exe.rodata",
            Self::ExeRelro => "exe.relro",
            Self::ExeData => "exe.data",
            Self::ExeBss => "exe.bss",
            Self::LibHeaders => "lib.headers",
            Self::LibText => "lib.text",
            Self::LibRodata => "lib.rodata",
            Self::LibRelro => "lib.relro",
            Self::LibData => "lib.data",
            Self::LibBss => "lib.bss",
            Self::MainHeap => "main-heap",
            Self::ThreadArena => "thread-arena",
            Self::MmapChunk => "mmap-chunk",
            Self::ThreadStackLive => "thread-stack.live",
            Self::ThreadStackExited => "thread-stack.exited",
            Self::ThreadStackCached => "thread-stack.cached",
            Self::ThreadStackUser => "thread-stack.user",
            Self::SignalStack => "signal-stack",
            Self::Guard => "guard",
            Self::Tls => "tls",
            Self::MainStack => "main-stack",
            Self::FileMap => "file-map",
            Self::SharedMap => "shared-map",
            Self::AnonMap => "anon-map",
            Self::Allocator(which) => {
                let mut i = 0;
                while i < ALLOCATORS.len() {
                    if ALLOCATORS[i].0 as u8 == which as u8 {
                        return ALLOCATORS[i].1;
                    }
                    i += 1;
                }
                "allocator"
            }
            Self::Platform => "platform",
            Self::Memcheck => "memcheck",
            Self::Unclassified => "unclassified",
        }
    }

    /// *Own* is everything but the platform and the tool itself; default budgets and snapshots speak of it.
    #[must_use]
    pub const fn is_own(self) -> bool {
        !matches!(self, Self::Platform | Self::Memcheck)
    }

    /// The kernel's mappings alone do not tell it: the contents of memory (libc's and allocators' structures) have to be read.
    #[must_use]
    pub const fn needs_contents(self) -> bool {
        matches!(
            self,
            Self::ThreadArena
                | Self::MmapChunk
                | Self::ThreadStackLive
                | Self::ThreadStackExited
                | Self::ThreadStackCached
                | Self::ThreadStackUser
                | Self::SignalStack
                | Self::Guard
                | Self::Tls
                | Self::AnonMap
                | Self::Allocator(_)
        )
    }

    /// The segments of the executable or of an own object.
    #[must_use]
    pub fn is_elf(self) -> bool {
        (Self::ExeHeaders..=Self::LibBss).contains(&self)
    }

    /// The roles a metric's subject stands for: a role's own name, or the common first part of several
    /// (`thread-stack`, `exe`, `lib`, `allocator`). Empty when there is no such role.
    #[must_use]
    pub fn matching(subject: &str) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|role| {
                let name = role.name();
                name == subject
                    || (name.len() > subject.len() && name.starts_with(subject) && name.as_bytes()[subject.len()] == b'.')
            })
            .collect()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    /// The name back to the role; the error is the unknown name.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| text.to_owned())
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|unknown| serde::de::Error::custom(format!("unknown role `{unknown}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!(Role::ALL.windows(2).all(|pair| pair[0] < pair[1]), "ALL is in row order");
    }

    #[test]
    fn a_common_first_part_stands_for_several_roles() {
        assert_eq!(Role::matching("thread-stack").len(), 4);
        assert_eq!(Role::matching("guard"), [Role::Guard]);
        assert!(Role::matching("thread").is_empty());
    }
}
