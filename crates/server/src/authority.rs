//! The authority: who says which server is ours, and which endpoints are.
//!
//! Its certificate is the organisation's own, and nobody else's list has it: an endpoint learns of
//! it by the fingerprint in its code. Certificates are X.509 (RFC 5280), keys are of P-256.

use std::sync::Arc;

use goldleaf_host::{Dir, read_file, replace_file};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::ServerError;
use crate::secret::digest;

const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";
/// Longest of these files, in bytes.
const FILE_MAX: u64 = 64 << 10;
const DAY_SECS: u64 = 24 * 3600;
/// How long an authority is good, in seconds.
const AUTHORITY_SECS: u64 = 3650 * DAY_SECS;
/// How long an endpoint's certificate is good, in seconds.
pub const ENDPOINT_SECS: u64 = DAY_SECS;
/// How long the server's is, in seconds; it makes itself a new one at each start and each day.
const SERVER_SECS: u64 = 30 * DAY_SECS;
/// Clocks that differ by so much do not matter, in seconds.
const LEEWAY_SECS: u64 = 300;

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// A request that was proven to come from whoever has the key.
pub struct Proven {
    request: CertificateSigningRequestParams,
    /// SHA-256 of the key, in hexadecimal.
    pub key_hash: String,
}

impl Authority {
    /// The authority whose files are in a directory; makes one where there is none.
    pub fn open(dir: &dyn Dir, organisation: &str, now: u64) -> Result<Self, ServerError> {
        let read = |name: &str| match read_file(dir, name, FILE_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ServerError::io(format!("reading {name}"))(error)),
            Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| failed("no text")),
        };
        // The key is written first: a certificate without one would be of no use.
        let key = match read(KEY)? {
            Some(key) => key,
            None => {
                let key = KeyPair::generate().map_err(failed)?.serialize_pem();
                replace_file(dir, KEY, key.as_bytes())
                    .map_err(ServerError::io(format!("writing {KEY}")))?;
                key
            }
        };
        let key = KeyPair::from_pem(&key).map_err(failed)?;
        let pem = match read(CERTIFICATE)? {
            Some(pem) => pem,
            None => {
                let pem = own(organisation, now)?.self_signed(&key).map_err(failed)?.pem();
                replace_file(dir, CERTIFICATE, pem.as_bytes())
                    .map_err(ServerError::io(format!("writing {CERTIFICATE}")))?;
                pem
            }
        };
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(failed)?;
        let der = der(&pem)?;
        Ok(Self { issuer, pem, der })
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The beginning of its certificate's SHA-256, as codes have it.
    pub fn fingerprint(&self) -> [u8; 16] {
        let hash: [u8; 32] = Sha256::digest(&self.der).into();
        std::array::from_fn(|at| hash[at])
    }

    /// A certificate for an endpoint, from now on, in PEM.
    pub fn admit(&self, proven: &Proven, endpoint: &str, now: u64) -> Result<String, ServerError> {
        let mut params = usual(endpoint, now, ENDPOINT_SECS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&proven.request.public_key, &self.issuer).map_err(failed)?;
        Ok(signed.pem())
    }

    /// A key and a certificate for the server, under its names.
    pub fn serve(&self, names: &[String], now: u64) -> Result<Arc<CertifiedKey>, ServerError> {
        let mut params = CertificateParams::new(names).map_err(failed)?;
        let common = names.first().map_or("goldleaf", String::as_str);
        let CertificateParams { not_before, not_after, distinguished_name, key_usages, .. } =
            usual(common, now, SERVER_SECS)?;
        (params.not_before, params.not_after) = (not_before, not_after);
        (params.distinguished_name, params.key_usages) = (distinguished_name, key_usages);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).map_err(failed)?;
        // The authority goes with it, so that who knows its fingerprint only can look at it.
        let chain = vec![signed.der().clone(), self.der.clone()];
        Ok(Arc::new(CertifiedKey::new(chain, signer)))
    }
}

/// Checks that a request in PEM was signed with the key that is in it.
pub fn prove(csr: &str) -> Result<Proven, String> {
    let request = CertificateSigningRequestParams::from_pem(csr)
        .map_err(|error| format!("the certificate signing request: {error}"))?;
    let key_hash = digest(request.public_key.der_bytes());
    Ok(Proven { request, key_hash })
}

/// What is in a certificate of a client: its common name, and the SHA-256 of its key.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<(String, String)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some((name, digest(&parsed.public_key().subject_public_key.data)))
}

fn own(organisation: &str, now: u64) -> Result<CertificateParams, ServerError> {
    let mut params = usual(&format!("Goldleaf of {organisation}"), now, AUTHORITY_SECS)?;
    // It signs endpoints and servers, and no other authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn usual(common: &str, now: u64, secs: u64) -> Result<CertificateParams, ServerError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = at(now.saturating_sub(LEEWAY_SECS))?;
    params.not_after = at(now + secs)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn at(unix_secs: u64) -> Result<OffsetDateTime, ServerError> {
    OffsetDateTime::from_unix_timestamp(unix_secs as i64).map_err(failed)
}

fn der(pem: &str) -> Result<CertificateDer<'static>, ServerError> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| failed(format!("{error:?}")))
}

fn failed(error: impl std::fmt::Display) -> ServerError {
    ServerError::Authority(error.to_string())
}
