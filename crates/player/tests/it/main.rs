//! Tests of following a feed: attacks on a whole endpoint, by their row in the threat table, and web
//! servers that do what they should not.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod agent;
mod attacks;
mod layers;
mod rows;
#[path = "../../../fetch/tests/it/server.rs"]
#[allow(dead_code, reason = "`fetch` uses more of it")]
mod server;
mod web;
mod world;
