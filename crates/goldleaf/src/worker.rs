//! The program as a worker: `goldleaf worker COUNT [TOOL ARGUMENTS…]`, as the libraries start it.
//!
//! It must come before everything else: a worker confines itself before it reads its first byte,
//! and its arguments are no command line for people.

use std::ffi::OsString;
use std::process::ExitCode;

use goldleaf_worker::{Launcher, exec_tool, serve};

use crate::failure::Failure;

/// The argument that makes this program a worker.
const WORD: &str = "worker";

/// Starts this very program as a worker.
pub fn launcher() -> Result<Launcher, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::environment(format!("the path of this program cannot be found: {error}"))
    })?;
    Ok(Launcher::new(program, vec![WORD.into()]))
}

/// Does a worker's job, when this process was started as one.
pub fn as_worker() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let count = args.next().and_then(|count| count.to_str()?.parse::<usize>().ok());
    let Some(count) = count else {
        eprintln!("`{WORD}` is how Goldleaf starts its own sandbox; it is of no use by itself");
        return Some(ExitCode::from(2));
    };
    let outcome = match args.next() {
        None => serve(count),
        Some(tool) => {
            let args: Vec<OsString> = args.collect();
            Err(exec_tool(count, &tool.to_string_lossy(), &args))
        }
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}
