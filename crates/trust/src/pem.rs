//! Keys as files, in the forms that other programs read too: a secret one is PKCS#8 (RFC 5958) with
//! the algorithm's id of RFC 8410, a public one a SubjectPublicKeyInfo (RFC 5280), both as text after
//! RFC 7468 ("PEM").
//!
//! A secret is written in the first version of its form, without the public key beside it, because
//! some programs read no other. Either version is read; where a public key stands beside the secret
//! it must be its own.

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use zeroize::Zeroizing;

use crate::TrustError;
use crate::key::{Key, SigningKey};

const SECRET: &str = "a secret key";
const PUBLIC: &str = "a public key";

impl SigningKey {
    /// The text of a secret key's file. It is overwritten in memory when it goes.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let pair = KeypairBytes { secret_key: self.seed(), public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).expect("32 bytes always have this form")
    }

    /// Reads the text of a secret key's file; [`TrustError::Malformed`] when it is anything else.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        if text.contains("-----BEGIN PUBLIC KEY-----") {
            return Err(TrustError::malformed(SECRET, "this is the public half of a key"));
        }
        if text.contains("-----BEGIN ENCRYPTED") {
            let why = "this key is encrypted with a password, which cannot be read";
            return Err(TrustError::malformed(SECRET, why));
        }
        ed25519_dalek::SigningKey::from_pkcs8_pem(text)
            .map(Self::from)
            .map_err(|error| TrustError::malformed(SECRET, error))
    }
}

impl Key {
    /// The text of a public key's file; [`TrustError::Malformed`] when it is no Ed25519 key.
    pub fn to_pem(&self) -> Result<String, TrustError> {
        let wrong = || TrustError::malformed(PUBLIC, "it is no Ed25519 key");
        let key = self.verifying().ok_or_else(wrong)?;
        key.to_public_key_pem(LineEnding::LF).map_err(|error| TrustError::malformed(PUBLIC, error))
    }

    /// Reads the text of a public key's file; [`TrustError::Malformed`] when it is anything else,
    /// or a key under which anybody could sign.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        // The message must not invite anybody to hand the secret on.
        if text.contains("PRIVATE KEY-----") {
            return Err(TrustError::malformed(PUBLIC, "this is a secret key; give its .pub file"));
        }
        let key = VerifyingKey::from_public_key_pem(text)
            .map_err(|error| TrustError::malformed(PUBLIC, error))?;
        if key.is_weak() {
            return Err(TrustError::malformed(PUBLIC, "a key of small order"));
        }
        Ok(Key::from_verifying(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.3: without and with the public key.
    const RFC_SECRET: [&str; 2] = [
        "-----BEGIN PRIVATE KEY-----\n\
         MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
         -----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n\
         MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
         oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
         Z9w7lshQhqowtrbLDFw4rXAxZuE=\n\
         -----END PRIVATE KEY-----\n",
    ];
    /// RFC 8410, section 10.1.
    const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
                              MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                              -----END PUBLIC KEY-----\n";

    #[test]
    fn keys_are_those_of_the_standard() {
        let public = Key::from_pem(RFC_PUBLIC).expect("a public key");
        assert_eq!(public.to_pem().expect("a public key"), RFC_PUBLIC);
        for text in RFC_SECRET {
            let secret = SigningKey::from_pem(text).expect("a secret key");
            assert_eq!(*secret.to_pem(), RFC_SECRET[0]);
            assert_eq!(secret.public(), public);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let other = RFC_SECRET[1].replace("AGb9", "AGb8");
        let secret = |text: &str| SigningKey::from_pem(text).is_err();
        assert!(secret(&other), "the public key is another's");
        assert!(secret(RFC_PUBLIC) && secret("") && secret(&RFC_SECRET[0][1..]));
        let public = |text: &str| Key::from_pem(text).is_err();
        assert!(public(RFC_SECRET[0]) && public("") && public(&RFC_PUBLIC.replace("V", "W")));
        // The neutral element: anybody can sign for it.
        let weak = VerifyingKey::from_bytes(&std::array::from_fn(|at| u8::from(at == 0)));
        let weak = weak.expect("a point").to_public_key_pem(LineEnding::LF).expect("a key");
        assert!(public(&weak));
    }
}
