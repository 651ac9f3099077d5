//! Integers and bytes in objects; every reading is checked.

use goldleaf_store::Digest;

use super::ManifestError;

/// Writes an object.
#[derive(Default)]
pub(super) struct Encoder(pub Vec<u8>);

impl Encoder {
    pub fn tagged(tag: [u8; 4]) -> Self {
        Self(tag.to_vec())
    }

    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn int(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Small numbers of both signs are short: 0, -1, 1, -2, … become 0, 1, 2, 3, ….
    pub fn signed(&mut self, number: i64) {
        self.int(((number << 1) ^ (number >> 63)) as u64);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.int(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn hash(&mut self, digest: &Digest) {
        self.0.extend_from_slice(&digest.0);
    }

    pub fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Reads an object.
pub struct Decoder<'a> {
    object: Digest,
    len: usize,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Of a piece of an object that is not known.
    pub fn piece(bytes: &'a [u8]) -> Self {
        Self { object: Digest([0; 32]), len: bytes.len(), rest: bytes }
    }

    /// Of an object that begins with `tag`.
    pub fn tagged(object: Digest, bytes: &'a [u8], tag: [u8; 4]) -> Result<Self, ManifestError> {
        let mut decoder = Self { object, len: bytes.len(), rest: bytes };
        let found = decoder.take(4)?;
        if found != tag {
            return Err(decoder.corrupt(format!("tag {tag:?}"), format!("{found:?}")));
        }
        Ok(decoder)
    }

    #[cold]
    pub fn corrupt(&self, expected: impl ToString, found: impl ToString) -> ManifestError {
        ManifestError::Corrupt {
            object: self.object,
            place: format!("before byte {}", self.len - self.rest.len()),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], ManifestError> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.corrupt(format!("{len} bytes"), self.rest.len())),
        }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, ManifestError> {
        match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                Ok(byte)
            }
            None => Err(self.corrupt("a byte", "the end")),
        }
    }

    #[inline]
    pub fn int(&mut self) -> Result<u64, ManifestError> {
        // Nearly all numbers are of one byte.
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_int(),
        }
    }

    fn long_int(&mut self) -> Result<u64, ManifestError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || shift > 0 && byte == 0 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.corrupt("a 64-bit number in its shortest form", "another form"))
    }

    pub fn signed(&mut self) -> Result<i64, ManifestError> {
        let number = self.int()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number of at most `max`.
    pub fn int_to(&mut self, max: u64) -> Result<u64, ManifestError> {
        let number = self.int()?;
        if number > max {
            return Err(self.corrupt(format!("a number of at most {max}"), number));
        }
        Ok(number)
    }

    pub fn int32(&mut self) -> Result<u32, ManifestError> {
        Ok(self.int_to(u64::from(u32::MAX))? as u32)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], ManifestError> {
        let len = self.int()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    pub fn text(&mut self) -> Result<String, ManifestError> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(self.corrupt("UTF-8", error)),
        }
    }

    pub fn hash(&mut self) -> Result<Digest, ManifestError> {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.take(32)?);
        Ok(Digest(digest))
    }

    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ManifestError>,
    ) -> Result<Option<T>, ManifestError> {
        match self.int_to(1)? {
            0 => Ok(None),
            _ => read(self).map(Some),
        }
    }

    /// A list; memory is taken as items come, so that a wrong count costs nothing.
    pub fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, ManifestError>,
    ) -> Result<Vec<T>, ManifestError> {
        let count = self.int()?;
        let mut items = Vec::with_capacity(count.min(256) as usize);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// The object must end here.
    pub fn end(self) -> Result<(), ManifestError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.corrupt("the end", format!("{} more bytes", self.rest.len())))
    }
}
