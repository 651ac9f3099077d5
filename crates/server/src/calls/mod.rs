//! What is done about each call, by what it is about.

mod access;
mod actions;
mod check_in;
mod endpoints;
mod enrolment;
mod groups;
mod livepcs;
mod log;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use goldleaf_api::{Call, Needs, Permission};
use sqlx::Any;
use sqlx::query::Query;

use crate::CallError;
use crate::audit::{Change, Said};
use crate::caller::{Peer, admit};
use crate::routes::{Asked, Routes};
use crate::server::Server;

/// Longest name, in bytes.
const NAME_MAX: usize = 100;

/// All routes.
pub fn router(server: Arc<Server>) -> Router {
    let (ready, counted) = (server.clone(), server.clone());
    routes(server)
        .router()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(move || is_ready(ready.clone())))
        .route("/metrics", get(move |request| metrics(counted.clone(), request)))
}

/// A route for each call.
fn routes(server: Arc<Server>) -> Routes {
    Routes::of(server)
        .add(enrolment::authorities)
        .add(enrolment::enrol)
        .add(enrolment::come_back)
        .add(enrolment::renew)
        .add(enrolment::anchor)
        .add(check_in::check_in)
        .add(actions::news)
        .add(actions::send)
        .add(actions::list)
        .add(access::begin)
        .add(access::me)
        .add(access::create)
        .add(access::list)
        .add(access::revoke)
        .add(groups::create)
        .add(groups::list)
        .add(groups::delete)
        .add(groups::code)
        .add(endpoints::list)
        .add(endpoints::get)
        .add(endpoints::approve)
        .add(endpoints::quarantine)
        .add(endpoints::retire)
        .add(endpoints::move_to)
        .add(livepcs::put)
        .add(livepcs::list)
        .add(livepcs::delete)
        .add(livepcs::assign)
        .add(livepcs::unassign)
        .add(log::list)
        .add(log::check)
}

/// Whether it can do its work: the database answers.
async fn is_ready(server: Arc<Server>) -> Response {
    match sqlx::query("SELECT 1").execute(server.db.reader()).await {
        Ok(_) => "ready\n".into_response(),
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

async fn metrics(server: Arc<Server>, request: Request) -> Response {
    let needs = Needs::Permission(Permission::See);
    match admit(&server, &Peer::default(), request.headers(), needs).await {
        Ok(_) => server.metrics.text().into_response(),
        Err(error) => (error.status().0, format!("{error}\n")).into_response(),
    }
}

impl<C: Call> Asked<C> {
    /// Makes a change durable.
    async fn commit(&self, change: Change, target: &str, detail: String) -> Result<(), CallError> {
        let (actor, call) = (self.caller.name(), self.call());
        let at = self.server.now();
        change.commit(Said { at, actor: &actor, call: &call, target, detail }).await
    }
}

/// Executes a statement; how many rows it met.
async fn rows<'q>(
    change: &mut Change,
    query: Query<'q, Any, sqlx::any::AnyArguments>,
) -> Result<u64, CallError> {
    Ok(query.execute(change.on()).await?.rows_affected())
}

/// What is missing when no row was met.
fn there_is(met: u64, kind: &'static str, name: &str) -> Result<(), CallError> {
    if met > 0 { Ok(()) } else { Err(CallError::Missing { kind, name: name.into() }) }
}

/// Names are shown in tables and put into texts like `group:NAME`.
fn check_name(name: &str) -> Result<(), CallError> {
    let fits = !name.is_empty() && name.len() <= NAME_MAX && name.trim() == name;
    match fits && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(CallError::Bad(format!(
            "a name has 1 to {NAME_MAX} bytes, no control characters and no blanks around it"
        ))),
    }
}

#[cfg(test)]
mod tests;
