//! `Digest`: a stable 128-bit fingerprint of build inputs. Not for secrets: it tells versions of the user's own files apart.

/// FNV-1a, 128 bits (Fowler, Noll, Vo; RFC 9923). Stable between versions of Rust, unlike `std`'s hasher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(u128);

impl Digest {
    /// Of nothing.
    pub(super) fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// One part; its length goes in too, so that ("ab", "c") and ("a", "bc") differ.
    pub(super) fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.bytes(&(part.len() as u64).to_le_bytes());
        self.bytes(part);
        self
    }

    /// 32 hexadecimal digits, always: the length of a program's path lies on its stack.
    pub(super) fn hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        // Published test vectors of FNV-1a 128: the empty input and "a".
        assert_eq!(Digest::new().hex(), "6c62272e07bb014262b821756295c58d");
        let mut a = Digest::new();
        a.bytes(b"a");
        assert_eq!(a.hex(), "d228cb696f1a8caf78912b704e4a8964");
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Digest::new().part("ab").part("c"), Digest::new().part("a").part("bc"));
    }
}
