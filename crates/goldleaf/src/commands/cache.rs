//! `goldleaf cache`

use goldleaf_player::cache::{self, CacheLine};

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, parse_size, size, when};

/// Show what has arrived of what is subscribed to, and limit it
///
/// All of it could be brought again. Over the limit, content that nothing runs on goes, what was
/// used longest ago first: at `goldleaf gc`, before more is brought, and after an update. What is
/// current, pinned or in use stays, whatever the limit is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How much it may be, such as 40G; `none` lifts the limit
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    limit: Option<u64>,
}

/// 0 where there is to be no limit.
fn parse_limit(text: &str) -> Result<u64, String> {
    if text == "none" { Ok(0) } else { parse_size(text) }
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    if let Some(limit) = args.limit {
        cache::set_limit(&home, Some(limit).filter(|limit| *limit > 0))?;
    }
    let view = cache::view(&home)?;
    app.answer(&view, || {
        let headings = ["SUBSCRIPTION", "HERE", "SPARE", "CURRENT", "PINNED", "LAST USED"];
        let mut table = Table::new(headings, "nothing is subscribed to\n");
        view.subscriptions.iter().for_each(|line| table.row(row(line)));
        let here = size(view.bytes);
        let text = table.render();
        match view.limit_bytes {
            None => format!("{text}{here} in all, without a limit"),
            Some(limit) if view.bytes > limit => {
                let (over, limit) = (size(view.bytes - limit), size(limit));
                format!("{text}{here} in all, {over} over the limit of {limit}: see `goldleaf gc`")
            }
            Some(limit) => format!("{text}{here} in all, of {} at most", size(limit)),
        }
    })
}

fn row(line: &CacheLine) -> [String; 6] {
    let current = match line.is_whole {
        true => "all here".into(),
        false => format!("{} of {}", size(line.arrived_bytes), size(line.current_bytes)),
    };
    let used = match (line.is_in_use, line.last_used_unix_secs) {
        (true, _) => "in use".into(),
        (false, Some(secs)) => when(secs),
        (false, None) => "never".into(),
    };
    [
        line.subscription.clone(),
        size(line.bytes),
        size(line.spare_bytes),
        current,
        line.pinned.map_or_else(String::new, |version| format!("version {version}")),
        used,
    ]
}
