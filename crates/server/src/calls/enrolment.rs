//! How a machine becomes an endpoint, and stays one.
//!
//! Whoever asks proves to have a key, by a certificate signing request. With a code it becomes an
//! endpoint's; later the key alone is enough for the next certificate, so a code that was used and
//! an answer that was lost do no harm: asking again is the same.

use goldleaf_api::v1::{
    AnchorAdded, Authorities, ComeBack, EndpointState, Enrol, Enrolled, GetAuthorities, PutAnchor,
    RenewCertificate,
};

use super::{check_name, rows};
use crate::CallError;
use crate::audit::Change;
use crate::authority::{ENDPOINT_SECS, Proven, prove};
use crate::caller::Caller;
use crate::routes::Asked;
use crate::secret::{digest, draw, hex, secret_hash};
use crate::server::Server;

/// Longest root of trust, in bytes.
const ROOT_MAX: usize = 64 << 10;

const CODE_UNKNOWN: &str = "this code is not known here, or was good for too short a time";
const CODE_USED: &str = "this code was used already";

pub async fn authorities(asked: Asked<GetAuthorities>) -> Result<Authorities, CallError> {
    let server = &asked.server;
    let certificates = vec![server.authority.pem().into()];
    Ok(Authorities { organisation: server.organisation.clone(), certificates })
}

pub async fn enrol(asked: Asked<Enrol>) -> Result<Enrolled, CallError> {
    let (server, request) = (&asked.server, &asked.request);
    check_name(&request.name)?;
    let proven = prove(&request.csr).map_err(CallError::Bad)?;
    let hash = secret_hash(&request.code).ok_or(CallError::Code(CODE_UNKNOWN))?;
    // Who knows no code that is good keeps nobody waiting who makes changes.
    let code = sqlx::query_as::<_, (String, i64, i64, String)>(
        "SELECT group_name, approval, expires_at, used_by FROM codes WHERE hash = $1",
    )
    .bind(hash.clone())
    .fetch_optional(server.db.reader())
    .await?;
    let (group, approval, expires_at, used_by) = code.ok_or(CallError::Code(CODE_UNKNOWN))?;
    if !used_by.is_empty() {
        return again(server, &used_by, &proven).await;
    }
    if expires_at <= server.now() as i64 {
        return Err(CallError::Code(CODE_UNKNOWN));
    }
    let mut change = Change::begin(&server.db).await?;
    let state = if approval == 0 { EndpointState::Active } else { EndpointState::Pending };
    let id = hex(&draw::<16>(&*server.entropy)?);
    let insert = sqlx::query(
        "INSERT INTO endpoints (id, name, group_name, state, because, key_hash, step_before,
                                step_now, enrolled_at, seen_at, report)
         VALUES ($1, $2, $3, $4, '', $5, '', '', $6, 0, '') ON CONFLICT (key_hash) DO NOTHING",
    )
    .bind(id.clone())
    .bind(request.name.clone())
    .bind(group.clone())
    .bind(state.as_str())
    .bind(proven.key_hash.clone())
    .bind(server.now() as i64);
    if rows(&mut change, insert).await? == 0 {
        return Err(CallError::Conflict("an endpoint with this key is enrolled already".into()));
    }
    let used = sqlx::query("UPDATE codes SET used_by = $1 WHERE hash = $2 AND used_by = ''");
    if rows(&mut change, used.bind(id.clone()).bind(hash)).await? == 0 {
        // Somebody was faster.
        return Err(CallError::Code(CODE_USED));
    }
    asked.commit(change, &id, format!("{} into {group}", request.name)).await?;
    let key_hash = proven.key_hash.clone();
    let known = Known { state, because: String::new(), key_hash };
    enrolled(server, &id, &known, &proven).await
}

/// The answer to an enrolment that was done, whose answer may have been lost on its way.
async fn again(server: &Server, endpoint: &str, proven: &Proven) -> Result<Enrolled, CallError> {
    match known(server, endpoint).await? {
        Some(known) if known.key_hash == proven.key_hash => {
            enrolled(server, endpoint, &known, proven).await
        }
        _ => Err(CallError::Code(CODE_USED)),
    }
}

