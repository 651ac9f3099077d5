//! `goldleaf rules list`

use crate::cli::App;
use crate::failure::Failure;

/// Show all rules in their order; the last one that fits a path decides
#[derive(Debug, clap::Args)]
pub struct Args {
    /// With the rules of this LivePC
    #[arg(long)]
    livepc: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let set = super::effective(app, args.livepc.as_deref())?;
    let value: Vec<serde_json::Value> = set
        .rules()
        .map(|rule| {
            serde_json::json!({
                "file": rule.position().file,
                "line": rule.position().line,
                "target": rule.target().to_string(),
                "why": rule.why(),
                "text": rule.text(),
            })
        })
        .collect();
    app.answer(&value, || {
        let shown = set.rules().map(|rule| {
            let at = rule.position();
            format!("# {}:{}\n{}\n", at.file, at.line, rule.text().trim_end())
        });
        shown.collect::<Vec<_>>().join("\n")
    })
}
