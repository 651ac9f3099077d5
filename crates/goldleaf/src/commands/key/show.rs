//! `goldleaf key show`

use std::path::{Path, PathBuf};

use goldleaf_trust::{Key, Repository, Role, Side, SigningKey, Standing};
use serde_json::{Value, json};

use super::files;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, counted, when};

/// Show who may sign what, who signed, and what expires when
///
/// Of a directory everything that is published or under way; of a file of metadata just that; of a
/// key its id.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A feed's directory, a file in it, or a file of a key
    path: PathBuf,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    if args.path.is_dir() {
        let repository = files::repository(&args.path)?;
        let all = repository.standing()?;
        return tell(app, &repository, &all);
    }
    let head = files::key_text(&args.path);
    if let Ok(text) = &head
        && text.starts_with("-----BEGIN ")
    {
        return tell_key(app, &args.path);
    }
    head?;
    let name = args.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let repository = files::repository(files::parent(&args.path))?;
    let all: Vec<Standing> =
        repository.standing()?.into_iter().filter(|one| one.file == name).collect();
    if all.is_empty() {
        return Err(Failure::user(format!("{name} is neither published nor under way"))
            .hint("`goldleaf key show DIR` shows what is"));
    }
    tell(app, &repository, &all)
}

/// A key by its id. Of a secret one nothing else is told.
fn tell_key(app: &App, path: &Path) -> Result<(), Failure> {
    let text = files::key_text(path)?;
    let (key, kind) = match SigningKey::from_pem(&text) {
        Ok(secret) => (secret.public(), "secret"),
        Err(_) => (Key::from_pem(&text)?, "public"),
    };
    let id = key.id();
    app.answer(&json!({ "id": id, "kind": kind }), || format!("key {id}, {kind}"))
}

fn tell(app: &App, repository: &Repository, all: &[Standing]) -> Result<(), Failure> {
    let line = repository.line();
    let value = json!({
        "organisation": line.map(|line| &line.organisation),
        "feed": line.map(|line| &line.feed),
        "metadata": all.iter().map(as_value).collect::<Vec<_>>(),
    });
    app.answer(&value, || {
        let title = line.map(|line| format!("{} of {}\n\n", line.feed, line.organisation));
        let now = files::now();
        let mut table = Table::new(["FILE", "EXPIRES", "STATE"], "there is nothing yet");
        for one in all {
            let state = state(one, now);
            table.row([one.file.clone(), when(one.expires.as_secs()), state]);
        }
        let signatures = all.iter().map(signatures).collect::<String>();
        format!("{}{}{signatures}", title.unwrap_or_default(), table.render())
    })
}

fn state(standing: &Standing, now: std::time::Duration) -> String {
    if standing.expires <= now {
        return "expired".into();
    }
    let missing = missing(standing);
    match (standing.is_draft, missing.is_empty()) {
        (false, true) => "published".into(),
        (false, false) => format!("published; missing {missing}"),
        (true, true) => "complete".into(),
        (true, false) => format!("missing {missing}"),
    }
}

/// The keys of each role, and who of them signed.
fn signatures(standing: &Standing) -> String {
    let mut text = String::new();
    for side in &standing.sides {
        text += &format!("\n{}, by {}:\n", standing.file, side_name(standing, side));
        let signed = side.signers.signed.iter().map(|id| format!("  {id}  signed\n"));
        text.extend(signed);
        text.extend(side.signers.unsigned.iter().map(|id| format!("  {id}\n")));
    }
    text
}

/// Whose keys a side's are.
fn side_name(standing: &Standing, side: &Side) -> String {
    let keys = match standing.role {
        Role::Root => "root keys",
        Role::Targets => "image keys",
        Role::Snapshot | Role::Timestamp => "online keys",
    };
    format!("the {keys} of root {}", side.root)
}

/// Which signatures are missing, in words; nothing when none are.
pub fn missing(standing: &Standing) -> String {
    let lacking = standing.sides.iter().filter(|side| side.signers.missing > 0);
    let say = |side: &Side| {
        let count = counted(side.signers.missing as u64, "signature", "signatures");
        format!("{count} by {}", side_name(standing, side))
    };
    lacking.map(say).collect::<Vec<_>>().join(", ")
}

/// How a file stands, as JSON.
pub fn as_value(standing: &Standing) -> Value {
    let side = |side: &Side| {
        json!({
            "root": side.root,
            "signed": side.signers.signed,
            "unsigned": side.signers.unsigned,
            "missing": side.signers.missing,
        })
    };
    json!({
        "role": standing.role.name(),
        "version": standing.version,
        "file": standing.file,
        "draft": standing.is_draft,
        "complete": standing.is_complete(),
        "expires_unix_secs": standing.expires.as_secs(),
        "signatures": standing.sides.iter().map(side).collect::<Vec<_>>(),
    })
}
