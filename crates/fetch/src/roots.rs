//! Whom to believe who a server is: those whom the system believes, and one more.
//!
//! The system's list is one file where the system keeps it; so what an administrator adds to it
//! counts here too, and no list has to be shipped that grows old.

use std::path::Path;
use std::sync::Arc;

use goldleaf_host::{RealDir, read_file};
use rustls::crypto::aws_lc_rs;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// Folders and files, and not the symbolic links to them: Debian, Ubuntu and Alpine; Fedora and its
/// kin; SUSE; Arch.
const SYSTEM: &[(&str, &str)] = &[
    ("/etc/ssl/certs", "ca-certificates.crt"),
    ("/etc/pki/ca-trust/extracted/pem", "tls-ca-bundle.pem"),
    ("/var/lib/ca-certificates", "ca-bundle.pem"),
    ("/etc/ca-certificates/extracted", "tls-ca-bundle.pem"),
];
/// Longest list, in bytes; they have a quarter of a megabyte.
const SYSTEM_MAX: u64 = 8 << 20;

/// TLS as it is used here. `ca` is one more authority, as PEM; what is wrong with it is an error. A
/// system without a list believes `ca` only, or nobody.
pub(crate) fn tls(ca: Option<&[u8]>) -> Result<TlsConfig, String> {
    let mut certificates = system();
    if let Some(pem) = ca {
        certificates.extend(parse(pem)?);
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .root_certs(RootCerts::from(certificates))
        .build())
}

/// The first list that there is.
fn system() -> Vec<Certificate<'static>> {
    let read = |(folder, name): &(&str, &str)| {
        let dir = RealDir::open(Path::new(folder)).ok()?;
        parse(&read_file(&*dir, name, SYSTEM_MAX).ok()?).ok()
    };
    SYSTEM.iter().find_map(read).unwrap_or_default()
}

fn parse(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() { Err("no certificate in it".into()) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_certificate() {
        assert!(tls(None).is_ok());
        assert!(tls(Some(b"")).is_err());
        assert!(tls(Some(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")).is_err());
    }
}
