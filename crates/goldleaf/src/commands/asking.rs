//! Asking before something is done.

use std::io::{IsTerminal, Write};

use crate::failure::Failure;

/// Asks on the terminal. Anything but a yes is a failure that says `not_done`; so is a terminal
/// that is none.
pub fn confirm(question: &str, not_done: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::user(format!("{not_done} without being asked"))
            .hint("say `--yes` where nobody can be asked"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stderr()
        .flush()
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::io("asking", &error))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::user(not_done)),
    }
}
