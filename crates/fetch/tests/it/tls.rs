//! Servers that show who they are, and others. `tls/make` made the certificates, with openssl.

use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::Arc;

use goldleaf_fetch::{FetchError, Options, Source, Web};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::{Ask, Out, Server, Stream, Wire, honest, take_body};
use crate::world::{content, hasty, options, range, within};

const CA: &[u8] = include_bytes!("tls/ca.pem");
const OTHER_CA: &[u8] = include_bytes!("tls/other-ca.pem");
const SERVER: (&[u8], &[u8]) = (include_bytes!("tls/server.pem"), include_bytes!("tls/server.key"));
const OTHER_NAME: (&[u8], &[u8]) =
    (include_bytes!("tls/other-name.pem"), include_bytes!("tls/other-name.key"));

impl Out for StreamOwned<ServerConnection, Wire> {
    fn drip(&mut self) {
        self.sock.drips = true;
    }

    fn take_body(&mut self, ask: &Ask) -> io::Result<Vec<u8>> {
        take_body(self, ask)
    }
}

fn with_tls(
    (certificate, key): (&[u8], &[u8]),
    handler: impl Fn(&Ask, &mut dyn Out) -> io::Result<bool> + Send + Sync + 'static,
) -> Server {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(key).unwrap(),
        );
    let config = Arc::new(config.unwrap());
    let wrap = move |wire| -> Box<dyn Stream> {
        Box::new(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), wire))
    };
    Server::over(wrap, handler)
}

fn server(identity: (&[u8], &[u8])) -> Server {
    let files = [("packs/00ff".to_string(), content(300_000))].into();
    with_tls(identity, move |ask, out| honest(&files, ask, out))
}

fn web(server: &Server, ca: Option<&[u8]>) -> Arc<dyn Source> {
    let options = Options { ca: ca.map(<[u8]>::to_vec), ..options() };
    Arc::new(Web::new(&format!("https://127.0.0.1:{}", server.port), &options).unwrap())
}

#[test]
fn a_server_of_the_given_authority() {
    let server = server(SERVER);
    let source = web(&server, Some(CA));
    for at in [0, 1000, 200_000] {
        let expected = &content(300_000)[at as usize..][..100_000];
        assert_eq!(range(&*source, "packs/00ff", at, 100_000).unwrap(), expected);
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a58_another_authority() {
    let server = server(SERVER);
    for ca in [None, Some(OTHER_CA)] {
        let error = web(&server, ca).read("packs/00ff", 10).unwrap_err();
        assert!(matches!(error, FetchError::Tls { .. }), "{error}");
    }
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn a60_the_server_of_somebody_else() {
    let server = server(OTHER_NAME);
    let error = web(&server, Some(CA)).read("packs/00ff", 10).unwrap_err();
    assert!(matches!(error, FetchError::Tls { .. }), "{error}");
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn a59_no_tls_where_there_must_be() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        // The connection stays until the client has seen what came.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let source = Web::new(&format!("https://127.0.0.1:{port}"), &options()).unwrap();
    let error = within(5, || source.read("timestamp.json", 10).unwrap_err());
    assert!(matches!(error, FetchError::Tls { .. }), "{error}");
}

#[test]
fn a59_a_redirect_to_http() {
    let plain = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let target = plain.url();
    let server = with_tls(SERVER, move |_, out| {
        write!(out, "HTTP/1.1 302 F\r\nLocation: {target}/a\r\nContent-Length: 0\r\n\r\n")?;
        Ok(true)
    });
    let error = web(&server, Some(CA)).read("timestamp.json", 10).unwrap_err();
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
    assert_eq!(plain.connections(), 0);
}

#[test]
fn a28_a_record_that_trickles_in() {
    let server = with_tls(SERVER, |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n")?;
        out.drip();
        out.write_all(&[7; 16_000])?;
        Ok(true)
    });
    let options = Options { ca: Some(CA.to_vec()), ..hasty() };
    let source = Web::new(&format!("https://127.0.0.1:{}", server.port), &options).unwrap();
    let error = within(5, || source.read("timestamp.json", 16_000).unwrap_err());
    assert!(matches!(error, FetchError::SlowRetrieval { .. }), "{error}");
}

#[test]
fn an_authority_that_is_none() {
    let options = Options { ca: Some(b"no certificate".to_vec()), ..options() };
    let Err(error) = Web::new("https://host", &options) else { panic!("it was taken") };
    assert!(matches!(error, FetchError::Location { .. }), "{error}");
}
