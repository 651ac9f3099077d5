//! The control server: who gets which LivePC, and how it goes there.
//!
//! ```text
//!   door ── TLS 1.3, who is on the other end ──▶ routes ── one per call of the API, what it needs
//!                                                  │
//!          authority ── certificates, 24 hours ◀── calls ──▶ db ── SQLite or PostgreSQL
//!                    waiting ── who is to be woken ──┤          └── change: audited, one at a time
//!                                                  └──▶ seen ── check-ins, many in one commit
//! ```
//! It decides and it watches; content it has none. What an endpoint may run was signed offline, by
//! keys that the endpoint believes since its enrolment, so whoever owns this server can withhold
//! and misdirect, and cannot make an endpoint run what those keys did not sign.
//!
//! All state is in the database and in the authority's key. A server that is killed loses nothing
//! that it answered for, and any number of them may stand beside each other over one PostgreSQL.
#![forbid(unsafe_code)]

mod audit;
mod authority;
mod caller;
mod calls;
mod db;
mod desired;
mod door;
mod error;
mod metrics;
mod quota;
mod routes;
mod run;
mod secret;
mod seen;
mod server;
mod waiting;

pub use authority::Authority;
pub use error::{CallError, ServerError};
pub use run::{Answering, Stop, run};
pub use server::{Log, Options, Server};
