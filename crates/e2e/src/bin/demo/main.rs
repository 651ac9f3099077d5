//! The demonstration: one desktop's life in a real guest, told while it happens, and checked.
//!
//! ```text
//!   story      what happens, chapter by chapter
//!   program    runs `goldleaf`, and guests that it starts
//!   stage      where the demonstration keeps its things, and how it speaks
//! ```
//! It does what a person would do: it types commands, logs in at the guest's serial console and
//! works there. Every claim that it makes it has looked at; the first that does not hold ends it.
#![forbid(unsafe_code)]

mod program;
mod stage;
mod story;

use std::process::ExitCode;

fn main() -> ExitCode {
    match story::tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
