//! Key files against a program that is not ours. (The standard's own examples are in `src/pem.rs`,
//! for machines that do not have it.)

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use goldleaf_trust::{Key, SigningKey};

use crate::world::key;

/// What openssl prints; `None` where there is none.
fn openssl(args: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        child => child.unwrap(),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn openssl_reads_our_keys_and_we_read_its() {
    let ours = key(9);
    let Some(public) = openssl(&["pkey", "-pubout"], &ours.to_pem()) else { return };
    assert_eq!(public, ours.public().to_pem().unwrap());
    assert_eq!(openssl(&["pkey"], &ours.to_pem()).unwrap(), *ours.to_pem());
    let theirs = openssl(&["genpkey", "-algorithm", "ed25519"], "").unwrap();
    let public = openssl(&["pkey", "-pubout"], &theirs).unwrap();
    let secret = SigningKey::from_pem(&theirs).unwrap();
    assert_eq!(secret.public(), Key::from_pem(&public).unwrap());
    assert_eq!(*secret.to_pem(), theirs);
    let other = openssl(&["genpkey", "-algorithm", "x25519"], "").unwrap();
    assert!(SigningKey::from_pem(&other).is_err());
    let public = openssl(&["pkey", "-pubout"], &other).unwrap();
    assert!(Key::from_pem(&public).is_err());
}
