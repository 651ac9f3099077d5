//! Frames: what is compressed, hashed, fetched and verified at once.

use goldleaf_store::Digest;

use crate::WireError;
use crate::error::verify;

/// Most bytes of content that a frame has.
pub const FRAME_MAX: usize = 1 << 20;
/// What compression must gain, so that it is worth a decompression: one part in so many.
const GAIN: usize = 32;
const WHAT: &str = "a frame";

/// How content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// As it is.
    Raw,
    /// A zstd frame (RFC 8878).
    Zstd,
}

impl Method {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn parse(code: u8) -> Option<Self> {
        [Method::Raw, Method::Zstd].into_iter().find(|method| method.code() == code)
    }
}

/// A frame, ready to go into a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Length of the content in bytes.
    pub len: usize,
    /// How it is stored.
    pub method: Method,
    /// What is stored.
    pub stored: Vec<u8>,
    /// BLAKE3 of the content.
    pub content: Digest,
}

impl Encoded {
    /// Compresses content at a level of zstd's, where that gains anything. What was compressed is
    /// decompressed again and compared: an encoder's bug must not get as far as a pack.
    pub fn new(content: &[u8], level: i32) -> Result<Self, WireError> {
        if content.is_empty() || content.len() > FRAME_MAX {
            return Err(WireError::TooLarge { what: WHAT, limit: FRAME_MAX as u64 });
        }
        let packed = zstd::bulk::compress(content, level)
            .map_err(|error| WireError::malformed(WHAT, error))?;
        let (len, digest) = (content.len(), Digest::of(content));
        if packed.len() + len / GAIN >= len {
            let stored = content.to_vec();
            return Ok(Self { len, method: Method::Raw, stored, content: digest });
        }
        verify(WHAT, &decompress(&packed, len)?, &digest)?;
        Ok(Self { len, method: Method::Zstd, stored: packed, content: digest })
    }
}

/// In one go, so that there is no window beside the content itself.
fn decompress(stored: &[u8], len: usize) -> Result<Vec<u8>, WireError> {
    zstd::bulk::decompress(stored, len)
        .map_err(|error| WireError::Decompress { what: WHAT, why: error.to_string() })
}

/// A frame as the index of its pack has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// Where it is stored in the pack, in bytes.
    pub at: u64,
    /// Length of what is stored, in bytes.
    pub stored_len: u32,
    /// Where its content begins in that of the pack, in bytes.
    pub from: u64,
    /// Length of its content, in bytes.
    pub len: u32,
    /// How it is stored.
    pub method: Method,
    /// BLAKE3 of what is stored.
    pub stored: Digest,
    /// BLAKE3 of the content.
    pub content: Digest,
}

impl FrameInfo {
    /// The content behind what was stored; nothing of it is believed before it is verified.
    pub fn decode(&self, stored: &[u8]) -> Result<Vec<u8>, WireError> {
        let (expected, found) = (u64::from(self.stored_len), stored.len() as u64);
        if expected != found {
            return Err(WireError::Length { what: WHAT, expected, found });
        }
        verify(WHAT, stored, &self.stored)?;
        let content = match self.method {
            Method::Raw => stored.to_vec(),
            Method::Zstd => decompress(stored, self.len as usize)?,
        };
        let (expected, found) = (u64::from(self.len), content.len() as u64);
        if expected != found {
            return Err(WireError::Length { what: WHAT, expected, found });
        }
        verify(WHAT, &content, &self.content)?;
        Ok(content)
    }
}
