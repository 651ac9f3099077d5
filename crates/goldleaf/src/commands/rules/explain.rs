//! `goldleaf rules explain`

use clap::ValueEnum;
use goldleaf_layer::rules::{Explanation, KindClass, OwnerClass, PathFacts, RuleText, State};
use goldleaf_tree::GuestPath;

use crate::cli::App;
use crate::failure::Failure;

/// Say where a path goes when a session ends, and which rule decides that
///
/// What is not said about the path is taken to be so: nobody owns it, it is new, and it is a file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The path in the guest, such as /home/ann/.cache/thumbnails
    path: String,
    /// With the rules of this LivePC
    #[arg(long)]
    livepc: Option<String>,
    /// Who owns the path
    #[arg(long, value_enum, default_value = "nobody")]
    owned_by: OwnedBy,
    /// How it stands to the image and the layers of applications
    #[arg(long, value_enum, default_value = "new")]
    state: StateChoice,
    /// What it is
    #[arg(long, value_enum, default_value = "file")]
    kind: KindChoice,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OwnedBy {
    /// The golden image has it
    Image,
    /// A layer of applications has it
    Apps,
    /// A package that the user installed has it
    UserPackage,
    /// None of these
    Nobody,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateChoice {
    /// They have nothing there
    New,
    /// They have something else there
    Changed,
    /// They have something there, and it was removed
    Removed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindChoice {
    /// A regular file
    File,
    /// A directory
    Directory,
    /// A symbolic link
    Symlink,
}

impl Args {
    fn facts(&self) -> PathFacts {
        PathFacts {
            owned_by: match self.owned_by {
                OwnedBy::Image => OwnerClass::Image,
                OwnedBy::Apps => OwnerClass::Apps,
                OwnedBy::UserPackage => OwnerClass::UserPackage,
                OwnedBy::Nobody => OwnerClass::Nobody,
            },
            state: match self.state {
                StateChoice::New => State::New,
                StateChoice::Changed => State::Changed,
                StateChoice::Removed => State::Removed,
            },
            kind: match self.kind {
                KindChoice::File => KindClass::File,
                KindChoice::Directory => KindClass::Directory,
                KindChoice::Symlink => KindClass::Symlink,
            },
        }
    }
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let path = GuestPath::parse(&args.path)
        .map_err(|error| Failure::user(format!("`{}`: {error}", args.path)))?;
    let set = super::effective(app, args.livepc.as_deref())?;
    let explanation = set.explain(&path, &args.facts());
    app.answer(&as_value(&explanation), || as_text(&explanation))
}

fn as_value(explanation: &Explanation) -> serde_json::Value {
    let rule = |rule: &RuleText| {
        serde_json::json!({
            "file": rule.file,
            "line": rule.line,
            "target": rule.target.to_string(),
            "why": rule.why,
            "text": rule.text,
        })
    };
    serde_json::json!({
        "path": explanation.path.to_string(),
        "target": explanation.target.to_string(),
        "decided": explanation.decided.as_ref().map(rule),
        "overridden": explanation.overridden.iter().map(rule).collect::<Vec<_>>(),
        "unmet": explanation.unmet.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn as_text(explanation: &Explanation) -> String {
    let mut text = format!("{} goes to {}\n", explanation.path, explanation.target);
    match &explanation.decided {
        Some(rule) => {
            text += &format!("because of {}:{}", rule.file, rule.line);
            text += &if rule.why.is_empty() { "\n".into() } else { format!(": {}\n", rule.why) };
            text += &indented(&rule.text);
        }
        None => text += "because no rule fits: what nobody knows is the user's\n",
    }
    for rule in &explanation.overridden {
        text += &format!("overrides {}:{}, which says {}\n", rule.file, rule.line, rule.target);
    }
    for rule in &explanation.unmet {
        let at = format!("{}:{}", rule.file, rule.line);
        text += &format!("would be {} by {at}, but its conditions are not met\n", rule.target);
    }
    text
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}\n")).collect()
}
