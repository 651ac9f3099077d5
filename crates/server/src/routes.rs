//! From a request of HTTP to a call, and back.
//!
//! A route is added with its call, so it has the call's path, needs what the call needs, and is
//! counted and told under the call's name; there is no other way to add one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use goldleaf_api::{Call, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::CallError;
use crate::caller::{Caller, Peer, admit};
use crate::server::Server;

/// Longest body of a request, in bytes.
const BODY_MAX: usize = 256 << 10;
/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// A call that is made.
pub struct Asked<C: Call> {
    /// Of which server.
    pub server: Arc<Server>,
    /// By whom.
    pub caller: Caller,
    /// What is said.
    pub request: C::Request,
}

impl<C: Call> Asked<C> {
    /// The call's path and method, which is its name in the audit log.
    pub fn call(&self) -> String {
        format!("{} {}", C::METHOD.as_str(), C::PATH)
    }
}

/// Routes that were added.
pub struct Routes {
    router: Router,
    server: Arc<Server>,
    added: BTreeSet<(&'static str, &'static str)>,
}

impl Routes {
    /// None yet.
    pub fn of(server: Arc<Server>) -> Self {
        Self { router: Router::new(), server, added: BTreeSet::new() }
    }

    /// Adds the route of a call, and who carries it out.
    pub fn add<C, F, T>(mut self, act: F) -> Self
    where
        C: Call,
        F: Fn(Asked<C>) -> T + Copy + Send + Sync + 'static,
        T: Future<Output = Result<C::Answer, CallError>> + Send + 'static,
    {
        let server = self.server.clone();
        let handler = move |request: Request| {
            let server = server.clone();
            async move {
                let before = server.clock.monotonic();
                let answer = carry_out::<C, F, T>(&server, act, request).await;
                let took = server.clock.monotonic().saturating_sub(before);
                tell::<C>(&server, &answer, took);
                match answer {
                    Ok(answer) => respond(StatusCode::OK, &answer),
                    Err(error) => respond(error.status().0, &error.problem()),
                }
            }
        };
        self.added.insert((C::METHOD.as_str(), C::PATH));
        self.router = self.router.route(C::PATH, on(filter(C::METHOD), handler));
        self
    }

    /// What was added: method and path.
    #[cfg(test)]
    pub fn added(&self) -> &BTreeSet<(&'static str, &'static str)> {
        &self.added
    }

    /// As a service.
    pub fn router(self) -> Router {
        self.router
    }
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    }
}

async fn carry_out<C, F, T>(
    server: &Arc<Server>,
    act: F,
    request: Request,
) -> Result<C::Answer, CallError>
where
    C: Call,
    F: Fn(Asked<C>) -> T,
    T: Future<Output = Result<C::Answer, CallError>>,
{
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().cloned().unwrap_or_default();
    if !server.quota.take(&peer, server.clock.monotonic()) {
        return Err(CallError::TooMany);
    }
    // Who may not is not read on.
    let caller = admit(server, &peer, &parts.headers, C::NEEDS).await?;
    let request = read::<C::Request>(C::METHOD, &mut parts, body).await?;
    act(Asked { server: server.clone(), caller, request }).await
}

async fn read<R: DeserializeOwned>(
    method: Method,
    parts: &mut Parts,
    body: Body,
) -> Result<R, CallError> {
    use axum::extract::FromRequestParts;
    let bad = |error: &dyn std::fmt::Display| CallError::Bad(format!("the request: {error}"));
    let in_path =
        RawPathParams::from_request_parts(parts, &()).await.map_err(|error| bad(&error))?;
    if !method.has_body() {
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        pairs.extend_pairs(url::form_urlencoded::parse(query)).extend_pairs(&in_path);
        return serde_urlencoded::from_str(&pairs.finish()).map_err(|error| bad(&error));
    }
    let kind = parts.headers.get(header::CONTENT_TYPE);
    // What a form of another site's page can send is refused.
    if kind.is_none_or(|kind| kind != "application/json") {
        return Err(CallError::Bad("the request is not application/json".into()));
    }
    let bytes = tokio::time::timeout(BODY_PATIENCE, to_bytes(body, BODY_MAX)).await;
    let bytes = bytes.map_err(|_| CallError::Bad("the request did not come in time".into()))?;
    let bytes = bytes.map_err(|error| bad(&error))?;
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
    let fields = value.as_object_mut().ok_or_else(|| CallError::Bad("no JSON object".into()))?;
    for (name, text) in &in_path {
        fields.insert(name.into(), text.into());
    }
    serde_json::from_value(value).map_err(|error| bad(&error))
}

fn respond<T: Serialize>(status: StatusCode, value: &T) -> Response {
    // Types of the API have texts for keys, and can always be written.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Counts a call, and tells of one that failed because of the server.
fn tell<C: Call>(server: &Server, answer: &Result<C::Answer, CallError>, took: Duration) {
    let status = answer.as_ref().map_or_else(|error| error.status().0, |_| StatusCode::OK);
    server.metrics.count(C::METHOD.as_str(), C::PATH, status.as_u16(), took);
    let Err(error) = answer else { return };
    if status.is_server_error() {
        let why = std::error::Error::source(error).map(ToString::to_string);
        server.log.tell(&json!({
            "at": server.now(),
            "level": "error",
            "call": format!("{} {}", C::METHOD.as_str(), C::PATH),
            "error": error.to_string(),
            "why": why,
        }));
    }
}
