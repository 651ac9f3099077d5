//! Who gets through the door: TLS, and certificates that are not as they should be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use goldleaf_api::v1::{CheckIn, CheckingIn, GetAuthorities, Nothing};
use goldleaf_client::{ClientError, Server, Whom, meet};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;

use crate::ground::{Ground, Kind, Machine, start};

fn ground() -> (Ground, Machine) {
    let ground = Ground::new(Kind::Sqlite);
    ground.group("office");
    let machine = ground.endpoint("office");
    (ground, machine)
}

/// A check-in with a certificate of somebody's own.
fn check_in(ground: &Ground, certificate: &str, key: &str) -> Result<(), ClientError> {
    let whom = Whom::Endpoint { certificate, key };
    let step = goldleaf_api::v1::Step { before: None, now: "0".into() };
    let request = CheckingIn { step, known: None, report: None, done: Vec::new() };
    let server = Server::new(&ground.running.base, &ground.authorities(), whom)?;
    server.call::<CheckIn>(&request).map(drop)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

#[test]
fn certificates_of_others_are_turned_away_at_the_door() {
    let (ground, machine) = ground();
    let key = KeyPair::generate().expect("a key");
    // Signed by itself.
    let own = params(&machine.id()).self_signed(&key).expect("signed").pem();
    assert_eq!(check_in(&ground, &own, &key.serialize_pem()).expect_err("refused").code(), None);
    // Signed by an authority of the same name.
    let mut authority = params("Goldleaf of acme");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other = Issuer::new(authority, KeyPair::generate().expect("a key"));
    let signed = params(&machine.id()).signed_by(&key, &other).expect("signed").pem();
    assert_eq!(check_in(&ground, &signed, &key.serialize_pem()).expect_err("refused").code(), None);
    // An endpoint's certificate signs nobody.
    let machine_key = KeyPair::from_pem(&machine.key).expect("a key");
    let certificate = machine.enrolled.as_ref().and_then(|one| one.certificate.clone());
    let certificate = certificate.expect("let in");
    let endpoint = Issuer::from_ca_cert_pem(&certificate, machine_key).expect("an issuer");
    let signed = params(&machine.id()).signed_by(&key, &endpoint).expect("signed").pem();
    let chain = format!("{signed}{certificate}");
    assert_eq!(check_in(&ground, &chain, &key.serialize_pem()).expect_err("refused").code(), None);
    // The right one.
    check_in(&ground, &certificate, &machine.key).expect("let in");
}

#[test]
fn certificates_that_the_authority_signed_for_something_else_are_refused() {
    let (ground, machine) = ground();
    let read = |name: &str| std::fs::read_to_string(ground.dir.path().join(name)).expect("a file");
    let authority = KeyPair::from_pem(&read("authority.key")).expect("a key");
    let authority = Issuer::from_ca_cert_pem(&read("authority.pem"), authority).expect("an issuer");
    let key = KeyPair::generate().expect("a key");
    let with = |params: CertificateParams| {
        let signed = params.signed_by(&key, &authority).expect("signed").pem();
        check_in(&ground, &signed, &key.serialize_pem()).expect_err("refused")
    };
    // A server's.
    let mut server = params(&machine.id());
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert_eq!(with(server).code(), None);
    // One that is over, and one whose time has not come.
    let mut old = params(&machine.id());
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    assert_eq!(with(old).code(), None);
    let mut early = params(&machine.id());
    early.not_before = rcgen::date_time_ymd(2090, 1, 1);
    early.not_after = rcgen::date_time_ymd(2091, 1, 1);
    assert_eq!(with(early).code(), None);
    // Of another key than the endpoint enrolled with, and of nobody.
    for name in [machine.id().as_str(), "nobody", ""] {
        assert_eq!(with(params(name)).code(), Some("unknown-caller"), "{name}");
    }
}

#[test]
fn a_server_is_known_by_the_code() {
    let (ground, _) = ground();
    let other = Ground::new(Kind::Sqlite);
    // The code of one, the address of another.
    let met = meet(&other.running.base, &ground.token);
    assert!(matches!(met, Err(ClientError::Stranger(_))), "{met:?}");
    // The authority of one, the address of another.
    let server = Server::new(&other.running.base, &ground.authorities(), Whom::Anybody);
    let refused = server.expect("a client").call::<GetAuthorities>(&Nothing {});
    assert!(matches!(refused, Err(ClientError::Unreachable { .. })), "{refused:?}");
    for address in
        ["http://localhost:1/", "localhost", "https://u@h/", "https://h/x", "https://h/?x"]
    {
        let refused = Server::new(address, &[], Whom::Anybody);
        assert!(matches!(refused, Err(ClientError::Wrong(_))), "{address}");
    }
}

/// A client's own TLS, to say what the product's would not.
fn versions(ground: &Ground, version: &'static rustls::SupportedProtocolVersion) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    for pem in ground.authorities() {
        let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        roots.add(der).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection =
        rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let address = ground.running.base.trim_start_matches("https://").to_owned();
    let mut stream = TcpStream::connect(address).expect("a port");
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let asked = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    tls.write_all(asked).is_ok()
        && (tls.read_to_string(&mut answer).is_ok() || !answer.is_empty())
        && answer.contains("alive")
}

#[test]
fn older_tls_and_none_are_refused() {
    let (ground, _) = ground();
    assert!(versions(&ground, &rustls::version::TLS13));
    assert!(!versions(&ground, &rustls::version::TLS12));
    let address = ground.running.base.trim_start_matches("https://").to_owned();
    let mut stream = TcpStream::connect(address).expect("a port");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    // It hangs up, in whatever way.
    let _ = stream.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("alive"));
}

/// A header of a proxy's says nothing about who calls.
#[test]
fn the_server_is_the_same_after_a_restart() {
    let (mut ground, mut machine) = ground();
    let before = ground.authorities();
    let again = start(ground.dir.path(), &ground.database, ground.clock.clone());
    drop(std::mem::replace(&mut ground.running, again));
    assert_eq!(ground.authorities(), before);
    machine.check_in(&ground).expect("its certificate is good still");
}
