//! A fuzzer's bytes, taken apart.

/// What is left of the input. Behind its end there are zeroes.
pub struct Input<'a>(pub &'a [u8]);

/// Bytes to put somewhere: the common language of targets that spoil something valid.
pub struct Edit {
    /// Which of the places that a target has.
    pub place: usize,
    /// Where in that place.
    pub at: usize,
    /// What to write there.
    pub bytes: Vec<u8>,
}

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `len` bytes.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A little-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> u64 {
        self.take(N).iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        self.number::<2>() as u16
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        self.number::<4>() as u32
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        self.number::<8>()
    }

    /// A piece with its length, two bytes, before it.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.take(usize::from(len))
    }

    /// All that is left as edits: place 1, offset 2, length less one 1 (8 at most), bytes.
    pub fn edits(&mut self) -> Vec<Edit> {
        let mut edits = Vec::new();
        while !self.is_empty() && edits.len() < 64 {
            let (place, at) = (usize::from(self.byte()), usize::from(self.u16()));
            let len = usize::from(self.byte() & 7) + 1;
            edits.push(Edit { place, at, bytes: self.take(len).to_vec() });
        }
        edits
    }
}

/// Writes an edit into a place of `len` bytes; nothing leaves the place.
pub fn apply(place: &mut [u8], edit: &Edit) {
    if place.is_empty() {
        return;
    }
    let at = edit.at % place.len();
    let len = edit.bytes.len().min(place.len() - at);
    place[at..at + len].copy_from_slice(&edit.bytes[..len]);
}

/// Writes a number where it is.
pub fn put(place: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(there) = place.get_mut(at..at + bytes.len()) {
        there.copy_from_slice(bytes);
    }
}

/// A little-endian number of two bytes; 0 outside.
pub fn le16(bytes: &[u8], at: usize) -> usize {
    Input(bytes.get(at..at + 2).unwrap_or_default()).u16().into()
}

/// A little-endian number of four bytes; 0 outside.
pub fn le32(bytes: &[u8], at: usize) -> u32 {
    Input(bytes.get(at..at + 4).unwrap_or_default()).u32()
}
