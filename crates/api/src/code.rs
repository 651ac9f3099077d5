//! What is given to somebody who is to meet the server for the first time: a secret that is good
//! once, and the fingerprint of the authority by which the server is known.
//!
//! So a person carries one line and no certificate: whoever has the code knows whether the server
//! that answers is the one that made it. It is `gl1-` and 52 letters: 32 bytes in base 32 (RFC 4648,
//! section 6, lower case, no padding), of which the first 16 are the secret and the others begin the
//! SHA-256 of the authority's certificate in DER.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "gl1-";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Length of either half, in bytes: nobody finds another certificate, or guesses the secret, in
/// less than 2^128 tries.
const HALF: usize = 16;

/// A code.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// What is good once.
    pub secret: [u8; HALF],
    /// The beginning of the SHA-256 of the authority's certificate.
    pub authority: [u8; HALF],
}

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no code of a Goldleaf server: those are `gl1-` and 52 letters and digits")]
pub struct CodeError;

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        let (mut held, mut bits) = (0u32, 0);
        for byte in self.secret.iter().chain(&self.authority) {
            held = held << 8 | u32::from(*byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                write!(f, "{}", char::from(ALPHABET[(held >> bits) as usize & 31]))?;
            }
        }
        write!(f, "{}", char::from(ALPHABET[(held << (5 - bits)) as usize & 31]))
    }
}

impl fmt::Debug for Code {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let letters = text.trim().strip_prefix(PREFIX).ok_or(CodeError)?;
        let (mut held, mut bits, mut bytes) = (0u32, 0, Vec::with_capacity(2 * HALF));
        for letter in letters.bytes() {
            let value = ALPHABET.iter().position(|known| *known == letter).ok_or(CodeError)?;
            held = held << 5 | value as u32;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits) as u8);
                held &= (1 << bits) - 1;
            }
        }
        // What is left over of the last letter is zero, so that a code has one spelling.
        let (secret, authority) = bytes.split_at_checked(HALF).ok_or(CodeError)?;
        match (held, secret.try_into(), authority.try_into()) {
            (0, Ok(secret), Ok(authority)) => Ok(Self { secret, authority }),
            _ => Err(CodeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_spelling() {
        let code = Code { secret: [7; HALF], authority: std::array::from_fn(|at| at as u8 * 17) };
        let text = code.to_string();
        assert_eq!(text.len(), PREFIX.len() + 52);
        assert_eq!(text.parse(), Ok(code));
        let mut other = text.clone();
        other.pop();
        assert_eq!(other.parse::<Code>(), Err(CodeError));
        // The last letter carries one bit.
        for last in ALPHABET.iter().skip(1).filter(|last| **last != b'q') {
            let other = format!("{other}{}", char::from(*last));
            assert_eq!(other.parse::<Code>(), Err(CodeError), "{other}");
        }
        for wrong in ["", "gl1-", "gl2-aa", &format!("{text}a"), &text.to_uppercase()] {
            assert_eq!(wrong.parse::<Code>(), Err(CodeError), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let code = Code { secret: [7; HALF], authority: [1; HALF] };
        assert!(!format!("{code:?}").contains('7'));
    }
}
