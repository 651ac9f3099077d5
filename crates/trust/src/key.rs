//! Keys: Ed25519 (RFC 8032) and nothing else.

use std::fmt;

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use goldleaf_host::Entropy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::TrustError;
use crate::json::canonical;

const ED25519: &str = "ed25519";

/// Names a key: the SHA-256 of its canonical form, in hexadecimal digits (section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key as metadata has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct KeyValue {
    public: String,
}

/// What came of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
    /// Of a kind that nobody here knows.
    Unknown,
}

impl Key {
    /// Its name.
    pub fn id(&self) -> KeyId {
        let canonical = canonical(self).expect("three strings are JSON");
        KeyId(hex(&Sha256::digest(canonical)))
    }

    fn is_known(&self) -> bool {
        (self.keytype.as_str(), self.scheme.as_str()) == (ED25519, ED25519)
    }

    /// As the library has it; `None` when it is of another kind, or no point of the curve.
    pub(crate) fn verifying(&self) -> Option<VerifyingKey> {
        let bytes = unhex(&self.keyval.public).filter(|_| self.is_known())?;
        VerifyingKey::from_bytes(&bytes).ok()
    }

    pub(crate) fn from_verifying(key: &VerifyingKey) -> Self {
        let public = hex(key.as_bytes());
        Key { keytype: ED25519.into(), scheme: ED25519.into(), keyval: KeyValue { public } }
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &str) -> Verdict {
        if !self.is_known() {
            return Verdict::Unknown;
        }
        let key = self.verifying();
        let signature = unhex(signature).map(|bytes| Signature::from_bytes(&bytes));
        match (key, signature) {
            // Strict: no key of small order, no signature with a second form.
            (Some(key), Some(signature)) if key.verify_strict(message, &signature).is_ok() => {
                Verdict::Good
            }
            _ => Verdict::Bad,
        }
    }
}

/// A secret key. What it was made from is forgotten when it goes.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// From 32 random bytes, which are the whole secret.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// A new key; [`TrustError::Io`] when the machine has no randomness to give.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, TrustError> {
        let mut seed = Zeroizing::new([0; 32]);
        let what = "drawing random numbers";
        entropy.fill(seed.as_mut()).map_err(|source| TrustError::Io { what, source })?;
        Ok(Self::from_seed(&seed))
    }

    /// The secret.
    pub(crate) fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What others know of it.
    pub fn public(&self) -> Key {
        Key::from_verifying(&self.0.verifying_key())
    }

    /// A signature of some bytes, in hexadecimal digits.
    pub fn sign(&self, message: &[u8]) -> String {
        hex(&self.0.sign(message).to_bytes())
    }
}

impl From<ed25519_dalek::SigningKey> for SigningKey {
    fn from(key: ed25519_dalek::SigningKey) -> Self {
        Self(key)
    }
}

/// Says whose it is, never what it is.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes, in the one form that they have: a key with two forms would count twice.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    (hex(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key = SigningKey::from_seed(&unhex(seed).expect("a seed"));
        let public = key.public();
        assert_eq!(
            public.keyval.public,
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        let signature = key.sign(&[0x72]);
        assert!(signature.starts_with("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223"));
        assert_eq!(public.verify(&[0x72], &signature), Verdict::Good);
        assert_eq!(public.verify(&[0x73], &signature), Verdict::Bad);
        assert_eq!(public.verify(&[0x72], &signature[2..]), Verdict::Bad);
    }
}
