//! `Ranges`: pieces of the target's memory, with what stood there.

use serde::{Deserialize, Serialize};

/// Ranges of memory with their bytes. They are few and short, and kept together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct Ranges {
    /// Of each its address, and where its bytes end in `bytes`.
    places: Vec<(u64, usize)>,
    bytes: Vec<u8>,
}

/// As in a results file.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Form(#[serde(with = "super::forms::ranges")] Vec<(u64, Vec<u8>)>);

impl Ranges {
    /// Room for so many ranges, of so many bytes in all.
    #[must_use]
    pub fn with_capacity(ranges: usize, bytes: usize) -> Self {
        Self {
            places: Vec::with_capacity(ranges),
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// Adds a range; one that begins where the last ends becomes part of that.
    pub fn push(&mut self, address: u64, bytes: &[u8]) {
        let last = self.places.len().checked_sub(1).and_then(|last| self.get(last));
        let is_next = last.is_some_and(|(start, before)| start.checked_add(before.len() as u64) == Some(address));
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        match self.places.last_mut() {
            Some(last) if is_next => last.1 = end,
            _ => self.places.push((address, end)),
        }
    }

    /// The ranges: addresses and bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (0..self.places.len()).filter_map(|index| self.get(index))
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The range that holds an address, if they are in order and apart.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<(u64, &[u8])> {
        let after = self.places.partition_point(|(start, _)| *start <= address);
        self.get(after.checked_sub(1)?)
    }

    fn get(&self, index: usize) -> Option<(u64, &[u8])> {
        let (address, end) = *self.places.get(index)?;
        let start = index
            .checked_sub(1)
            .and_then(|before| self.places.get(before))
            .map_or(0, |(_, end)| *end);
        Some((address, self.bytes.get(start..end)?))
    }
}

impl FromIterator<(u64, Vec<u8>)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, Vec<u8>)>>(ranges: I) -> Self {
        let mut all = Self::default();
        for (address, bytes) in ranges {
            all.bytes.extend_from_slice(&bytes);
            all.places.push((address, all.bytes.len()));
        }
        all
    }
}

impl From<Form> for Ranges {
    fn from(Form(ranges): Form) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<Ranges> for Form {
    fn from(ranges: Ranges) -> Self {
        Self(ranges.iter().map(|(address, bytes)| (address, bytes.to_vec())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_their_addresses_and_join_where_they_touch() {
        let mut ranges = Ranges::with_capacity(2, 8);
        for (address, bytes) in [(0x10, &[1, 2][..]), (0x12, &[3]), (0x20, &[4]), (0x20, &[5])] {
            ranges.push(address, bytes);
        }
        let all: Vec<_> = ranges.iter().collect();
        assert_eq!(all, [(0x10, &[1, 2, 3][..]), (0x20, &[4]), (0x20, &[5])]);
        assert_eq!(ranges.at(0x11), Some((0x10, &[1, 2, 3][..])));
        assert_eq!((ranges.at(0xf), ranges.at(0x1f)), (None, Some((0x10, &[1, 2, 3][..]))));
        let same: Ranges = all.iter().map(|(address, bytes)| (*address, bytes.to_vec())).collect();
        assert_eq!(same, ranges);
        assert!(!ranges.is_empty() && Ranges::default().is_empty());
    }

    #[test]
    fn their_form_is_an_address_and_digits() {
        let ranges: Ranges = [(16, vec![0xab, 1]), (32, vec![])].into_iter().collect();
        let text = serde_json::to_string(&ranges).unwrap();
        assert_eq!(text, r#"[[16,"ab01"],[32,""]]"#);
        assert_eq!(serde_json::from_str::<Ranges>(&text).unwrap(), ranges);
        assert!(serde_json::from_str::<Ranges>(r#"[[16,"a"]]"#).is_err());
    }
}
