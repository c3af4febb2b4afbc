//! Parses `/proc/PID/smaps`: head lines as in `maps`, each followed by its figures. Works on whole lines as they arrive, so
//! that a reader can pass a small buffer again and again; nothing is read here.
//!
//! The kernel prints figures at fixed columns (`show_smap` and `__show_smap` in fs/proc/task_mmu.c: 16 bytes of key and
//! blanks, 8 of value, ` kB`). Each line of a record is first compared with the key that stood there in the record before;
//! where that does not fit (a larger number, another kernel) the line is read by its key. A record that stands there as it did in
//! the text before is not read at all.

use super::maps::{check_order, decimal, head, newline, torn};
use super::records::{Coming, Records};
use crate::error::Result;
use crate::model::{Region, Usage, UsageDetail, VmFlags};

/// Parses the text of `/proc/PID/smaps`. Unknown keys are skipped, all `VmFlags` are kept.
///
/// # Errors
/// As [`parse_maps`](super::parse_maps); and figures before the first region, a figure that is no number of kB, a `Size`
/// that is not that of its region.
pub fn parse_smaps(bytes: &[u8]) -> Result<Vec<Region>> {
    let mut parser = Parser::new("smaps", 0);
    parser.lines(bytes)?;
    Ok(parser.regions)
}

/// Which figure a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Skip,
    Size,
    Rss,
    Pss,
    SharedClean,
    SharedDirty,
    PrivateClean,
    PrivateDirty,
    Anonymous,
    AnonHugePages,
    Swap,
    Locked,
    Hugetlb,
}

const FIELDS: [(&[u8], Field); 13] = [
    (b"Size", Field::Size),
    (b"Rss", Field::Rss),
    (b"Pss", Field::Pss),
    (b"Shared_Clean", Field::SharedClean),
    (b"Shared_Dirty", Field::SharedDirty),
    (b"Private_Clean", Field::PrivateClean),
    (b"Private_Dirty", Field::PrivateDirty),
    (b"Anonymous", Field::Anonymous),
    (b"AnonHugePages", Field::AnonHugePages),
    (b"Swap", Field::Swap),
    (b"Locked", Field::Locked),
    (b"Private_Hugetlb", Field::Hugetlb),
    (b"Shared_Hugetlb", Field::Hugetlb),
];

/// Length of a figure's line at fixed columns, newline included, and where its parts begin.
const LINE: usize = 28;
const VALUE: usize = 16;
const UNIT: usize = 24;
/// More lines than any kernel's record has: beyond, keys are searched.
const MAX_LAYOUT: usize = 64;
/// Combinations of flags remembered.
const MAX_FLAGS: usize = 16;

/// Regions so far, and what was learnt of the layout.
#[derive(Debug)]
pub(super) struct Parser {
    /// Name of the file, for errors.
    file: &'static str,
    regions: Vec<Region>,
    /// The first 16 bytes of each line of a record, and what they mean.
    layout: Vec<([u8; VALUE], Field)>,
    /// Lines of flags that occurred, and what they mean.
    flags: Vec<(Vec<u8>, VmFlags)>,
    /// Which line of the record comes next.
    line: usize,
    /// Those of the text before; a text of `maps` is read as fast as it could be compared.
    records: Option<Records>,
}

impl Parser {
    /// Of a file of this name: `smaps`, or `maps`, which has head lines only.
    /// `likely`: how many regions there will be, as far as one can tell.
    pub(super) fn new(file: &'static str, likely: usize) -> Self {
        Self {
            file,
            regions: Vec::with_capacity(likely),
            layout: Vec::new(),
            flags: Vec::new(),
            line: 0,
            records: (file == "smaps").then(Records::default),
        }
    }

    /// Of another text of the same file: what was learnt of the last one holds on.
    pub(super) fn again(mut self, likely: usize) -> Self {
        self.regions = Vec::with_capacity(likely);
        self.line = 0;
        self.records.iter_mut().for_each(Records::begin);
        self
    }

