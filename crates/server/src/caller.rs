//! Who calls.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use goldleaf_api::v1::EndpointState;
use goldleaf_api::{Needs, Role};

use crate::CallError;
use crate::secret::secret_hash;
use crate::server::Server;

/// Who is at the other end of a connection, as TLS says: nobody, or whoever has a certificate of
/// our authority.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The certificate's common name, and the SHA-256 of its key.
    pub certified: Option<(String, String)>,
    /// Where it is.
    pub address: Option<IpAddr>,
}

/// Who calls, and may.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody.
    Anybody,
    /// An endpoint that is let in.
    Endpoint(Admitted),
    /// Whoever has a token.
    Person {
        /// The token's id: several may have one name.
        id: String,
        /// The token's name.
        name: String,
        /// As what.
        role: Role,
    },
}

/// An endpoint that is let in, as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub id: String,
    /// Its group.
    pub group: String,
    /// SHA-256 of its key.
    pub key_hash: String,
    /// Where it was in its chain, before and now; empty before its first step.
    pub step: (String, String),
}

impl Caller {
    /// Who it is, for the audit log.
    pub fn name(&self) -> String {
        match self {
            Self::Anybody => "anybody".into(),
            Self::Endpoint(endpoint) => format!("endpoint {}", endpoint.id),
            Self::Person { id, name, .. } => format!("{name} (token {id})"),
        }
    }
}

/// Finds out who calls, and whether that is enough.
pub async fn admit(
    server: &Server,
    peer: &Peer,
    headers: &HeaderMap,
    needs: Needs,
) -> Result<Caller, CallError> {
    match needs {
        Needs::Nothing => Ok(Caller::Anybody),
        Needs::Endpoint => endpoint(server, peer).await.map(Caller::Endpoint),
        Needs::Permission(permission) => {
            let (id, name, role) = person(server, headers).await?;
            match role.may(permission) {
                true => Ok(Caller::Person { id, name, role }),
                false => Err(CallError::Forbidden("your role does not allow that")),
            }
        }
    }
}

async fn endpoint(server: &Server, peer: &Peer) -> Result<Admitted, CallError> {
    let unknown = || CallError::Unknown("a certificate of an endpoint of this server is needed");
    let (id, key_hash) = peer.certified.clone().ok_or_else(unknown)?;
    let row = sqlx::query_as::<_, (String, String, String, String, String, String)>(
        "SELECT group_name, state, because, key_hash, step_before, step_now
         FROM endpoints WHERE id = $1",
    )
    .bind(&id)
    .fetch_optional(server.db.reader())
    .await?;
    let (group, state, because, key, before, now) = row.ok_or_else(unknown)?;
    // A certificate is good for the key that enrolled, and as long as the endpoint is let in:
    // nobody waits until it expires.
    if key != key_hash {
        return Err(unknown());
    }
    match EndpointState::parse(&state) {
        Some(EndpointState::Active) => Ok(Admitted { id, group, key_hash, step: (before, now) }),
        _ => Err(CallError::NotAdmitted(not_admitted(&state, &because))),
    }
}

/// A state, and why.
pub fn not_admitted(state: &str, because: &str) -> String {
    if because.is_empty() { state.into() } else { format!("{state}: {because}") }
}

async fn person(server: &Server, headers: &HeaderMap) -> Result<(String, String, Role), CallError> {
    let unknown = || CallError::Unknown("a token that is good is needed");
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The scheme is read in any case of letters (RFC 9110, section 11.1).
    let (scheme, secret) = header.and_then(|value| value.split_once(' ')).ok_or_else(unknown)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unknown());
    }
    let row = sqlx::query_as::<_, (String, String, String)>(
        "SELECT id, name, role FROM tokens WHERE hash = $1 AND expires_at > $2",
    )
    .bind(secret_hash(secret).ok_or_else(unknown)?)
    .bind(server.now() as i64)
    .fetch_optional(server.db.reader())
    .await?;
    let (id, name, role) = row.ok_or_else(unknown)?;
    Ok((id, name, Role::parse(&role).ok_or_else(unknown)?))
}
