//! A reader of `.note.stapsdt` for the tests, written against the format and not against the macros.

/// One probe.
pub(crate) struct Note {
    pub(crate) provider: String,
    pub(crate) name: String,
    pub(crate) forms: String,
    /// Up to four bytes at the probe's address.
    pub(crate) code: Vec<u8>,
}

fn number(bytes: &[u8], at: usize, size: usize) -> usize {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    usize::try_from(u64::from_le_bytes(word)).unwrap()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

/// All probes of a 64-bit little-endian ELF file.
pub(crate) fn read(file: &[u8]) -> Vec<Note> {
    assert_eq!(&file[..6], b"\x7fELF\x02\x01");
    let (table, entry, count, names) = (
        number(file, 40, 8),
        number(file, 58, 2),
        number(file, 60, 2),
        number(file, 62, 2),
    );
    let section = |i: usize| {
        let at = table + i * entry;
        (
            number(file, at, 4),
            number(file, at + 16, 8),
            number(file, at + 24, 8),
            number(file, at + 32, 8),
        )
    };
    let strings = section(names).2;
    let all: Vec<_> = (0..count)
        .map(|i| (text(&file[strings + section(i).0..]), section(i)))
        .collect();
    let (_, (_, text_address, text_offset, text_size)) = all.iter().find(|(name, _)| name == ".text").unwrap();
    let base = all.iter().find(|(name, _)| name == ".stapsdt.base").map(|(_, found)| found.1);

    let mut found = Vec::new();
    for (_, (_, _, offset, size)) in all.iter().filter(|(name, _)| name == ".note.stapsdt") {
        let mut rest = &file[*offset..*offset + *size];
        while rest.len() >= 12 {
            let (owner, length, kind) = (number(rest, 0, 4), number(rest, 4, 4), number(rest, 8, 4));
            assert_eq!((text(&rest[12..]).as_str(), owner, kind), ("stapsdt", 8, 3));
            let note = &rest[20..20 + length];
            let pc = number(note, 0, 8);
            assert!(
                pc == 0 || Some(number(note, 8, 8)) == base,
                "the anchor of the note is the section"
            );
            assert_eq!(number(note, 16, 8), 0, "no semaphore");
            let mut strings = note[24..].split(|&b| b == 0).map(|s| String::from_utf8(s.to_vec()).unwrap());
            let [provider, name, forms] = std::array::from_fn(|_| strings.next().unwrap());
            // A function that the linker dropped leaves a note with address 0.
            if (*text_address..text_address + text_size).contains(&pc) {
                let at = text_offset + pc - text_address;
                found.push(Note {
                    provider,
                    name,
                    forms,
                    code: file[at..at + 4].to_vec(),
                });
            }
            rest = &rest[(20 + length.next_multiple_of(4)).min(rest.len())..];
        }
    }
    found
}
