//! Programs of the host.

use std::process::{Command, Output, Stdio};

use crate::Result;

/// Where distributions keep them.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Fails unless all programs are there.
pub fn need(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("missing: {}; scripts/bootstrap installs them", missing.join(", ")).into())
}

fn is_there(program: &str) -> bool {
    PATH.split(':').any(|dir| std::path::Path::new(dir).join(program).exists())
}

/// A program, ready to run.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("PATH", PATH).stdin(Stdio::null());
    command
}

/// Runs a program, whatever comes of it.
pub fn run(program: &str, args: &[&str]) -> Result<Output> {
    Ok(command(program, args).output().map_err(|error| format!("running {program}: {error}"))?)
}

/// Runs a program that must succeed.
pub fn succeed(program: &str, args: &[&str]) -> Result<()> {
    let output = run(program, args)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", args.join(" "), said(&output)).into())
}

/// A path for a program's arguments.
pub fn text(path: &std::path::Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "a path that is not text".into())
}

/// All that a program said.
pub fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).trim().to_string()
}
