//! Lines of `/proc/PID/maps`, which are also the heads of mappings in `smaps` (proc_pid_maps(5)). Parses bytes; reading is others'.

/// `start-end access offset device inode path`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) start: u64,
    pub(super) end: u64,
    /// `rw-p`
    pub(super) access: [u8; 4],
    /// From the offset on.
    pub(super) rest: &'a [u8],
}

/// The lines of a text; what is no such line is passed over.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(line)
}

/// One line.
pub(super) fn line(line: &[u8]) -> Option<Line<'_>> {
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let (start, end) = std::str::from_utf8(words.next()?).ok()?.split_once('-')?;
    Some(Line {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        access: words.next()?.try_into().ok()?,
        rest: words.next().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_line_is_passed_over() {
        let text = b"1000-3000 rw-p 00000000 00:00 0 \nSize: 8 kB\n\n4000-5000 r--p 00001000 fe:01 12  /tmp/a b\n5000-6000\n";
        let [one, two] = lines(text).collect::<Vec<_>>().try_into().unwrap();
        let rest = &b"00000000 00:00 0 "[..];
        let access = *b"rw-p";
        assert_eq!(
            one,
            Line {
                start: 0x1000,
                end: 0x3000,
                access,
                rest
            }
        );
        assert_eq!((two.start, two.rest), (0x4000, &b"00001000 fe:01 12  /tmp/a b"[..]));
    }
}
