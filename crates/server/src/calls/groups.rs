//! Groups, and the codes with which endpoints come into them.

use goldleaf_api::Code;
use goldleaf_api::v1::{
    CreateCode, CreateGroup, DeleteGroup, Group, Groups, ListGroups, NewCode, Nothing,
};

use super::{check_name, rows, there_is};
use crate::CallError;
use crate::audit::Change;
use crate::routes::Asked;
use crate::secret::{digest, draw};

/// How long a code is good at most, in hours.
const HOURS_MAX: u32 = 24;

pub async fn create(asked: Asked<CreateGroup>) -> Result<Nothing, CallError> {
    let name = &asked.request.group;
    check_name(name)?;
    let mut change = Change::begin(&asked.server.db).await?;
    let insert = sqlx::query(
        "INSERT INTO groups_of_endpoints (name, created_at) VALUES ($1, $2)
         ON CONFLICT (name) DO NOTHING",
    );
    if rows(&mut change, insert.bind(name.clone()).bind(asked.server.now() as i64)).await? == 0 {
        return Err(CallError::Conflict(format!("there is a group {name} already")));
    }
    asked.commit(change, name, String::new()).await?;
    Ok(Nothing {})
}

pub async fn list(asked: Asked<ListGroups>) -> Result<Groups, CallError> {
    let groups = sqlx::query_as::<_, (String, i64)>(
        "SELECT name, (SELECT COUNT(*) FROM endpoints WHERE group_name = name_of.name)
         FROM groups_of_endpoints AS name_of ORDER BY name",
    )
    .fetch_all(asked.server.db.reader())
    .await?;
    let group = |(name, endpoints): (String, i64)| Group { name, endpoints: endpoints as u64 };
    Ok(Groups { groups: groups.into_iter().map(group).collect() })
}

pub async fn delete(asked: Asked<DeleteGroup>) -> Result<Nothing, CallError> {
    let name = &asked.request.group;
    let mut change = Change::begin(&asked.server.db).await?;
    let in_it: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM endpoints WHERE group_name = $1")
        .bind(name.clone())
        .fetch_one(change.on())
        .await?;
    if in_it > 0 {
        return Err(CallError::Conflict(format!("{in_it} endpoints are in the group {name}")));
    }
    let gone = sqlx::query("DELETE FROM groups_of_endpoints WHERE name = $1").bind(name.clone());
    there_is(rows(&mut change, gone).await?, "group", name)?;
    let scope = format!("group:{name}");
    rows(&mut change, sqlx::query("DELETE FROM assignments WHERE scope = $1").bind(scope)).await?;
    asked.commit(change, name, String::new()).await?;
    Ok(Nothing {})
}

pub async fn code(asked: Asked<CreateCode>) -> Result<NewCode, CallError> {
    let (server, wanted) = (&asked.server, &asked.request);
    let hours = wanted.hours.unwrap_or(HOURS_MAX);
    if !(1..=HOURS_MAX).contains(&hours) {
        return Err(CallError::Bad(format!("a code is good for 1 to {HOURS_MAX} hours")));
    }
    let secret: [u8; 16] = draw(&*server.entropy)?;
    let expires_at = server.now() + u64::from(hours) * 3600;
    let mut change = Change::begin(&server.db).await?;
    let group: Option<String> =
        sqlx::query_scalar("SELECT name FROM groups_of_endpoints WHERE name = $1")
            .bind(wanted.group.clone())
            .fetch_optional(change.on())
            .await?;
    there_is(group.iter().count() as u64, "group", &wanted.group)?;
    let insert = sqlx::query(
        "INSERT INTO codes (hash, group_name, approval, expires_at, used_by)
         VALUES ($1, $2, $3, $4, '')",
    )
    .bind(digest(&secret))
    .bind(wanted.group.clone())
    .bind(i64::from(wanted.approval))
    .bind(expires_at as i64);
    rows(&mut change, insert).await?;
    // Those that nobody used are of no use to anybody.
    let old = sqlx::query("DELETE FROM codes WHERE used_by = '' AND expires_at < $1");
    rows(&mut change, old.bind(server.now() as i64)).await?;
    let detail = format!("for {hours} hours, approval {}", wanted.approval);
    asked.commit(change, &wanted.group, detail).await?;
    let code = Code { secret, authority: server.authority.fingerprint() }.to_string();
    Ok(NewCode { code, expires_at })
}
