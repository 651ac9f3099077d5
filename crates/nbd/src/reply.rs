//! Replies under construction: a buffer that grows once and is then used again and again, so that
//! the device reads straight into its place behind the header and many replies leave in one
//! system call.

use goldleaf_block::{BlockError, ByteLen, ByteOffset};

use crate::wire::{CHUNK_LEN, Cookie, Errno, SIMPLE_REPLY_LEN, chunk, chunk_header, simple_reply};

/// Bytes to be sent. What lies behind `used` is old and only kept so that it need not be zeroed.
#[derive(Default)]
pub(crate) struct ReplyBuffer {
    bytes: Vec<u8>,
    used: usize,
}

/// The part of a read that one chunk answers.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) cookie: Cookie,
    pub(crate) at: ByteOffset,
    pub(crate) len: ByteLen,
    /// Whether this is the last one of its reply.
    pub(crate) done: bool,
}

impl Piece {
    fn flags(self) -> u16 {
        if self.done { chunk::FLAG_DONE } else { 0 }
    }
}

impl ReplyBuffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// The next `len` bytes, which hold whatever they hold. They count once `used` is moved.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.used + len;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        &mut self.bytes[self.used..end]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// A simple reply without payload.
    pub(crate) fn simple(&mut self, cookie: Cookie, error: Option<Errno>) {
        self.push(&simple_reply(cookie, error));
    }

    /// A simple reply with the data of a read, or nothing at all when the read fails.
    pub(crate) fn simple_data(
        &mut self,
        cookie: Cookie,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let room = self.room(SIMPLE_REPLY_LEN + len);
        let (header, data) = room.split_at_mut(SIMPLE_REPLY_LEN);
        read(data)?;
        header.copy_from_slice(&simple_reply(cookie, None));
        self.used += SIMPLE_REPLY_LEN + len;
        Ok(())
    }

    /// Data alone, behind a header that is sent already.
    pub(crate) fn bare_data(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        read(self.room(len))?;
        self.used += len;
        Ok(())
    }

    /// A chunk with the data of a piece, or nothing at all when the read fails.
    pub(crate) fn data_chunk(
        &mut self,
        piece: Piece,
        read: impl FnOnce(&mut [u8]) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        const FRONT: usize = CHUNK_LEN + 8;
        // A piece is never longer than the longest payload, 32 MiB.
        let len = piece.len.0 as usize;
        let room = self.room(FRONT + len);
        let (front, data) = room.split_at_mut(FRONT);
        read(data)?;
        let kind = chunk::OFFSET_DATA;
        let header = chunk_header(piece.flags(), kind, piece.cookie, (8 + len) as u32);
        front[..CHUNK_LEN].copy_from_slice(&header);
        front[CHUNK_LEN..].copy_from_slice(&piece.at.0.to_be_bytes());
        self.used += FRONT + len;
        Ok(())
    }

    /// A chunk that says that a piece reads as zeroes.
    pub(crate) fn hole_chunk(&mut self, piece: Piece) {
        self.push(&chunk_header(piece.flags(), chunk::OFFSET_HOLE, piece.cookie, 12));
        self.push(&piece.at.0.to_be_bytes());
        self.push(&(piece.len.0 as u32).to_be_bytes());
    }

    /// A whole structured reply without content.
    pub(crate) fn empty_chunk(&mut self, cookie: Cookie) {
        self.push(&chunk_header(chunk::FLAG_DONE, chunk::NONE, cookie, 0));
    }

    /// The last chunk of a structured reply that failed. No message: the number says all that is
    /// the client's business.
    pub(crate) fn error_chunk(&mut self, cookie: Cookie, error: Errno) {
        self.push(&chunk_header(chunk::FLAG_DONE, chunk::ERROR, cookie, 6));
        self.push(&(error as u32).to_be_bytes());
        self.push(&0u16.to_be_bytes());
    }

    /// A whole reply to a question for block status: runs of `(length, flags)`.
    pub(crate) fn status_chunk(&mut self, cookie: Cookie, context: u32, runs: &[(u32, u32)]) {
        let len = (4 + 8 * runs.len()) as u32;
        self.push(&chunk_header(chunk::FLAG_DONE, chunk::BLOCK_STATUS, cookie, len));
        self.push(&context.to_be_bytes());
        for (len, flags) in runs {
            self.push(&len.to_be_bytes());
            self.push(&flags.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_stands_behind_its_header_and_a_failed_read_leaves_nothing() {
        let mut buffer = ReplyBuffer::default();
        let piece = Piece { cookie: Cookie(9), at: ByteOffset(4096), len: ByteLen(3), done: true };
        let failed = buffer.data_chunk(piece, |_| Err(BlockError::Poisoned));
        assert!(failed.is_err() && buffer.is_empty());
        buffer
            .data_chunk(piece, |data| {
                data.copy_from_slice(b"abc");
                Ok(())
            })
            .expect("read");
        let mut expected = chunk_header(1, 1, Cookie(9), 11).to_vec();
        expected.extend_from_slice(&4096u64.to_be_bytes());
        expected.extend_from_slice(b"abc");
        assert_eq!(buffer.bytes(), expected);
        buffer.clear();
        buffer.simple(Cookie(1), None);
        assert_eq!(buffer.bytes(), simple_reply(Cookie(1), None));
    }
}
