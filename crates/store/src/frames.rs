//! Hashing of an area in frames while it is written.

use crate::format::FRAME_LEN;

/// Hashes of the frames of one area, and the frame that is being filled.
pub(crate) struct FrameHasher {
    done: Vec<u8>,
    current: blake3::Hasher,
    filled: u64,
}

/// A place to come back to.
pub(crate) struct Mark {
    done: usize,
    current: blake3::Hasher,
    filled: u64,
}

impl FrameHasher {
    pub(crate) fn new() -> Self {
        Self { done: Vec::new(), current: blake3::Hasher::new(), filled: 0 }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let part = bytes.len().min((FRAME_LEN - self.filled) as usize);
            self.current.update(&bytes[..part]);
            self.filled += part as u64;
            bytes = &bytes[part..];
            if self.filled == FRAME_LEN {
                self.close_frame();
            }
        }
    }

    fn close_frame(&mut self) {
        self.done.extend_from_slice(self.current.finalize().as_bytes());
        self.current.reset();
        self.filled = 0;
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { done: self.done.len(), current: self.current.clone(), filled: self.filled }
    }

    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.done.truncate(mark.done);
        self.current = mark.current;
        self.filled = mark.filled;
    }

    /// Ends the area: its last frame may be short, and the next area begins a new one.
    pub(crate) fn end_area(&mut self) {
        if self.filled > 0 {
            self.close_frame();
        }
    }

    /// All hashes, 32 bytes each.
    pub(crate) fn hashes(&self) -> &[u8] {
        &self.done
    }
}
