//! Reading little-endian fields out of bytes that somebody else wrote.

/// A structure's bytes. A field that lies behind the end reads as zero, which is what ext4 means by
/// a field that a structure is too short to have.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// `N` bytes at `at`.
    #[inline]
    pub fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(bytes) = at.checked_add(N).and_then(|end| self.0.get(at..end)) {
            out.copy_from_slice(bytes);
        }
        out
    }

    /// One byte.
    #[inline]
    pub fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Two bytes.
    #[inline]
    pub fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    /// Four bytes.
    #[inline]
    pub fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    /// Eight bytes.
    #[inline]
    pub fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    /// Four bytes, big endian, as the journal has them.
    #[inline]
    pub fn be32(self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    /// Two bytes, big endian.
    #[inline]
    pub fn be16(self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    /// A 64-bit value kept in two halves.
    #[inline]
    pub fn split64(self, low: usize, high: usize) -> u64 {
        u64::from(self.u32(low)) | u64::from(self.u32(high)) << 32
    }

    /// The bytes from `from` to `to`, fewer where the structure ends before.
    #[inline]
    pub fn slice(self, from: usize, to: usize) -> &'a [u8] {
        let to = to.min(self.0.len());
        self.0.get(from.min(to)..to).unwrap_or(&[])
    }
}
