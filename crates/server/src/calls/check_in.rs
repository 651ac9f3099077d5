//! Check-ins: an endpoint says how it is, and learns what it is to have.

use goldleaf_api::v1::{CheckIn, CheckedIn, EndpointState, Step};

use super::actions::waiting_for;
use super::rows;
use crate::CallError;
use crate::audit::{Change, Said};
use crate::caller::{Admitted, Caller};
use crate::routes::Asked;
use crate::seen::Sighting;
use crate::server::Server;

/// Longest value of a step, in bytes.
const STEP_MAX: usize = 64;
const COPIED: &str = "another machine has a copy of its key";

pub async fn check_in(asked: Asked<CheckIn>) -> Result<CheckedIn, CallError> {
    let (server, request) = (&asked.server, &asked.request);
    let Caller::Endpoint(endpoint) = &asked.caller else {
        return Err(CallError::Unknown("no endpoint"));
    };
    let step = next_step(endpoint, &request.step)?;
    let report = request.report.as_ref().map(serde_json::to_string).transpose();
    let sighting = Sighting {
        endpoint: endpoint.id.clone(),
        at: server.now(),
        report: report.map_err(|error| CallError::Bad(error.to_string()))?,
        step: match &step {
            Stepped::Same => None,
            Stepped::On => Some(request.step.clone()),
            Stepped::Astray => return Err(quarantine(&asked, endpoint).await?),
        },
        done: request.done.clone(),
    };
    // What it tells, and where it steps to, is durable before it is answered.
    if !sighting.must_last() {
        server.seen.note(sighting);
    } else if !server.seen.keep(sighting).await?
        && !is_there(server, endpoint, &request.step).await?
    {
        return Err(quarantine(&asked, endpoint).await?);
    }
    let known = request.known.as_deref();
    let (tag, desired) =
        server.told.desired(&server.db, &endpoint.id, &endpoint.group, known).await?;
    let orders = waiting_for(&server.db, &endpoint.id).await?;
    Ok(CheckedIn { desired, tag, orders, again_secs: server.again_secs })
}

/// How a step goes with where the endpoint was.
enum Stepped {
    /// It is there already.
    Same,
    /// It comes from there.
    On,
    /// It comes from where the endpoint has left.
    Astray,
}

fn next_step(endpoint: &Admitted, step: &Step) -> Result<Stepped, CallError> {
    let fits = |value: &str| !value.is_empty() && value.len() <= STEP_MAX;
    if !fits(&step.now) || step.before.as_deref().is_some_and(|before| !fits(before)) {
        return Err(CallError::Bad(format!("a step has 1 to {STEP_MAX} bytes")));
    }
    let (before, now) = (&endpoint.step.0, &endpoint.step.1);
    let comes_from = step.before.as_deref().unwrap_or_default();
    Ok(if step.now == *now && comes_from == before {
        Stepped::Same
    } else if now.is_empty() || comes_from == now {
        Stepped::On
    } else {
        Stepped::Astray
    })
}

/// Whether it is where it says, by now: two of its calls may have overtaken each other.
async fn is_there(server: &Server, endpoint: &Admitted, step: &Step) -> Result<bool, CallError> {
    let now: Option<String> = sqlx::query_scalar("SELECT step_now FROM endpoints WHERE id = $1")
        .bind(&endpoint.id)
        .fetch_optional(server.db.reader())
        .await?;
    Ok(now.as_deref() == Some(step.now.as_str()))
}

/// Shuts an endpoint out of which there are two. What is answered then.
async fn quarantine(asked: &Asked<CheckIn>, endpoint: &Admitted) -> Result<CallError, CallError> {
    let server = &asked.server;
    let mut change = Change::begin(&server.db).await?;
    let update = sqlx::query("UPDATE endpoints SET state = $1, because = $2 WHERE id = $3")
        .bind(EndpointState::Quarantined.as_str())
        .bind(COPIED)
        .bind(endpoint.id.clone());
    rows(&mut change, update).await?;
    let said = Said {
        at: server.now(),
        actor: &asked.caller.name(),
        call: "quarantine",
        target: &endpoint.id,
        detail: COPIED.into(),
    };
    change.commit(said).await?;
    let why = crate::caller::not_admitted(EndpointState::Quarantined.as_str(), COPIED);
    Ok(CallError::NotAdmitted(why))
}
