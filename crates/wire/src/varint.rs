//! Numbers of one to ten bytes: seven bits each, the lowest first (LEB128, as in DWARF 5, 7.6).

use crate::WireError;

pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A difference of two numbers, wrapping around: small ones of either sign are short.
pub(crate) fn put_difference(bytes: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from) as i64;
    put(bytes, (difference << 1 ^ difference >> 63) as u64);
}

/// Reads numbers, and bytes, one behind the other.
pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let Some((bytes, rest)) = self.bytes.split_at_checked(count) else {
            return Err(WireError::malformed(self.what, "it ends too early"));
        };
        self.bytes = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// In its shortest form: a number has one form only.
    pub fn number(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::malformed(self.what, "a number that is none"))
    }

    /// Of as many things as the bytes that are left may hold, one byte at least each.
    pub fn count(&mut self) -> Result<usize, WireError> {
        let count = self.number()?;
        if count > self.bytes.len() as u64 {
            return Err(WireError::malformed(self.what, "more items than bytes"));
        }
        Ok(count as usize)
    }

    pub fn difference(&mut self, from: u64) -> Result<u64, WireError> {
        let value = self.number()?;
        Ok(from.wrapping_add((value >> 1) ^ (value & 1).wrapping_neg()))
    }

    pub fn end(self) -> Result<(), WireError> {
        match self.bytes.is_empty() {
            true => Ok(()),
            false => Err(WireError::malformed(self.what, "something comes behind its end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_differences_come_back() {
        let ends = [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, u64::MAX >> 1, u64::MAX - 1, u64::MAX];
        for from in ends {
            for to in ends {
                let mut bytes = Vec::new();
                put(&mut bytes, to);
                put_difference(&mut bytes, from, to);
                let mut reader = Reader::new("a test", &bytes);
                assert_eq!(reader.number().expect("a number"), to);
                assert_eq!(reader.difference(from).expect("a difference"), to);
                reader.end().expect("the end");
            }
        }
    }

    #[test]
    fn a_number_has_one_form() {
        let wrong: [&[u8]; 5] = [
            &[],
            &[0x80],
            &[0x80, 0],
            &[0xFF; 9],
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2],
        ];
        for bytes in wrong {
            assert!(Reader::new("a test", bytes).number().is_err(), "{bytes:?}");
        }
    }
}
