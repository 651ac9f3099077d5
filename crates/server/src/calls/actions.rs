//! What endpoints are to do: ordered, waited for, told to them when they check in.

use std::pin::pin;

use goldleaf_api::v1::{
    Action, ActionOrdered, ActionView, Actions, AwaitNews, ListActions, News, Order, SendAction,
};

use super::{rows, there_is};
use crate::CallError;
use crate::audit::Change;
use crate::caller::Caller;
use crate::db::Db;
use crate::routes::Asked;
use crate::waiting::PATIENCE;

/// Actions that may wait for one endpoint.
const WAITING_MAX: i64 = 100;
/// Longest name in an action, in bytes.
const NAME_MAX: usize = 200;

pub async fn send(asked: Asked<SendAction>) -> Result<ActionOrdered, CallError> {
    let (server, request) = (&asked.server, &asked.request);
    check(&request.action)?;
    let action = serde_json::to_string(&request.action)
        .map_err(|error| CallError::Bad(error.to_string()))?;
    let id = &request.endpoint;
    let mut change = Change::begin(&server.db).await?;
    let known: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM endpoints WHERE id = $1")
        .bind(id.clone())
        .fetch_one(change.on())
        .await?;
    there_is(known as u64, "endpoint", id)?;
    let count = "SELECT COUNT(*) FROM actions WHERE endpoint = $1 AND done_at = 0";
    let waiting: i64 = sqlx::query_scalar(count).bind(id.clone()).fetch_one(change.on()).await?;
    if waiting >= WAITING_MAX {
        return Err(CallError::Conflict(format!("{waiting} actions wait for this endpoint")));
    }
    let number = change.number();
    let insert = sqlx::query(
        "INSERT INTO actions (id, endpoint, action, made_by, made_at, done_at, error)
         VALUES ($1, $2, $3, $4, $5, 0, '')",
    )
    .bind(number)
    .bind(id.clone())
    .bind(action.clone())
    .bind(asked.caller.name())
    .bind(server.now() as i64);
    rows(&mut change, insert).await?;
    asked.commit(change, id, action).await?;
    server.waiting.wake(id);
    Ok(ActionOrdered { id: number as u64 })
}

fn check(action: &Action) -> Result<(), CallError> {
    let names: &[&String] = match action {
        Action::Update {} => &[],
        Action::Rejuvenate { desktop, .. } => &[desktop],
        Action::RollBack { desktop, layer, .. } => &[desktop, layer],
    };
    match names.iter().all(|name| (1..=NAME_MAX).contains(&name.len())) {
        true => Ok(()),
        false => Err(CallError::Bad(format!("a name has 1 to {NAME_MAX} bytes"))),
    }
}

pub async fn list(asked: Asked<ListActions>) -> Result<Actions, CallError> {
    let id = &asked.request.endpoint;
    let found = sqlx::query_as::<_, (i64, String, String, i64, i64, String)>(
        "SELECT id, action, made_by, made_at, done_at, error FROM actions WHERE endpoint = $1
         ORDER BY id DESC LIMIT 100",
    )
    .bind(id)
    .fetch_all(asked.server.db.reader())
    .await?;
    let view = |(id, action, by, at, done_at, error): (i64, String, String, i64, i64, String)| {
        Ok(ActionView {
            id: id as u64,
            action: parse(&action)?,
            by,
            at: at as u64,
            done_at: Some(done_at as u64).filter(|at| *at > 0),
            error: Some(error).filter(|error| !error.is_empty()),
        })
    };
    let actions = found.into_iter().map(view).collect::<Result<_, CallError>>()?;
    Ok(Actions { actions })
}

fn parse(action: &str) -> Result<Action, CallError> {
    serde_json::from_str(action).map_err(|error| CallError::Internal(format!("an action: {error}")))
}

pub async fn news(asked: Asked<AwaitNews>) -> Result<News, CallError> {
    let Caller::Endpoint(endpoint) = &asked.caller else {
        return Err(CallError::Unknown("no endpoint"));
    };
    let (db, id) = (&asked.server.db, &endpoint.id);
    let place = asked.server.waiting.enter(id);
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    loop {
        let mut woken = pin!(place.notified());
        woken.as_mut().enable();
        if !waiting_for(db, id).await?.is_empty() {
            return Ok(News { is_there: true });
        }
        tokio::select! {
            () = woken => {}
            // Whoever waited to the end asks again.
            () = &mut patience => return Ok(News { is_there: false }),
        }
    }
}

/// What an endpoint is to do, and has not told that it did.
pub async fn waiting_for(db: &Db, endpoint: &str) -> Result<Vec<Order>, CallError> {
    let found = sqlx::query_as::<_, (i64, String)>(
        "SELECT id, action FROM actions WHERE endpoint = $1 AND done_at = 0 ORDER BY id",
    )
    .bind(endpoint)
    .fetch_all(db.reader())
    .await?;
    let order = |(id, action): (i64, String)| Ok(Order { id: id as u64, action: parse(&action)? });
    found.into_iter().map(order).collect()
}
