//! Where the demonstration keeps its things, and how it speaks.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Below the home there are sockets, whose paths the kernel allows 107 characters.
const HOME_PATH_MAX: usize = 60;

/// An empty home for the demonstration. It stays when the demonstration is over, to be played
/// with, and is cleared when the next one begins.
pub fn fresh_home() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    let beside = target.map(|dir| dir.join("demo"));
    let short = beside.filter(|path| path.as_os_str().len() <= HOME_PATH_MAX);
    let home = short.unwrap_or_else(|| std::env::temp_dir().join("goldleaf-demo"));
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(home),
    }
}

/// The `goldleaf` program that was built beside this one.
pub fn program() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("GOLDLEAF") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?.with_file_name("goldleaf");
    if path.exists() {
        return Ok(path);
    }
    let text = format!("{} is missing; `./demo` builds it", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// A voice that marks what it says by kind, in colour on a terminal.
#[derive(Clone, Copy)]
pub struct Voice {
    colour: bool,
    since: Instant,
}

impl Voice {
    /// Begins to speak, and to count the time.
    pub fn new() -> Self {
        Self { colour: io::stdout().is_terminal(), since: Instant::now() }
    }

    /// A new chapter.
    pub fn chapter(&self, title: &str) {
        println!();
        self.print("1", "", title);
    }

    /// What happens next, in the demonstration's own words.
    pub fn tell(&self, text: &str) {
        self.print("", "", text);
    }

    /// A command on the host.
    pub fn command(&self, line: &str) {
        self.print("36", "$ ", line);
    }

    /// A command in the guest.
    pub fn guest(&self, line: &str) {
        self.print("33", "  guest# ", line);
    }

    /// What a command said.
    pub fn output(&self, line: &str) {
        println!("    {line}");
    }

    /// Something that was looked at and is so.
    pub fn holds(&self, claim: &str) {
        self.print("32", "  ✓ ", claim);
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> u64 {
        self.since.elapsed().as_secs()
    }

    fn print(&self, code: &str, mark: &str, text: &str) {
        if self.colour && !code.is_empty() {
            println!("\x1b[{code}m{mark}{text}\x1b[0m");
        } else {
            println!("{mark}{text}");
        }
    }
}

/// A path as a person would type it.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
