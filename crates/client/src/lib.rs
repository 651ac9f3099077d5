//! Asks a control server: typed calls over TLS.
//!
//! ```text
//!   Code ─▶ meet ── the authority, by its fingerprint ─▶ Server ── call::<C> ─▶ the answer
//!                                                          ▲
//!   Key ── born here, never leaves ── csr ─▶ certificate ──┘ (endpoints), or a token (people)
//! ```
//! Nobody's list of authorities counts: a server is known by its organisation's own authority, which
//! came with a code.
#![forbid(unsafe_code)]

mod error;
mod key;
mod query;
mod server;

pub use error::ClientError;
pub use key::Key;
pub use server::{Server, Whom, meet};
