//! An endpoint's key.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::ClientError;

/// A key of P-256, which leaves the machine as the signature of a request only.
pub struct Key(KeyPair);

impl Key {
    /// Makes one.
    pub fn new() -> Result<Self, ClientError> {
        KeyPair::generate().map(Self).map_err(wrong)
    }

    /// The one that [`Self::pem`] wrote.
    pub fn from_pem(pem: &str) -> Result<Self, ClientError> {
        KeyPair::from_pem(pem).map(Self).map_err(wrong)
    }

    /// The key itself, as PKCS #8 in PEM. A secret.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A certificate signing request in PEM: proof that whoever sends it has the key.
    pub fn csr(&self) -> Result<String, ClientError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "goldleaf");
        params.serialize_request(&self.0).and_then(|request| request.pem()).map_err(wrong)
    }
}

fn wrong(error: rcgen::Error) -> ClientError {
    ClientError::Wrong(format!("the key: {error}"))
}
