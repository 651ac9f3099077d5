//! Small forms of one piece: magic and format, length decompressed, one zstd frame.

use crate::WireError;
use crate::varint::Reader;

/// Of the whole of what is small, compression is no work.
const LEVEL: i32 = 19;

/// A form: its name for people, its first bytes, the most bytes of it decompressed.
pub(crate) struct Form {
    pub what: &'static str,
    pub magic: &'static [u8; 8],
    pub limit: usize,
}

impl Form {
    /// A body as it travels.
    pub fn seal(&self, body: &[u8]) -> Result<Vec<u8>, WireError> {
        if body.len() > self.limit {
            return Err(self.too_large());
        }
        let packed = zstd::bulk::compress(body, LEVEL)
            .map_err(|error| WireError::malformed(self.what, error))?;
        Ok([&self.magic[..], &(body.len() as u32).to_le_bytes(), &packed].concat())
    }

    /// The body of what was verified.
    pub fn open(&self, bytes: &[u8]) -> Result<Vec<u8>, WireError> {
        let what = self.what;
        let mut reader = Reader::new(what, bytes);
        if reader.array()? != *self.magic {
            return Err(WireError::malformed(what, "another magic number"));
        }
        let len = u32::from_le_bytes(reader.array()?) as usize;
        if len > self.limit {
            return Err(self.too_large());
        }
        let packed = &bytes[self.magic.len() + 4..];
        let failed = |why: std::io::Error| WireError::Decompress { what, why: why.to_string() };
        let body = zstd::bulk::decompress(packed, len).map_err(failed)?;
        if body.len() != len {
            let (expected, found) = (len as u64, body.len() as u64);
            return Err(WireError::Length { what, expected, found });
        }
        Ok(body)
    }

    fn too_large(&self) -> WireError {
        WireError::TooLarge { what: self.what, limit: self.limit as u64 }
    }
}
