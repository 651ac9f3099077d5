//! The options that say who may sign what: the same for the first root and for the next ones.

use std::path::{Path, PathBuf};

use goldleaf_trust::{Authority, Quorum};

use super::files;
use crate::failure::Failure;

/// Who may sign what.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// A root key's public half: says whose keys the others are; given once for each
    #[arg(long = "root-key", value_name = "FILE")]
    root: Vec<PathBuf>,
    /// How many root keys must sign [default: more than half, or what it was]
    #[arg(long, value_name = "N")]
    root_threshold: Option<usize>,
    /// An image key's public half: says what there is; given once for each
    #[arg(long = "image-key", value_name = "FILE")]
    image: Vec<PathBuf>,
    /// How many image keys must sign [default: more than half, or what it was]
    #[arg(long, value_name = "N")]
    image_threshold: Option<usize>,
    /// An online key's public half: says what is the newest; any one of several may sign
    #[arg(long = "online-key", value_name = "FILE")]
    online: Vec<PathBuf>,
    /// For how long the root is believed
    #[arg(long, value_name = "DAYS", default_value = "365d", value_parser = files::parse_days)]
    expires: u32,
}

impl KeyArgs {
    /// For how many days the root is believed.
    pub fn days(&self) -> u32 {
        self.expires
    }

    /// The groups of a first root: every one must be given.
    pub fn first(&self) -> Result<Authority, Failure> {
        let given = |option: &str, keys: &[PathBuf], threshold| {
            quorum(keys, threshold, None)?.ok_or_else(|| {
                Failure::user(format!("a feed needs at least one key with {option}"))
                    .hint("`goldleaf key new FILE` makes a key, and FILE.pub to give here")
            })
        };
        Ok(Authority {
            root: given("--root-key", &self.root, self.root_threshold)?,
            targets: given("--image-key", &self.image, self.image_threshold)?,
            online: given("--online-key", &self.online, Some(1))?,
        })
    }

    /// The groups of the next root: what is not given stays.
    pub fn next(&self, before: Authority) -> Result<Authority, Failure> {
        let next = |keys: &[PathBuf], threshold: Option<usize>, before: Quorum| {
            let given = quorum(keys, threshold, Some(before.threshold))?;
            let stays =
                Quorum { threshold: threshold.unwrap_or(before.threshold), keys: before.keys };
            Ok::<Quorum, Failure>(given.unwrap_or(stays))
        };
        Ok(Authority {
            root: next(&self.root, self.root_threshold, before.root)?,
            targets: next(&self.image, self.image_threshold, before.targets)?,
            online: next(&self.online, None, before.online)?,
        })
    }
}

/// Keys out of files; `None` when none are given.
fn quorum(
    paths: &[PathBuf],
    threshold: Option<usize>,
    before: Option<usize>,
) -> Result<Option<Quorum>, Failure> {
    let paths = paths.iter().map(PathBuf::as_path).collect::<Vec<&Path>>();
    let keys = paths.into_iter().map(files::public).collect::<Result<Vec<_>, _>>()?;
    let threshold = threshold.or(before).unwrap_or(keys.len() / 2 + 1);
    Ok((!keys.is_empty()).then_some(Quorum { keys, threshold }))
}
