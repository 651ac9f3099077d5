//! `goldleaf key show`

use std::path::{Path, PathBuf};

use goldleaf_trust::{Authority, Key, Repository, Role, Root, Side, SigningKey, Standing, Targets};
use serde_json::{Value, json};

use super::files;
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, counted, printable, when};
use crate::place;

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
    let is_metadata = args.path.extension().is_some_and(|extension| extension == "json");
    let is_in_bucket = place::is_in_bucket(&args.path);
    if args.path.is_dir() || is_in_bucket && !is_metadata {
        let repository = files::repository(&args.path)?;
        let all = repository.standing()?;
        return tell(app, &repository, &all);
    }
    if !is_in_bucket && files::is_key(&args.path)? {
        return tell_key(app, &args.path);
    }
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
    // A first root that is under way says it, too.
    let line = all.first().map(|one| &one.line);
    let said = all.iter().map(|one| said(repository, one)).collect::<Result<Vec<_>, _>>()?;
    let with_content = |(one, said): (&Standing, &Said)| {
        let mut value = as_value(one);
        value["says"] = said.value.clone();
        value
    };
    let value = json!({
        "organisation": line.map(|line| &line.organisation),
        "feed": line.map(|line| &line.feed),
        "metadata": all.iter().zip(&said).map(with_content).collect::<Vec<_>>(),
    });
    app.answer(&value, || {
        let title = line.map(|line| {
            // Whoever had the stick may have named them.
            let (feed, organisation) = (printable(&line.feed), printable(&line.organisation));
            format!("{feed} of {organisation}\n\n")
        });
        let now = files::now();
        let mut table = Table::new(["FILE", "EXPIRES", "STATE"], "there is nothing yet");
        for one in all {
            let state = state(one, now);
            table.row([one.file.clone(), when(one.expires.as_secs()), state]);
        }
        let each = all.iter().zip(&said);
        let each = each.map(|(one, said)| format!("{}{}", said.text, signatures(one)));
        format!("{}{}{}", title.unwrap_or_default(), table.render(), each.collect::<String>())
    })
}

/// What a file says, in both languages.
struct Said {
    text: String,
    value: Value,
}

fn said(repository: &Repository, standing: &Standing) -> Result<Said, Failure> {
    let (file, none) = (&standing.file, || Said { text: String::new(), value: Value::Null });
    match (standing.role, standing.is_draft) {
        (Role::Root, is_draft) => {
            let drafted = if is_draft { repository.drafted_root()? } else { None };
            let root = drafted.as_ref().or(repository.root());
            root.map_or_else(|| Ok(none()), |root| said_root(file, root))
        }
        (Role::Targets, true) => Ok(said_targets(file, &repository.drafted_targets(file)?)),
        (Role::Targets, false) => {
            let targets = repository.targets()?;
            Ok(targets.map_or_else(none, |targets| said_targets(file, &targets)))
        }
        _ => Ok(none()),
    }
}

fn said_root(file: &str, root: &Root) -> Result<Said, Failure> {
    let Authority { root, targets, online } = Authority::of(root)?;
    let (mut text, mut value) = (format!("\n{file} says who may sign:\n"), json!({}));
    for (name, group) in [("root", root), ("image", targets), ("online", online)] {
        let ids: Vec<String> = group.keys.iter().map(|key| key.id().to_string()).collect();
        text += &format!("  {} of {} {name} keys\n", group.threshold, ids.len());
        text.extend(ids.iter().map(|id| format!("    {id}\n")));
        value[name] = json!({ "threshold": group.threshold, "keys": ids });
    }
    Ok(Said { text, value })
}

fn said_targets(file: &str, targets: &Targets) -> Said {
    let each = targets.targets.iter().map(|(name, target)| {
        let digest = target.hashes.get("sha256").or(target.hashes.get("blake3"));
        let (name, digest) = (printable(name), printable(digest.map_or("-", String::as_str)));
        format!("  {name}, {}, {digest}\n", counted(target.length, "byte", "bytes"))
    });
    let text = format!("\n{file} says what there is:\n{}", each.collect::<String>());
    Said { text, value: json!(targets.targets) }
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
        let (takes, by) = (side.signers.threshold, side_name(standing, side));
        text += &format!("\n{}, {takes} of {by}:\n", standing.file);
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
            "threshold": side.signers.threshold,
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
