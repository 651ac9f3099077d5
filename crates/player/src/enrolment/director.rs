//! The control server, as this machine sees it.

use goldleaf_api::v1::{
    Authorities, AwaitNews, CheckIn, CheckedIn, CheckingIn, ComeBack, ComingBack, Enrol, Enrolled,
    Enrolling, News, Nothing, RenewCertificate, Renewing,
};
use goldleaf_api::{Call, Code};
use goldleaf_client::{ClientError, Key, Server, Whom, meet};
use serde::{Deserialize, Serialize};

/// How a server is reached, and as whom.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tie {
    /// Its address.
    pub server: String,
    /// The authorities by which it is known, in PEM.
    pub authorities: Vec<String>,
    /// This machine's key, in PEM. A secret.
    pub key: String,
    /// The certificate of that key, in PEM, once there is one.
    pub certificate: Option<String>,
}

impl std::fmt::Debug for Tie {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tie").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Tie {
    /// Proof that this machine has its key.
    pub fn csr(&self) -> Result<String, ClientError> {
        Key::from_pem(&self.key)?.csr()
    }
}

/// The calls of a control server that are an endpoint's.
pub trait Director: Send + Sync {
    /// What people call it.
    fn name(&self) -> String;
    /// Meets the server that made a code.
    fn meet(&self, server: &str, code: &Code) -> Result<Authorities, ClientError>;
    /// [`Enrol`].
    fn enrol(&self, tie: &Tie, request: &Enrolling) -> Result<Enrolled, ClientError>;
    /// [`ComeBack`].
    fn come_back(&self, tie: &Tie, request: &ComingBack) -> Result<Enrolled, ClientError>;
    /// [`RenewCertificate`].
    fn renew(&self, tie: &Tie, request: &Renewing) -> Result<Enrolled, ClientError>;
    /// [`CheckIn`].
    fn check_in(&self, tie: &Tie, request: &CheckingIn) -> Result<CheckedIn, ClientError>;
    /// [`AwaitNews`].
    fn news(&self, tie: &Tie) -> Result<News, ClientError>;
}

/// A real one.
pub struct OverTls;

fn ask<C: Call>(tie: &Tie, whom: Whom<'_>, request: &C::Request) -> Result<C::Answer, ClientError> {
    Server::new(&tie.server, &tie.authorities, whom)?.call::<C>(request)
}

fn as_endpoint(tie: &Tie) -> Result<Whom<'_>, ClientError> {
    match &tie.certificate {
        Some(certificate) => Ok(Whom::Endpoint { certificate, key: &tie.key }),
        None => Err(ClientError::Wrong("this machine is not let in yet".into())),
    }
}

impl Director for OverTls {
    fn name(&self) -> String {
        "control server".into()
    }

    fn meet(&self, server: &str, code: &Code) -> Result<Authorities, ClientError> {
        meet(server, code)
    }

    fn enrol(&self, tie: &Tie, request: &Enrolling) -> Result<Enrolled, ClientError> {
        ask::<Enrol>(tie, Whom::Anybody, request)
    }

    fn come_back(&self, tie: &Tie, request: &ComingBack) -> Result<Enrolled, ClientError> {
        ask::<ComeBack>(tie, Whom::Anybody, request)
    }

    fn renew(&self, tie: &Tie, request: &Renewing) -> Result<Enrolled, ClientError> {
        ask::<RenewCertificate>(tie, as_endpoint(tie)?, request)
    }

    fn check_in(&self, tie: &Tie, request: &CheckingIn) -> Result<CheckedIn, ClientError> {
        ask::<CheckIn>(tie, as_endpoint(tie)?, request)
    }

    fn news(&self, tie: &Tie) -> Result<News, ClientError> {
        ask::<AwaitNews>(tie, as_endpoint(tie)?, &Nothing {})
    }
}
