//! Packs: one object on a server.
//!
//! ```text
//!   "GLPACK\x00\x01"              magic and format, 8 bytes
//!   length of the index           4 bytes, little-endian
//!   index                         number of frames, then of each: length of the content, length of
//!                                 what is stored, method, digests of what is stored and of the content
//!   frames                        what is stored, one behind the other
//! ```
//! The index comes first, so that a pack can be used while it arrives. The pack's name is the digest
//! of all that is before the frames. Numbers are varints.

use goldleaf_store::Digest;

use crate::WireError;
use crate::error::verify;
use crate::frame::{Encoded, FRAME_MAX, FrameInfo, Method};
use crate::varint::{Reader, put};

const MAGIC: &[u8; 8] = b"GLPACK\x00\x01";
/// Bytes before the index.
const FIXED: usize = MAGIC.len() + 4;
/// Most frames that a pack has.
pub const PACK_FRAMES_MAX: usize = 1 << 14;
const WHAT: &str = "a pack";

/// Makes a pack of frames: its name, and its bytes.
pub fn assemble(frames: &[Encoded]) -> Result<(Digest, Vec<u8>), WireError> {
    if frames.is_empty() || frames.len() > PACK_FRAMES_MAX {
        return Err(WireError::TooLarge {
            what: "frames of a pack",
            limit: PACK_FRAMES_MAX as u64,
        });
    }
    let mut index = Vec::new();
    put(&mut index, frames.len() as u64);
    for frame in frames {
        put(&mut index, frame.len as u64);
        put(&mut index, frame.stored.len() as u64);
        index.push(frame.method.code());
        index.extend_from_slice(&Digest::of(&frame.stored).0);
        index.extend_from_slice(&frame.content.0);
    }
    let mut pack = MAGIC.to_vec();
    pack.extend_from_slice(&(index.len() as u32).to_le_bytes());
    pack.append(&mut index);
    let name = Digest::of(&pack);
    frames.iter().for_each(|frame| pack.extend_from_slice(&frame.stored));
    Ok((name, pack))
}

/// What is in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    frames: Vec<FrameInfo>,
    /// Length of the whole pack, in bytes.
    pub pack_len: u64,
    /// Length of all content, in bytes.
    pub content_len: u64,
}

impl PackIndex {
    /// How many bytes there are before the frames, as the first twelve of them say.
    pub fn head_len(first: &[u8]) -> Result<usize, WireError> {
        let mut reader = Reader::new(WHAT, first);
        if reader.array()? != *MAGIC {
            return Err(WireError::malformed(WHAT, "another magic number"));
        }
        let len = u32::from_le_bytes(reader.array()?) as usize;
        // A frame takes fewer than 80 bytes of an index.
        if len > PACK_FRAMES_MAX * 80 {
            return Err(WireError::malformed(WHAT, "an index longer than any"));
        }
        Ok(FIXED + len)
    }

    /// Reads what is before the frames of the pack of that name.
    pub fn parse(head: &[u8], name: &Digest) -> Result<Self, WireError> {
        let expected = Self::head_len(head)? as u64;
        let found = head.len() as u64;
        if expected != found {
            return Err(WireError::Length { what: WHAT, expected, found });
        }
        verify(WHAT, head, name)?;
        let mut reader = Reader::new(WHAT, &head[FIXED..]);
        let count = reader.count()?;
        if count == 0 || count > PACK_FRAMES_MAX {
            return Err(WireError::malformed(WHAT, "a number of frames that no pack has"));
        }
        let mut index = Self { frames: Vec::with_capacity(count), pack_len: found, content_len: 0 };
        for _ in 0..count {
            index.frame(&mut reader)?;
        }
        reader.end()?;
        Ok(index)
    }

    fn frame(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let (len, stored_len, code) = (reader.number()?, reader.number()?, reader.array::<1>()?[0]);
        let most = FRAME_MAX as u64;
        let method = Method::parse(code).filter(|_| (1..=most).contains(&len));
        let fits = match method {
            Some(Method::Raw) => stored_len == len,
            Some(Method::Zstd) => (1..len).contains(&stored_len),
            None => false,
        };
        let Some(method) = method.filter(|_| fits) else {
            return Err(WireError::malformed(WHAT, "a frame that cannot be"));
        };
        self.frames.push(FrameInfo {
            at: self.pack_len,
            stored_len: stored_len as u32,
            from: self.content_len,
            len: len as u32,
            method,
            stored: Digest(reader.array()?),
            content: Digest(reader.array()?),
        });
        (self.pack_len, self.content_len) = (self.pack_len + stored_len, self.content_len + len);
        Ok(())
    }

    /// Its frames, in order.
    pub fn frames(&self) -> &[FrameInfo] {
        &self.frames
    }

    /// The frame in which a byte of the content lies.
    pub fn frame_at(&self, byte: u64) -> Option<&FrameInfo> {
        let behind = self.frames.partition_point(|frame| frame.from <= byte);
        self.frames[..behind].last().filter(|frame| byte < frame.from + u64::from(frame.len))
    }
}
