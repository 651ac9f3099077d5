//! LivePCs, and who gets them.

use std::collections::BTreeMap;

use goldleaf_api::v1::{
    AssignLivePc, DeleteLivePc, ListLivePcs, LivePc, LivePcs, Nothing, PutLivePc, UnassignLivePc,
};

use super::{check_name, rows, there_is};
use crate::CallError;
use crate::audit::Change;
use crate::routes::Asked;

/// Longest place, in bytes, and most of them for one LivePC.
const PLACE_MAX: usize = 1000;
const MIRRORS_MAX: usize = 20;

pub async fn put(asked: Asked<PutLivePc>) -> Result<Nothing, CallError> {
    let request = &asked.request;
    check_name(&request.livepc)?;
    let places = request.mirrors.iter().chain([&request.location]);
    if request.mirrors.len() > MIRRORS_MAX || places.clone().any(|place| place.len() > PLACE_MAX) {
        return Err(CallError::Bad("too many places, or too long ones".into()));
    }
    if !request.location.contains("/feeds/") {
        return Err(CallError::Bad(
            "a feed is at PLACE/feeds/NAME or PLACE/feeds/NAME/CHANNEL".into(),
        ));
    }
    let mirrors = serde_json::to_string(&request.mirrors)
        .map_err(|error| CallError::Bad(error.to_string()))?;
    let mut change = Change::begin(&asked.server.db).await?;
    let upsert = sqlx::query(
        "INSERT INTO livepcs (name, location, mirrors) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET location = $2, mirrors = $3",
    )
    .bind(request.livepc.clone())
    .bind(request.location.clone())
    .bind(mirrors);
    rows(&mut change, upsert).await?;
    asked.commit(change, &request.livepc, request.location.clone()).await?;
    Ok(Nothing {})
}

pub async fn list(asked: Asked<ListLivePcs>) -> Result<LivePcs, CallError> {
    let db = asked.server.db.reader();
    let found = sqlx::query_as::<_, (String, String, String)>(
        "SELECT name, location, mirrors FROM livepcs ORDER BY name",
    )
    .fetch_all(db)
    .await?;
    let mut assigned: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let scopes = sqlx::query_as::<_, (String, String)>(
        "SELECT livepc, scope FROM assignments ORDER BY livepc, scope",
    );
    for (livepc, scope) in scopes.fetch_all(db).await? {
        assigned.entry(livepc).or_default().push(scope);
    }
    let livepc = |(name, location, mirrors): (String, String, String)| {
        let assigned = assigned.remove(&name).unwrap_or_default();
        let mirrors = serde_json::from_str(&mirrors).unwrap_or_default();
        LivePc { name, location, mirrors, assigned }
    };
    Ok(LivePcs { livepcs: found.into_iter().map(livepc).collect() })
}

pub async fn delete(asked: Asked<DeleteLivePc>) -> Result<Nothing, CallError> {
    let name = &asked.request.livepc;
    let mut change = Change::begin(&asked.server.db).await?;
    let assigned: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM assignments WHERE livepc = $1")
        .bind(name.clone())
        .fetch_one(change.on())
        .await?;
    if assigned > 0 {
        return Err(CallError::Conflict(format!("{name} is assigned {assigned} times")));
    }
    let gone = sqlx::query("DELETE FROM livepcs WHERE name = $1").bind(name.clone());
    there_is(rows(&mut change, gone).await?, "LivePC", name)?;
    asked.commit(change, name, String::new()).await?;
    Ok(Nothing {})
}

pub async fn assign(asked: Asked<AssignLivePc>) -> Result<Nothing, CallError> {
    let (livepc, scope) = (&asked.request.livepc, &asked.request.scope);
    let mut change = Change::begin(&asked.server.db).await?;
    let known: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM livepcs WHERE name = $1")
        .bind(livepc.clone())
        .fetch_one(change.on())
        .await?;
    there_is(known as u64, "LivePC", livepc)?;
    exists(&mut change, scope).await?;
    let insert = sqlx::query(
        "INSERT INTO assignments (livepc, scope) VALUES ($1, $2)
         ON CONFLICT (livepc, scope) DO NOTHING",
    );
    if rows(&mut change, insert.bind(livepc.clone()).bind(scope.clone())).await? > 0 {
        asked.commit(change, livepc, scope.clone()).await?;
    }
    Ok(Nothing {})
}

pub async fn unassign(asked: Asked<UnassignLivePc>) -> Result<Nothing, CallError> {
    let (livepc, scope) = (&asked.request.livepc, &asked.request.scope);
    let mut change = Change::begin(&asked.server.db).await?;
    let gone = sqlx::query("DELETE FROM assignments WHERE livepc = $1 AND scope = $2")
        .bind(livepc.clone())
        .bind(scope.clone());
    there_is(rows(&mut change, gone).await?, "assignment", &format!("of {livepc} to {scope}"))?;
    asked.commit(change, livepc, scope.clone()).await?;
    Ok(Nothing {})
}

/// Sees that there is somebody of a scope.
async fn exists(change: &mut Change, scope: &str) -> Result<(), CallError> {
    let (kind, count, name) = match scope.split_once(':') {
        None if scope == "everybody" => return Ok(()),
        Some(("group", name)) => {
            ("group", "SELECT COUNT(*) FROM groups_of_endpoints WHERE name = $1", name)
        }
        Some(("endpoint", id)) => ("endpoint", "SELECT COUNT(*) FROM endpoints WHERE id = $1", id),
        _ => {
            let forms = "expected everybody, group:NAME or endpoint:ID";
            return Err(CallError::Bad(format!("{scope}: {forms}")));
        }
    };
    let found: i64 = sqlx::query_scalar(count).bind(name).fetch_one(change.on()).await?;
    there_is(found as u64, kind, name)
}
