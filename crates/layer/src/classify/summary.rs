//! What a session's changes come to, for a person to see before they are dropped or kept.

use std::collections::{BTreeMap, HashSet};

use goldleaf_tree::{Change, GuestPath, NodeKind};
use serde::{Deserialize, Serialize};

use super::{Classified, Destination};

/// Depth at which paths are counted together: deep enough to tell `/home/ann/Documents` from
/// `/home/ann/Music`.
const DEPTH: usize = 3;
/// Directories that are named for each destination.
const TOP: usize = 10;

/// Changes below one directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryCount {
    /// The directory.
    pub path: GuestPath,
    /// How many changes.
    pub changes: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Changes of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Group {
    /// Paths that were put.
    pub put: u64,
    /// Paths that were removed.
    pub removed: u64,
    /// Bytes of files that were put, each file once, however many names it has.
    pub bytes: u64,
    /// The directories with most bytes, then most changes, first.
    pub top: Vec<DirectoryCount>,
}

/// What a session's changes come to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// By destination: the name of a layer, or `forget`, `drop`, `shred`, `merge`, `ignore`.
    pub groups: BTreeMap<String, Group>,
}

impl Destination {
    /// The word for it in summaries.
    pub fn word(&self) -> &'static str {
        match self {
            Destination::Keep { layer, .. } | Destination::Whiteout { layer, .. } => layer.name(),
            Destination::Forget => "forget",
            Destination::Drop => "drop",
            Destination::Shred => "shred",
            Destination::Merge(_) => "merge",
            Destination::Ignore => "ignore",
        }
    }
}

#[derive(Default)]
struct Tally {
    group: Group,
    directories: BTreeMap<GuestPath, (u64, u64)>,
}

/// Counts classified changes.
pub fn summarize(changes: &[Change], classified: &[Classified]) -> Summary {
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut linked = HashSet::new();
    for one in classified {
        let Some(change) = changes.get(one.change) else { continue };
        let tally = tallies.entry(one.destination.word()).or_default();
        let bytes = match change {
            Change::Remove { .. } => {
                tally.group.removed += 1;
                0
            }
            Change::Put { node, .. } => {
                tally.group.put += 1;
                let counts = node.kind == NodeKind::File
                    && (node.links < 2 || linked.insert((one.destination.word(), node.id)));
                if counts { node.size } else { 0 }
            }
        };
        tally.group.bytes = tally.group.bytes.saturating_add(bytes);
        let directory = tally.directories.entry(ancestor(change.path())).or_default();
        directory.0 += 1;
        directory.1 = directory.1.saturating_add(bytes);
    }
    let groups = tallies.into_iter().map(|(word, tally)| (word.to_owned(), tally.finish()));
    Summary { groups: groups.collect() }
}

impl Tally {
    fn finish(mut self) -> Group {
        let mut top: Vec<DirectoryCount> = self
            .directories
            .into_iter()
            .map(|(path, (changes, bytes))| DirectoryCount { path, changes, bytes })
            .collect();
        top.sort_by(|a, b| (b.bytes, b.changes, &a.path).cmp(&(a.bytes, a.changes, &b.path)));
        top.truncate(TOP);
        self.group.top = top;
        self.group
    }
}

/// The directory at [`DEPTH`] that a path lies in, or the nearest one.
fn ancestor(path: &GuestPath) -> GuestPath {
    let depth = path.components().count().saturating_sub(1).min(DEPTH);
    let mut at = GuestPath::root();
    for name in path.components().take(depth) {
        // A part of a path is one.
        at = at.join(name).unwrap_or(at);
    }
    at
}
