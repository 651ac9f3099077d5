//! `goldleaf key sign`

use std::path::PathBuf;

use goldleaf_trust::{Role, Standing};

use super::{files, show};
use crate::cli::App;
use crate::failure::Failure;
use crate::place;

/// Add a signature to a draft in a feed's directory
///
/// Look at the draft first, with `goldleaf key show FILE`: whoever signs vouches for it. A root
/// that has all its signatures is put in place, unless new image keys or a new online key must sign
/// what is published first.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The draft, such as DIR/2.root.draft.json
    file: PathBuf,
    /// The file of the secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let key = files::secret(&args.key)?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !args.file.is_file() && !place::is_in_bucket(&args.file) {
        return Err(Failure::user(format!("{} is not a file", args.file.display()))
            .hint("a draft that is complete has been put in place already"));
    }
    let mut repository = files::repository(files::parent(&args.file))?;
    let standing = repository.sign(&name, &key)?;
    let id = key.public().id();
    let value = serde_json::json!({ "key": id, "metadata": show::as_value(&standing) });
    app.answer(&value, || format!("{name} is signed by {id}\n{}", next_step(&standing)))
}

/// What is to be done now.
fn next_step(standing: &Standing) -> String {
    let missing = show::missing(standing);
    match (standing.role, standing.is_complete(), standing.is_draft) {
        (_, false, _) => format!("still missing: {missing}"),
        (Role::Root, true, false) => format!("root {} is in place", standing.version),
        (Role::Root, true, true) => format!(
            "root {} has all its signatures, and waits for what is published: \
             `goldleaf key refresh` with the new online key puts it in place",
            standing.version
        ),
        (_, true, _) if !missing.is_empty() => {
            format!("it has all signatures that it takes for one root; still missing: {missing}")
        }
        _ => "it has all its signatures; `goldleaf key refresh` publishes it".into(),
    }
}
