//! Files of keys, and a feed's directory. A secret is never printed, and is forgotten after use.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use goldleaf_host::{Clock, RealClock};
use goldleaf_trust::{Key, Repository, SigningKey};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::place;

/// Longest file of a key that is read, in bytes: fifty times what one has.
const KEY_LIMIT: u64 = 8 << 10;
/// How a key's file begins (RFC 7468).
const BEGIN: &[u8] = b"-----BEGIN ";
const DAY: Duration = Duration::from_secs(86_400);

/// Reads the text of a key's file.
pub fn key_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let name = path.display();
    let io = |error: std::io::Error| Failure::io(format!("reading {name}"), &error);
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(io)?;
    match file.take(KEY_LIMIT).read_to_string(&mut text) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Failure::user(format!("{name} is no key")))
        }
        read => read.map(|_| text).map_err(io),
    }
}

/// Whether a file looks like one of a key.
pub fn is_key(path: &Path) -> Result<bool, Failure> {
    let io = |error: std::io::Error| Failure::io(format!("reading {}", path.display()), &error);
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(BEGIN.len() as u64).read_to_end(&mut start).map_err(io)?;
    Ok(start == BEGIN)
}

/// Reads a secret key.
pub fn secret(path: &Path) -> Result<SigningKey, Failure> {
    SigningKey::from_pem(&key_text(path)?).map_err(|error| named(path, error))
}

/// Reads a public key.
pub fn public(path: &Path) -> Result<Key, Failure> {
    Key::from_pem(&key_text(path)?).map_err(|error| named(path, error))
}

fn named(path: &Path, error: goldleaf_trust::TrustError) -> Failure {
    let why = error.to_string();
    Failure::user(format!("{}: {why}", path.display()))
        .hint("`goldleaf key new FILE` makes a secret key FILE, and its public half FILE.pub")
}

/// Writes a new file with these permissions, durably; one that is there is an error.
pub fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::user(format!("{} is there already", path.display()))
                .hint("a key is never overwritten; choose another name")
        }
        _ => Failure::io(format!("writing {}", path.display()), &error),
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    // A name is durable only with its directory.
    std::fs::File::open(parent(path)).and_then(|dir| dir.sync_all()).map_err(io)
}

/// The directory that a file is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Opens a feed's directory, or its place in a bucket.
pub fn repository(dir: &Path) -> Result<Repository, Failure> {
    Ok(Repository::on(place::open(dir)?.shelf)?)
}

/// The time, since 1970-01-01T00:00:00Z.
pub fn now() -> Duration {
    RealClock::new().now_unix()
}

/// The time some days from now, since 1970-01-01T00:00:00Z.
pub fn in_days(days: u32) -> Duration {
    now() + DAY * days
}

/// A number of days that a person writes: `365d`.
pub fn parse_days(text: &str) -> Result<u32, String> {
    let days = text.strip_suffix('d').and_then(|digits| digits.parse().ok());
    let days = days.filter(|days| (1..=DAYS_MAX).contains(days));
    days.ok_or_else(|| format!("`{text}` is not a number of days such as 365d"))
}

/// Nobody can say now who is to be believed in ten years.
const DAYS_MAX: u32 = 3660;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_read() {
        assert_eq!(parse_days("365d"), Ok(365));
        for bad in ["", "d", "365", "0d", "-1d", "1w", "99999d"] {
            assert!(parse_days(bad).is_err(), "{bad}");
        }
    }
}
