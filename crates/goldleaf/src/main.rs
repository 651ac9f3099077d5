//! The `goldleaf` program: thin commands over the libraries.
//!
//! ```text
//!   main ── "worker"? ──▶ worker     a jailed process, before anything else is set up
//!     └──▶ cli ──▶ commands/*        parse, call a library, print
//!                    output          tables and JSON on stdout
//!                    progress        what happens meanwhile, on stderr
//!                    failure         errors: kind, hint, exit code
//!                    signals, watch  around a running guest
//! ```
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod failure;
mod output;
mod page;
mod place;
mod progress;
mod serve;
mod signals;
mod watch;
mod worker;

use std::process::ExitCode;

/// Harvest and compose make and drop many small things: a quarter less processor time than with the
/// C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match worker::as_worker() {
        Some(code) => code,
        None => cli::main(),
    }
}
