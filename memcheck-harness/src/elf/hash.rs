//! The hash tables of the dynamic section: how the loader finds a symbol by its name, and how many symbols there are in a
//! file without section headers.

use goblin::elf::dynamic::DT_GNU_HASH;

use super::dynamic::Dynamic;
use super::header::Elf;
use super::reader::malformed;
use super::symbols::{CHUNK, MAX_SYMBOLS};
use crate::error::{Error, Result};
use crate::model::Class;

/// Most symbols whose hash equals that of one name: a hash of 32 bits collides rarely.
const MAX_CANDIDATES: usize = 64;
/// Bytes of a chain read at once by a look-up: chains are a few words long.
const CHAIN_READ: u64 = 64;

/// `DT_GNU_HASH`: nbuckets, symoffset, bloom_size, bloom_shift; bloom words; buckets; one chain word for each symbol from
/// symoffset, bit 0 set at the end of a chain (binutils, bfd/elflink.c; glibc, elf/dl-lookup.c).
#[derive(Debug)]
pub(super) struct GnuHash {
    buckets: u64,
    /// Symbols before this one are not in the table: all imports are among them.
    pub(super) first_hashed: u64,
    buckets_at: u64,
    chains_at: u64,
}

fn outside() -> Error {
    malformed("a GNU hash table outside the file")
}

impl GnuHash {
    /// Reads the head of the table; `None` when the file has none.
    pub(super) fn read(elf: &Elf<'_>, dynamic: &Dynamic) -> Result<Option<Self>> {
        let Some(address) = dynamic.value(DT_GNU_HASH) else {
            return Ok(None);
        };
        let (offset, size) = elf.file_range(address).ok_or_else(outside)?;
        let head = elf.reader.bytes(offset, 16, 16, "GNU hash table")?;
        let word = |i: usize| head.get(i * 4..i * 4 + 4).and_then(|w| elf.word(w)).unwrap_or(0);
        let (buckets, first_hashed, bloom) = (word(0), word(1), word(2));
        let bloom_word = if elf.class() == Class::Elf64 { 8 } else { 4 };
        // Three 32-bit numbers, each times at most 8: no overflow before the offset is added.
        let (bloom_bytes, bucket_bytes) = (bloom * bloom_word, buckets * 4);
        if buckets > MAX_SYMBOLS || 16 + bloom_bytes + bucket_bytes > size {
            return Err(outside());
        }
        let buckets_at = offset.checked_add(16 + bloom_bytes).ok_or_else(outside)?;
        Ok(Some(Self {
            buckets,
            first_hashed,
            buckets_at,
            chains_at: buckets_at.checked_add(bucket_bytes).ok_or_else(outside)?,
        }))
    }

    /// Indices of the symbols whose hash is that of the name.
    pub(super) fn candidates(&self, elf: &Elf<'_>, name: &str) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        if self.buckets == 0 {
            return Ok(found);
        }
        let hash = name
            .bytes()
            .fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)));
        let bucket = self.buckets_at + u64::from(hash) % self.buckets * 4;
        let bytes = elf.reader.bytes(bucket, 4, 4, "GNU hash bucket")?;
        let mut index = elf.word(&bytes).unwrap_or(0);
        if index < self.first_hashed {
            return Ok(found);
        }
        self.walk(elf, index, CHAIN_READ, |word| {
            if word | 1 == u64::from(hash | 1) {
                found.push(index);
            }
            index += 1;
            found.len() < MAX_CANDIDATES
        })?;
        Ok(found)
    }

    /// The number of symbols: the table does not tell, but the chain that starts last ends with the last symbol.
    pub(super) fn symbol_count(&self, elf: &Elf<'_>) -> Result<u64> {
        let bytes = elf
            .reader
            .bytes(self.buckets_at, self.buckets * 4, MAX_SYMBOLS * 4, "GNU hash buckets")?;
        let last = bytes.chunks_exact(4).filter_map(|w| elf.word(w)).max().unwrap_or(0);
        if last < self.first_hashed || self.buckets == 0 {
            return Ok(self.first_hashed);
        }
        let mut count = last;
        self.walk(elf, last, CHUNK, |_| {
            count += 1;
            true
        })?;
        Ok(count)
    }

    /// Passes the words of the chain from a symbol on, to its end or until `visit` says false.
    fn walk(&self, elf: &Elf<'_>, from: u64, step: u64, mut visit: impl FnMut(u64) -> bool) -> Result<()> {
        let mut at = self.chains_at.saturating_add((from - self.first_hashed) * 4);
        for _ in 0..MAX_SYMBOLS * 4 / step {
            let bytes = elf.reader.up_to(at, step, "GNU hash chain")?;
            if bytes.len() < 4 {
                return Err(outside());
            }
            for word in bytes.chunks_exact(4).filter_map(|w| elf.word(w)) {
                if !visit(word) || word & 1 == 1 {
                    return Ok(());
                }
            }
            at = at.saturating_add(step);
        }
        Err(malformed("a GNU hash chain without end"))
    }
}

/// `nchain` of the System V hash table is the number of symbols (gABI "Hash Table").
pub(super) fn sysv_count(elf: &Elf<'_>, address: u64) -> Result<u64> {
    let (offset, _) = elf
        .file_range(address)
        .ok_or_else(|| malformed("a hash table outside the file"))?;
    let bytes = elf.reader.bytes(offset.saturating_add(4), 4, 4, "hash table")?;
    elf.word(&bytes).ok_or_else(|| malformed("hash table"))
}
