//! Secrets and digests: what is kept of a secret is its digest. Secrets are drawn at random and long,
//! so there is nothing to be guessed from a digest.

use goldleaf_api::Code;
use goldleaf_host::Entropy;
use sha2::{Digest, Sha256};

use crate::CallError;

/// So many random bytes.
pub fn draw<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], CallError> {
    let mut bytes = [0; N];
    match entropy.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(CallError::Internal(format!("no randomness: {error}"))),
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is kept of a code or a token: the digest of its secret; `None` for what is neither.
pub fn secret_hash(text: &str) -> Option<String> {
    text.parse::<Code>().ok().map(|code| digest(&code.secret))
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