    /// What comes next: [`Records::coming`].
    pub(super) fn coming(&self, at: usize, most: usize) -> Option<Coming> {
        self.records.as_ref()?.coming(at, most)
    }

    /// Takes whole lines.
    pub(super) fn lines(&mut self, mut bytes: &[u8]) -> Result<()> {
        let all = bytes.len();
        while let Some(&first) = bytes.first() {
            // Addresses are printed in lower case, keys begin with a capital letter.
            let is_figure = first.is_ascii_uppercase();
            let at = all - bytes.len();
            let again = |records: &mut Records| records.known(bytes, at);
            if !is_figure && let Some((region, rest)) = self.records.as_mut().and_then(again) {
                check_order(self.regions.last(), &region, self.file)?;
                self.regions.push(region);
                // All its lines are read.
                self.line = MAX_LAYOUT;
                bytes = rest;
                continue;
            }
            if let Some((field, kib)) = self.at_fixed_columns(bytes) {
                if field != Field::Skip {
                    self.store(field, kib)?;
                }
                self.line += 1;
                bytes = &bytes[LINE..];
                continue;
            }
            let end = newline(bytes).ok_or_else(|| torn(self.file, "the last line is cut"))?;
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if is_figure {
                self.by_key(line)?;
                self.line += 1;
            } else {
                let region = head(line).ok_or_else(|| torn(self.file, "a line that is neither region nor figure"))?;
                check_order(self.regions.last(), &region, self.file)?;
                if let Some(records) = &mut self.records {
                    records.skip_to(region.start, at);
                }
                self.regions.push(region);
                self.line = 0;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// The regions. `text`: with so many bytes of it as were taken at once and are all; it is kept for the next text, and another
    /// room given for it.
    pub(super) fn finish(&mut self, text: &mut Vec<u8>, bytes: usize) -> Vec<Region> {
        let regions = std::mem::take(&mut self.regions);
        if let Some(records) = &mut self.records {
            records.keep(text, bytes, &regions);
        }
        regions
    }

    /// The figure of the next line when it looks like the same line of the record before.
    fn at_fixed_columns(&self, bytes: &[u8]) -> Option<(Field, u64)> {
        let (key, field) = *self.layout.get(self.line)?;
        let line = bytes.first_chunk::<LINE>()?;
        if line.first_chunk() != Some(&key) || line.last_chunk() != Some(b" kB\n") {
            return None;
        }
        let value = line.get(VALUE..).and_then(<[u8]>::first_chunk)?;
        if field == Field::Skip {
            Some((field, 0))
        } else {
            right_aligned(*value).map(|kib| (field, kib))
        }
    }

    fn by_key(&mut self, line: &[u8]) -> Result<()> {
        if let Some(value) = line.strip_prefix(b"VmFlags:") {
            return self.flags(value);
        }
        // A line without unit (`THPeligible`) is not at fixed columns, but known to be of no interest.
        if let Some((key, Field::Skip)) = self.layout.get(self.line)
            && line.first_chunk() == Some(key)
        {
            return Ok(());
        }
        let colon = line
            .iter()
            .position(|&b| b == b':')
            .ok_or_else(|| torn(self.file, "a figure without key"))?;
        let (key, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let field = FIELDS
            .iter()
            .find(|(known, _)| *known == key)
            .map_or(Field::Skip, |(_, field)| *field);
        if field != Field::Skip {
            let number = value.strip_suffix(b" kB").and_then(decimal);
            self.store(
                field,
                number.ok_or_else(|| torn(self.file, "a figure that is no number of kB"))?,
            )?;
        }
        self.learn(line, field);
        Ok(())
    }

    /// Remembers how this line of a record begins.
    fn learn(&mut self, line: &[u8], field: Field) {
        let Some(key) = line.first_chunk::<VALUE>().filter(|_| self.line < MAX_LAYOUT) else {
            return;
        };
        // A line that was not read by its key before it (too short to learn from) leaves a gap that matches nothing.
        if self.layout.len() <= self.line {
            self.layout.resize(self.line + 1, ([0; VALUE], Field::Skip));
        }
        // A key longer than the column runs into the value: such a line is read by its key each time.
        if key.contains(&b':') {
            self.layout[self.line] = (*key, field);
        }
    }

    fn flags(&mut self, value: &[u8]) -> Result<()> {
        // Few combinations occur, and the same one again and again.
        let flags = match self.flags.iter().find(|(text, _)| text == value) {
            Some((_, flags)) => flags.clone(),
            None => {
                let codes = value.split(|&b| b == b' ').filter_map(|code| <[u8; 2]>::try_from(code).ok());
                let flags = VmFlags::new(codes.collect());
                if self.flags.len() < MAX_FLAGS {
                    self.flags.push((value.to_vec(), flags.clone()));
                }
                flags
            }
        };
        self.region()?.flags = Some(flags);
        Ok(())
    }

    fn region(&mut self) -> Result<&mut Region> {
        self.regions
            .last_mut()
            .ok_or_else(|| torn(self.file, "a figure before the first region"))
    }

    fn store(&mut self, field: Field, kib: u64) -> Result<()> {
        let bytes = kib
            .checked_mul(1024)
            .ok_or_else(|| torn(self.file, "a figure beyond 2^64 bytes"))?;
        let region = self.region()?;
        if field == Field::Skip {
            return Ok(());
        }
        if field == Field::Size {
            if bytes != region.size_bytes() {
                return Err(torn(self.file, "a size that is not its region's"));
            }
            return Ok(());
        }
        let usage = region.usage.get_or_insert_with(Usage::default);
        let detail = usage.detail.get_or_insert_with(UsageDetail::default);
        if field == Field::Hugetlb {
            detail.hugetlb_bytes = detail.hugetlb_bytes.saturating_add(bytes);
            return Ok(());
        }
        *match field {
            Field::Rss => &mut usage.resident_bytes,
            Field::Anonymous => &mut usage.anon_bytes,
            Field::Swap => &mut usage.swap_bytes,
            Field::Pss => &mut detail.proportional_bytes,
            Field::SharedClean => &mut detail.shared_clean_bytes,
            Field::SharedDirty => &mut detail.shared_dirty_bytes,
            Field::PrivateClean => &mut detail.private_clean_bytes,
            Field::PrivateDirty => &mut detail.private_dirty_bytes,
            Field::AnonHugePages => &mut detail.anon_huge_bytes,
            Field::Locked => &mut detail.locked_bytes,
            Field::Skip | Field::Size | Field::Hugetlb => return Ok(()),
        } = bytes;
        Ok(())
    }
}

/// Blanks, then digits to the end: a number of at most 8 digits.
fn right_aligned(bytes: [u8; UNIT - VALUE]) -> Option<u64> {
    let mut value = None;
    for byte in bytes {
        value = match (byte, value) {
            (b' ', None) => None,
            (b'0'..=b'9', before) => Some(before.unwrap_or(0) * 10 + u64::from(byte - b'0')),
            _ => return None,
        };
    }
    value
}

#[cfg(test)]
mod tests {
    use procfs_core::process::{MMapPath, MemoryMaps, VmFlags as TheirFlags};
    use procfs_core::{FromBufRead, FromRead};
    use proptest::prelude::*;

    use super::*;
    use crate::capture::parse_maps;

    const RECORD: &str = "\
7f0000000000-7f0000003000 rw-p 00001000 fe:00 247030                     /usr/lib/x.so
Size:                 12 kB
KernelPageSize:        4 kB
Rss:                   8 kB
Pss:                   4 kB
Pss_Dirty:             0 kB
Shared_Clean:          4 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
AnonHugePages:         0 kB
Swap:                  4 kB
SwapPss:               4 kB
Shared_Hugetlb:     2048 kB
Private_Hugetlb:    4096 kB
Locked:                0 kB
THPeligible:           0
VmFlags: wr rd zz ac 
";

    #[test]
    fn a_record_becomes_bytes() {
        let regions = parse_smaps(RECORD.as_bytes()).unwrap();
        let usage = regions[0].usage.unwrap();
        let detail = usage.detail.unwrap();
        assert_eq!(
            (usage.resident_bytes, detail.proportional_bytes, usage.anon_bytes),
            (8192, 4096, 4096)
        );
        assert_eq!(
            (detail.shared_clean_bytes, detail.private_dirty_bytes, usage.swap_bytes),
            (4096, 4096, 4096)
        );
        assert_eq!(detail.hugetlb_bytes, 6 << 20);
        let flags = regions[0].flags.as_ref().unwrap();
        assert_eq!(flags.codes(), [*b"ac", *b"rd", *b"wr", *b"zz"]);
    }

    #[test]
    fn numbers_wider_than_the_column_and_other_orders_are_read_by_key() {
        let wide = "\
100000000000-200000000000 rw-p 00000000 00:00 0 
Size:           17179869184 kB
Rss:            123456789 kB
Anonymous:      123456789 kB
";
        let other = "\
300000000000-300000001000 rw-p 00000000 00:00 0 
Anonymous:             0 kB
Future_Key_Longer_Than_The_Column:      7 apples
Rss:                   4 kB
";
        let regions = parse_smaps(format!("{RECORD_LOW}{wide}{other}").as_bytes()).unwrap();
        let of = |i: usize| regions[i].usage.unwrap();
        assert_eq!(of(1).resident_bytes, 123_456_789 * 1024);
        assert_eq!((of(2).resident_bytes, of(2).anon_bytes), (4096, 0));
    }

    const RECORD_LOW: &str = "1000-2000 r--p 00000000 00:00 0 \nSize:                  4 kB\nRss:                   0 kB\n";

    #[test]
    fn torn_texts_are_refused() {
        for text in [
            "Rss:                   4 kB\n",
            "1000-2000 rw-p 00000000 00:00 0 \nSize:                  8 kB\n",
            "1000-2000 rw-p 00000000 00:00 0 \nRss:                   4",
            "1000-2000 rw-p 00000000 00:00 0 \nRss:                   4 MB\n",
            "1000-2000 rw-p 00000000 00:00 0 \nRss: 99999999999999999999 kB\n",
            "1000-2000 rw-p 00000000 00:00 0 \nRss: 18446744073709551615 kB\n",
            "1000-2000 rw-p 00000000 00:00 0 \nNo key\n",
            "1000-2000 rw-p 00000000 00:00 0 \n1000-2000 rw-p 00000000 00:00 0 \n",
            "1000-2000 rw-p 00000000 00:00 0 \n?\n",
        ] {
            assert!(parse_smaps(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn maps_text_has_no_figures() {
        let regions = parse_smaps(b"1000-2000 rw-p 00000000 00:00 0 \n").unwrap();
        assert_eq!((regions[0].usage, &regions[0].flags), (None, &None));
    }

    /// What both parsers say about every region.
    fn same(ours: &[Region], theirs: &MemoryMaps) {
        assert_eq!(ours.len(), theirs.0.len());
        for (our, their) in ours.iter().zip(&theirs.0) {
            assert_eq!(
                (our.start, our.end, our.offset, our.inode),
                (their.address.0, their.address.1, their.offset, their.inode)
            );
            assert_eq!((our.dev.0.cast_signed(), our.dev.1.cast_signed()), their.dev);
            assert_eq!(our.perms.to_string(), their.perms.as_str());
            if let MMapPath::Path(path) = &their.pathname {
                assert_eq!(
                    our.name.as_str().map(|name| name.trim().replace('\n', "\\012")),
                    path.to_str().map(str::to_owned)
                );
            }
            let Some(usage) = our.usage else {
                assert!(!their.extension.map.contains_key("Rss"));
                continue;
            };
            let detail = usage.detail.unwrap_or_default();
            for (key, value) in [
                ("Rss", usage.resident_bytes),
                ("Pss", detail.proportional_bytes),
                ("Shared_Clean", detail.shared_clean_bytes),
                ("Shared_Dirty", detail.shared_dirty_bytes),
                ("Private_Clean", detail.private_clean_bytes),
                ("Private_Dirty", detail.private_dirty_bytes),
                ("Anonymous", usage.anon_bytes),
                ("AnonHugePages", detail.anon_huge_bytes),
                ("Swap", usage.swap_bytes),
                ("Locked", detail.locked_bytes),
                ("Private_Hugetlb", detail.hugetlb_bytes),
            ] {
                assert_eq!(their.extension.map.get(key).copied().unwrap_or(0), value, "{key}");
            }
            let flags = our.flags.clone().unwrap_or_default();
            assert_eq!(flags.has(b"nr"), their.extension.vm_flags.contains(TheirFlags::NR));
            assert_eq!(flags.has(b"ac"), their.extension.vm_flags.contains(TheirFlags::AC));
        }
    }

    #[test]
    fn the_live_files_mean_the_same_to_both_parsers() {
        let maps = std::fs::read("/proc/self/maps").unwrap();
        same(&parse_maps(&maps).unwrap(), &MemoryMaps::from_read(&maps[..]).unwrap());
        let smaps = std::fs::read("/proc/self/smaps").unwrap();
        let ours = parse_smaps(&smaps).unwrap();
        assert!(ours.iter().all(|region| region.usage.is_some() && region.flags.is_some()));
        same(&ours, &MemoryMaps::from_read(&smaps[..]).unwrap());
    }

    /// A record whose place is not yet chosen: pages before it, its pages, the rest of its head, the name, its lines.
    type Record = (u64, u64, String, String, String);

    prop_compose! {
        fn record()(
            gap in 0_u64..3, pages in 1_u64..1 << 28, perms in "[r-][w-][x-][ps]", offset in 0_u64..1 << 40,
            dev in (0_u32..300, 0_u32..70_000), inode in any::<u64>(), name in "(/[ -~]{0,40}|\\[[a-z]{1,8}\\]|)",
            figures in prop::collection::btree_map(
                "(Rss|Pss|Pss_Dirty|Shared_Clean|Private_Dirty|Anonymous|AnonHugePages|Swap|Locked|New_[A-Z]{1,20})",
                prop_oneof![0_u64..5000, 0..1_u64 << 40], 0..10),
            backwards in any::<bool>(), flags in "((rd|wr|ac|nr|dp|mw) ){0,6}",
        ) -> Record {
            let head = format!("{perms} {offset:08x} {:02x}:{:02x} {inode} ", dev.0, dev.1);
            let mut lines: Vec<String> =
                figures.iter().map(|(key, kib)| format!("{:<16}{kib:8} kB\n", format!("{key}:"))).collect();
            if backwards {
                lines.reverse();
            }
            (gap, pages, head, name, format!("{}VmFlags: {flags}\n", lines.concat()))
        }
    }

    fn text_of(records: &[Record]) -> String {
        let mut text = String::new();
        let mut at = 0x1000;
        for (gap, pages, head, name, lines) in records {
            let start = at + gap * 4096;
            at = start + pages * 4096;
            let head = format!("{start:08x}-{at:08x} {head}");
            text += &format!("{head:<73}{name}\n{:<16}{:8} kB\n{lines}", "Size:", pages * 4);
        }
        text
    }

    proptest! {
        #[test]
        fn both_parsers_agree_on_what_both_accept(records in prop::collection::vec(record(), 0..12)) {
            let text = text_of(&records);
            let ours = parse_smaps(text.as_bytes());
            prop_assert!(ours.is_ok(), "{:?}\n{}", ours, text);
            if let Ok(theirs) = MemoryMaps::from_buf_read(text.as_bytes()) {
                same(&ours.unwrap(), &theirs);
            }
        }

        #[test]
        fn any_bytes_are_an_error_or_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..RECORD.len()) {
            let _ = parse_smaps(&bytes);
            let mut mixed = RECORD.as_bytes()[..cut].to_vec();
            mixed.extend(&bytes);
            let parsed = parse_smaps(&mixed);
            prop_assert!(parsed.is_err() || parsed.is_ok_and(|regions| regions.windows(2).all(|w| w[0].end <= w[1].start)));
        }
    }
}