/// A request that is replayed gets a certificate of no use: it is for the key that signed it.
pub async fn come_back(asked: Asked<ComeBack>) -> Result<Enrolled, CallError> {
    let (server, request) = (&asked.server, &asked.request);
    let proven = prove(&request.csr).map_err(CallError::Bad)?;
    match known(server, &request.endpoint).await? {
        Some(known) if known.key_hash == proven.key_hash => {
            enrolled(server, &request.endpoint, &known, &proven).await
        }
        _ => Err(CallError::Unknown("no endpoint of this server has this key")),
    }
}

pub async fn renew(asked: Asked<RenewCertificate>) -> Result<Enrolled, CallError> {
    let server = &asked.server;
    let proven = prove(&asked.request.csr).map_err(CallError::Bad)?;
    let Caller::Endpoint(endpoint) = &asked.caller else {
        return Err(CallError::Unknown("no endpoint"));
    };
    if endpoint.key_hash != proven.key_hash {
        return Err(CallError::Bad("this is another key than the endpoint's".into()));
    }
    let (state, because) = (EndpointState::Active, String::new());
    let known = Known { state, because, key_hash: endpoint.key_hash.clone() };
    enrolled(server, &endpoint.id, &known, &proven).await
}

pub async fn anchor(asked: Asked<PutAnchor>) -> Result<AnchorAdded, CallError> {
    let root = &asked.request.root;
    if root.is_empty() || root.len() > ROOT_MAX {
        return Err(CallError::Bad(format!("a root of trust has 1 to {ROOT_MAX} bytes")));
    }
    let sha256 = digest(root.as_bytes());
    let mut change = Change::begin(&asked.server.db).await?;
    let insert = sqlx::query(
        "INSERT INTO anchors (sha256, root, added_at) VALUES ($1, $2, $3)
         ON CONFLICT (sha256) DO NOTHING",
    );
    let insert = insert.bind(sha256.clone()).bind(root.clone()).bind(asked.server.now() as i64);
    if rows(&mut change, insert).await? > 0 {
        asked.commit(change, &sha256, String::new()).await?;
    }
    Ok(AnchorAdded { sha256 })
}

/// What is known of an endpoint.
struct Known {
    state: EndpointState,
    because: String,
    key_hash: String,
}

async fn known(server: &Server, id: &str) -> Result<Option<Known>, CallError> {
    let row = sqlx::query_as::<_, (String, String, String)>(
        "SELECT state, because, key_hash FROM endpoints WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(server.db.reader())
    .await?;
    Ok(row.and_then(|(state, because, key_hash)| {
        Some(Known { state: EndpointState::parse(&state)?, because, key_hash })
    }))
}

/// How an enrolment stands, with a certificate if it is let in.
async fn enrolled(
    server: &Server,
    endpoint: &str,
    known: &Known,
    proven: &Proven,
) -> Result<Enrolled, CallError> {
    let now = server.now();
    let certificate = match known.state {
        EndpointState::Active => {
            let admitted = server.authority.admit(proven, endpoint, now);
            Some(admitted.map_err(|error| CallError::Internal(error.to_string()))?)
        }
        EndpointState::Pending => None,
        EndpointState::Quarantined => {
            let why = crate::caller::not_admitted(known.state.as_str(), &known.because);
            return Err(CallError::NotAdmitted(why));
        }
    };
    let anchors: Vec<String> =
        sqlx::query_scalar("SELECT root FROM anchors ORDER BY added_at, sha256")
            .fetch_all(server.db.reader())
            .await?;
    Ok(Enrolled {
        endpoint: endpoint.into(),
        organisation: server.organisation.clone(),
        state: known.state,
        renew_at: certificate.as_ref().map(|_| now + ENDPOINT_SECS * 2 / 3),
        certificate,
        authorities: vec![server.authority.pem().into()],
        anchors,
    })
}
