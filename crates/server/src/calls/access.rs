//! Who may use the API, and as what.

use goldleaf_api::v1::{
    Begin, CreateToken, ListTokens, Me, NewToken, Nothing, RevokeToken, Token, Tokens, WhoAmI,
};
use goldleaf_api::{Code, Role};

use super::{check_name, rows, there_is};
use crate::CallError;
use crate::audit::Change;
use crate::caller::Caller;
use crate::routes::Asked;
use crate::secret::{digest, draw, hex, secret_hash};
use crate::server::Server;

const DAY_SECS: u64 = 24 * 3600;
/// How long a token is good, in days: where nobody says, and at most.
const DAYS: u32 = 90;
const DAYS_MAX: u32 = 400;

pub async fn begin(asked: Asked<Begin>) -> Result<NewToken, CallError> {
    let (server, name) = (&asked.server, &asked.request.name);
    check_name(name)?;
    let unknown = || CallError::Code("this code is not known here, was used, or is too old");
    let hash = secret_hash(&asked.request.code).ok_or(unknown())?;
    let good = "SELECT COUNT(*) FROM begin_codes WHERE hash = $1 AND expires_at > $2";
    let good = sqlx::query_scalar::<_, i64>(good).bind(hash.clone()).bind(server.now() as i64);
    // Who knows no code that is good keeps nobody waiting who makes changes.
    if good.fetch_one(server.db.reader()).await? == 0 {
        return Err(unknown());
    }
    let mut change = Change::begin(&server.db).await?;
    let used = sqlx::query("DELETE FROM begin_codes WHERE hash = $1").bind(hash);
    if rows(&mut change, used).await? == 0 {
        return Err(unknown());
    }
    // There is one first administrator, whatever codes other servers printed.
    rows(&mut change, sqlx::query("DELETE FROM begin_codes")).await?;
    let token = make(server, &mut change, name, Role::Administrator, DAYS).await?;
    asked.commit(change, &token.id, format!("{name}, the first administrator")).await?;
    Ok(token)
}

pub async fn me(asked: Asked<WhoAmI>) -> Result<Me, CallError> {
    let organisation = asked.server.organisation.clone();
    match asked.caller {
        Caller::Person { name, role, .. } => Ok(Me { organisation, name, role }),
        _ => Err(CallError::Unknown("no person")),
    }
}

pub async fn create(asked: Asked<CreateToken>) -> Result<NewToken, CallError> {
    let (server, wanted) = (&asked.server, &asked.request);
    check_name(&wanted.name)?;
    let days = wanted.days.unwrap_or(DAYS);
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(CallError::Bad(format!("a token is good for 1 to {DAYS_MAX} days")));
    }
    let mut change = Change::begin(&server.db).await?;
    let token = make(server, &mut change, &wanted.name, wanted.role, days).await?;
    let detail = format!("{}, {}, for {days} days", wanted.name, wanted.role.as_str());
    asked.commit(change, &token.id, detail).await?;
    Ok(token)
}

async fn make(
    server: &Server,
    change: &mut Change,
    name: &str,
    role: Role,
    days: u32,
) -> Result<NewToken, CallError> {
    let id = hex(&draw::<8>(&*server.entropy)?);
    let secret: [u8; 16] = draw(&*server.entropy)?;
    let expires_at = server.now() + u64::from(days) * DAY_SECS;
    let insert = sqlx::query(
        "INSERT INTO tokens (id, hash, name, role, expires_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.clone())
    .bind(digest(&secret))
    .bind(name)
    .bind(role.as_str())
    .bind(expires_at as i64);
    rows(change, insert).await?;
    let token = Code { secret, authority: server.authority.fingerprint() }.to_string();
    Ok(NewToken { id, token, expires_at })
}

pub async fn list(asked: Asked<ListTokens>) -> Result<Tokens, CallError> {
    let found = sqlx::query_as::<_, (String, String, String, i64)>(
        "SELECT id, name, role, expires_at FROM tokens ORDER BY name, id",
    )
    .fetch_all(asked.server.db.reader())
    .await?;
    let token = |(id, name, role, expires_at): (String, String, String, i64)| {
        Some(Token { id, name, role: Role::parse(&role)?, expires_at: expires_at as u64 })
    };
    Ok(Tokens { tokens: found.into_iter().filter_map(token).collect() })
}

pub async fn revoke(asked: Asked<RevokeToken>) -> Result<Nothing, CallError> {
    let id = &asked.request.token;
    let mut change = Change::begin(&asked.server.db).await?;
    let gone = sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id.clone());
    there_is(rows(&mut change, gone).await?, "token", id)?;
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tokens WHERE role = $1")
        .bind(Role::Administrator.as_str())
        .fetch_one(change.on())
        .await?;
    if left == 0 {
        return Err(CallError::Conflict("it is the last administrator's".into()));
    }
    asked.commit(change, id, String::new()).await?;
    Ok(Nothing {})
}
