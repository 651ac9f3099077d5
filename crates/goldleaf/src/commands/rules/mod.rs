//! `goldleaf rules`: which layer owns a path.

mod check;
mod explain;
mod list;

use std::path::Path;

use clap::Subcommand;
use goldleaf_layer::rules::{RuleFile, RuleSet};
use goldleaf_player::livepc;

use crate::cli::App;
use crate::failure::Failure;

/// Longest rules file that is read, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Rules: what happens to which path when a session ends
#[derive(Debug, Subcommand)]
pub enum Command {
    Explain(explain::Args),
    Check(check::Args),
    List(list::Args),
}

/// Runs one of them.
pub fn run(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Explain(args) => explain::run(app, &args),
        Command::Check(args) => check::run(app, &args),
        Command::List(args) => list::run(app, &args),
    }
}

/// The rules that hold: the factory's, and over them those of a LivePC.
fn effective(app: &App, of: Option<&str>) -> Result<RuleSet, Failure> {
    let mut files = vec![RuleFile::debian()?];
    if let Some(name) = of {
        let home = app.open()?;
        livepc::get(&home, name)?;
        if let Some((file, text)) = livepc::rules(&home, name)? {
            files.push(RuleFile::site(&file, &text)?);
        }
    }
    Ok(RuleSet::compile(&files, &[])?)
}

/// Reads a rules file of the site, wholly checked: its name and its text.
pub fn read_site(path: &Path) -> Result<(String, String), Failure> {
    let name = path.display().to_string();
    let io = |error: std::io::Error| Failure::io(format!("reading {name}"), &error);
    let len = std::fs::metadata(path).map_err(io)?.len();
    if len > FILE_LIMIT {
        let found = format!("{name} has {len} bytes; a rules file has at most {FILE_LIMIT}");
        return Err(Failure::user(found));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::user(format!("{name} is not text in UTF-8")))?;
    check_site(&name, &text)?;
    Ok((name, text))
}

/// Parses and compiles a site's rules; the number of its rules.
fn check_site(name: &str, text: &str) -> Result<usize, Failure> {
    let set = RuleSet::compile(&[RuleFile::site(name, text)?], &[])?;
    Ok(set.rules().count())
}
