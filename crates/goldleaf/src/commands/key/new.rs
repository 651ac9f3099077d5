//! `goldleaf key new`

use std::path::{Path, PathBuf};

use goldleaf_host::RealEntropy;
use goldleaf_trust::SigningKey;

use super::files;
use crate::cli::App;
use crate::failure::Failure;

/// Make a key: FILE is the secret, and FILE.pub is what others get
///
/// The secret is not encrypted: keep FILE on a machine or a stick that only its owner can use, and
/// a copy of it in a safe. Prints the key's id, by which the other commands name it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file of the secret; nothing is overwritten
    file: PathBuf,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let mut public = args.file.clone().into_os_string();
    public.push(".pub");
    let public = Path::new(&public);
    if std::fs::symlink_metadata(public).is_ok() {
        return Err(Failure::user(format!("{} is there already", public.display()))
            .hint("a key is never overwritten; choose another name"));
    }
    let key = SigningKey::generate(&RealEntropy)?;
    let (text, id) = (key.public().to_pem()?, key.public().id());
    files::write_new(&args.file, 0o600, &key.to_pem())?;
    files::write_new(public, 0o644, &text)?;
    let value = serde_json::json!({ "id": id, "secret_file": args.file, "public_file": public });
    app.answer(&value, || {
        let (secret, public) = (args.file.display(), public.display());
        format!("key {id}\nthe secret is in {secret}; give {public} to those who make the root")
    })
}
