//! The endpoints, as administrators see them.

use goldleaf_api::Call;
use goldleaf_api::v1::{
    ApproveEndpoint, Endpoint, EndpointDetail, EndpointState, Endpoints, GetEndpoint,
    ListEndpoints, MoveEndpoint, Nothing, QuarantineEndpoint, RetireEndpoint,
};

use super::{rows, there_is};
use crate::audit::Change;
use crate::routes::Asked;
use crate::{CallError, desired};

/// Endpoints in a page, where nobody says how many, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// A row of endpoints.
type Row = (String, String, String, String, String, i64, i64);

fn endpoint((id, name, group, state, because, enrolled_at, seen_at): Row) -> Endpoint {
    Endpoint {
        id,
        name,
        group,
        // What no program of ours wrote is let in nowhere.
        state: EndpointState::parse(&state).unwrap_or(EndpointState::Quarantined),
        because: Some(because).filter(|because| !because.is_empty()),
        enrolled_at: enrolled_at as u64,
        seen_at: Some(seen_at as u64).filter(|seen| *seen > 0),
    }
}

pub async fn list(asked: Asked<ListEndpoints>) -> Result<Endpoints, CallError> {
    let wanted = &asked.request;
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX) as usize;
    // A text that is empty asks for nothing; one row more says whether there are more.
    let rows = sqlx::query_as::<_, Row>(
        "SELECT id, name, group_name, state, because, enrolled_at, seen_at FROM endpoints
         WHERE id > $1 AND ($2 = '' OR group_name = $2) AND ($3 = '' OR state = $3)
           AND ($4 = '' OR LOWER(name) LIKE $4 ESCAPE '!')
         ORDER BY id LIMIT $5",
    )
    .bind(wanted.after.clone().unwrap_or_default())
    .bind(wanted.group.clone().unwrap_or_default())
    .bind(wanted.state.map(EndpointState::as_str).unwrap_or_default())
    .bind(wanted.search.as_deref().map(pattern).unwrap_or_default())
    .bind(limit as i64 + 1)
    .fetch_all(asked.server.db.reader())
    .await?;
    let more = rows.len() > limit;
    let endpoints: Vec<Endpoint> = rows.into_iter().take(limit).map(endpoint).collect();
    let next = endpoints.last().filter(|_| more).map(|last| last.id.clone());
    Ok(Endpoints { endpoints, next })
}

/// What has a text somewhere in it, for LIKE.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern + "%"
}

pub async fn get(asked: Asked<GetEndpoint>) -> Result<EndpointDetail, CallError> {
    let (db, id) = (&asked.server.db, &asked.request.endpoint);
    let row = sqlx::query_as::<_, (String, String, String, String, String, i64, i64, String)>(
        "SELECT id, name, group_name, state, because, enrolled_at, seen_at, report FROM endpoints
         WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(db.reader())
    .await?;
    let missing = || CallError::Missing { kind: "endpoint", name: id.clone() };
    let (id, name, group, state, because, enrolled_at, seen_at, report) =
        row.ok_or_else(missing)?;
    let desired = desired::of(db, &id, &group).await?;
    let endpoint = endpoint((id, name, group, state, because, enrolled_at, seen_at));
    // One of an older or newer kind is not shown.
    let report = serde_json::from_str(&report).ok();
    Ok(EndpointDetail { endpoint, report, desired })
}

pub async fn approve(asked: Asked<ApproveEndpoint>) -> Result<Nothing, CallError> {
    // It may begin anywhere: of two copies the second to step is found out again.
    let id = asked.request.endpoint.clone();
    let update = "UPDATE endpoints SET state = $1, because = $2, step_before = '', step_now = ''
                  WHERE id = $3";
    set(&asked, update, &id, EndpointState::Active, "").await
}

pub async fn quarantine(asked: Asked<QuarantineEndpoint>) -> Result<Nothing, CallError> {
    let (id, because) = (asked.request.endpoint.clone(), asked.request.because.clone());
    let update = "UPDATE endpoints SET state = $1, because = $2 WHERE id = $3";
    set(&asked, update, &id, EndpointState::Quarantined, &because).await
}

async fn set<C: Call>(
    asked: &Asked<C>,
    update: &'static str,
    id: &str,
    state: EndpointState,
    because: &str,
) -> Result<Nothing, CallError> {
    let mut change = Change::begin(&asked.server.db).await?;
    let update = sqlx::query(update).bind(state.as_str()).bind(because).bind(id);
    there_is(rows(&mut change, update).await?, "endpoint", id)?;
    asked.commit(change, id, because.into()).await?;
    Ok(Nothing {})
}

pub async fn retire(asked: Asked<RetireEndpoint>) -> Result<Nothing, CallError> {
    let id = &asked.request.endpoint;
    let mut change = Change::begin(&asked.server.db).await?;
    let gone = sqlx::query("DELETE FROM endpoints WHERE id = $1").bind(id.clone());
    there_is(rows(&mut change, gone).await?, "endpoint", id)?;
    let scope = format!("endpoint:{id}");
    rows(&mut change, sqlx::query("DELETE FROM assignments WHERE scope = $1").bind(scope)).await?;
    asked.commit(change, id, String::new()).await?;
    Ok(Nothing {})
}

pub async fn move_to(asked: Asked<MoveEndpoint>) -> Result<Nothing, CallError> {
    let (id, group) = (&asked.request.endpoint, &asked.request.group);
    let mut change = Change::begin(&asked.server.db).await?;
    let known: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM groups_of_endpoints WHERE name = $1")
        .bind(group.clone())
        .fetch_one(change.on())
        .await?;
    there_is(known as u64, "group", group)?;
    let update = sqlx::query("UPDATE endpoints SET group_name = $1 WHERE id = $2")
        .bind(group.clone())
        .bind(id.clone());
    there_is(rows(&mut change, update).await?, "endpoint", id)?;
    asked.commit(change, id, format!("into {group}")).await?;
    Ok(Nothing {})
}
