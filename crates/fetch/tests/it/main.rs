//! Tests of sources: what honest ones give, and every way in which a server can be none.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod bucket;
mod decorators;
mod directory;
mod honest;
mod hostile;
mod server;
mod tls;
mod world;
