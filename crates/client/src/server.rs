//! A server, as it is asked.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_api::v1::{Authorities, GetAuthorities, Nothing};
use goldleaf_api::{Call, Code, Method, Problem};
use rustls::crypto::aws_lc_rs;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use ureq::http::Response;
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
};
use ureq::{Agent, Body};

use crate::{ClientError, query};

/// Longest answer, in bytes: a page of a list.
const ANSWER_MAX: u64 = 8 << 20;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(60);

/// As whom a server is asked.
#[derive(Clone, Copy)]
pub enum Whom<'a> {
    /// As anybody.
    Anybody,
    /// As whoever has a token.
    Token(&'a str),
    /// As the endpoint of a certificate and its key, both in PEM.
    Endpoint {
        /// The certificate.
        certificate: &'a str,
        /// Its key.
        key: &'a str,
    },
}

/// A server whose authority is known.
pub struct Server {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// Meets a server for the first time: its authorities in PEM, among them the one of the code. What
/// came before that is sent to nobody.
pub fn meet(base: &str, code: &Code) -> Result<Authorities, ClientError> {
    let base = address(base)?;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        // Who answers is not known yet. What it says is believed by its fingerprint only, and is
        // no secret.
        .disable_verification(true)
        .build();
    let stranger = Server { agent: agent(tls), base: base.clone(), token: None };
    let authorities = stranger.call::<GetAuthorities>(&Nothing {})?;
    let is_it = |pem: &String| {
        certificates(pem).is_ok_and(|found| {
            found.iter().any(|one| Sha256::digest(one.der())[..16] == code.authority)
        })
    };
    // The others are believed because the one that is known would have to be asked for them.
    let known: Vec<String> =
        authorities.certificates.iter().filter(|pem| is_it(pem)).cloned().collect();
    if known.is_empty() {
        return Err(ClientError::Stranger(base));
    }
    Ok(Authorities { certificates: known, ..authorities })
}

impl Server {
    /// A server at an address, whose certificate is by one of `authorities`, in PEM.
    pub fn new(base: &str, authorities: &[String], whom: Whom<'_>) -> Result<Self, ClientError> {
        let mut roots = Vec::new();
        for pem in authorities {
            roots.extend(certificates(pem)?);
        }
        let client = match whom {
            Whom::Endpoint { certificate, key } => {
                let key = PrivateKey::from_pem(key.as_bytes()).map_err(|error| wrong(&error))?;
                Some(ClientCert::new_with_certs(&certificates(certificate)?, key))
            }
            _ => None,
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(client)
            .build();
        let token = match whom {
            Whom::Token(token) => Some(token.to_owned()),
            _ => None,
        };
        Ok(Self { agent: agent(tls), base: address(base)?, token })
    }

    /// Makes a call.
    pub fn call<C: Call>(&self, request: &C::Request) -> Result<C::Answer, ClientError> {
        let value = serde_json::to_value(request).map_err(|error| wrong(&error))?;
        let fields = match value {
            Value::Object(fields) => fields,
            _ => return Err(ClientError::Wrong("a request without fields".into())),
        };
        let answer = self.ask(C::METHOD, C::PATH, fields)?;
        serde_json::from_value(answer).map_err(|error| self.strange(&error))
    }

    /// Makes a call without knowing its types: its method, its path with `{NAME}`s, and the
    /// request's fields.
    pub fn ask(
        &self,
        method: Method,
        path: &str,
        mut fields: Map<String, Value>,
    ) -> Result<Value, ClientError> {
        let path = query::path(path, &mut fields)
            .ok_or_else(|| ClientError::Wrong("a name that cannot be asked for".into()))?;
        let mut url = format!("{}{path}", self.base);
        let mut asked = ureq::http::Request::builder().method(method.as_str());
        if let Some(token) = &self.token {
            asked = asked.header("authorization", format!("Bearer {token}"));
        }
        let answer = if method.has_body() {
            let body = serde_json::to_vec(&fields).map_err(|error| wrong(&error))?;
            let asked = asked.uri(&url).header("content-type", "application/json").body(body);
            self.agent.run(asked.map_err(|error| wrong(&error))?)
        } else {
            let query = query::query(&fields);
            if !query.is_empty() {
                url = format!("{url}?{query}");
            }
            self.agent.run(asked.uri(&url).body(()).map_err(|error| wrong(&error))?)
        };
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        self.read(answer)
    }

    fn read(&self, answer: Response<Body>) -> Result<Value, ClientError> {
        let status = answer.status();
        let mut bytes = Vec::new();
        let body = answer.into_body().into_reader().take(ANSWER_MAX + 1).read_to_end(&mut bytes);
        body.map_err(|error| self.unreachable(&error))?;
        if bytes.len() as u64 > ANSWER_MAX {
            return Err(self.strange(&"it is too long"));
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| self.strange(&error));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Problem { code, message }) => Err(ClientError::Refused { code, message }),
            Err(_) => Err(self.strange(&format!("HTTP status {status}"))),
        }
    }

    fn strange(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Answer { server: self.base.clone(), why: why.to_string() }
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreachable { server: self.base.clone(), why: error.to_string() }
    }
}

fn agent(tls: TlsConfig) -> Agent {
    Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent("goldleaf")
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(CALL))
        .build()
        .into()
}

/// An address without what would come after it.
fn address(base: &str) -> Result<String, ClientError> {
    let bad =
        || ClientError::Wrong(format!("{base} is no address of a server, like https://HOST:PORT"));
    let parsed = url::Url::parse(base).map_err(|_| bad())?;
    let is_bare = parsed.path() == "/" && parsed.query().is_none() && parsed.fragment().is_none();
    if parsed.scheme() != "https" || !is_bare || !parsed.username().is_empty() {
        return Err(bad());
    }
    Ok(parsed.as_str().trim_end_matches('/').into())
}

fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, ClientError> {
    let mut found = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
            found.push(certificate);
        }
    }
    Ok(found)
}

fn wrong(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Wrong(error.to_string())
}
