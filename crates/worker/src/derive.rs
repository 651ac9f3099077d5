//! Files that are computed from others: whether those of the layers hold, and the derive task that
//! builds them anew over a composed disk.

use goldleaf_layer::merge::derived::ld_cache::{self, Inputs};
use goldleaf_layer::{Digest, Entry};
use goldleaf_tree::{FileTree, GuestPath, read_whole, resolve};

use crate::WorkerError;
use crate::protocol::{DeriveTask, StackLayer};
use crate::serve::{Handed, refused};
use crate::volumes::{Journal, Volumes};

/// Longest derived file, in bytes; a desktop's cache of libraries has some 200 KB.
const LEN_MAX: u64 = 16 << 20;

/// Builds the derived files that are not as they should be.
pub fn derive(
    handed: &Handed,
    task: &DeriveTask,
) -> Result<Vec<(GuestPath, Vec<u8>)>, WorkerError> {
    let disk = handed.disk(&task.disk)?;
    let tree = Volumes::open(&disk, &task.volumes, Journal::Clean)?.tree;
    let path = GuestPath::parse(ld_cache::PATH).map_err(refused)?;
    let Some(built) = ld_cache::build(&tree).map_err(refused)? else { return Ok(Vec::new()) };
    let there = resolve(&tree, &path).map_err(refused)?;
    let there = there.map(|id| read_whole(&tree, id, LEN_MAX)).transpose().map_err(refused)?;
    Ok(if there.as_ref() == Some(&built) { Vec::new() } else { vec![(path, built)] })
}

/// The loader's cache among the entries of a stack. A layer's cache was made by ldconfig from all
/// that was there at the end of a session: from the layer and from what was below it. It holds
/// while the same is below, and no layer above it brings libraries.
pub struct LoaderCache<'a> {
    inputs: Inputs,
    /// What the stack is below each level: the apps layers, and the private ones.
    below: &'a [Digest],
    /// The highest level that changes what a cache is made from.
    input: Option<usize>,
    /// The level whose cache holds.
    holder: Option<usize>,
}

impl<'a> LoaderCache<'a> {
    /// For a stack over an image.
    pub fn new(image: &dyn FileTree, below: &'a [Digest]) -> Result<Self, WorkerError> {
        let inputs = Inputs::of(image).map_err(refused)?;
        Ok(Self { inputs, below, input: None, holder: None })
    }

    /// Sees the next entry of the stack; what is to be done with it.
    pub fn see(&mut self, path: &GuestPath, layer: StackLayer, entry: &Entry) -> Use {
        let level = match layer {
            StackLayer::Apps(index) => index as usize,
            StackLayer::Private(_) => self.below.len().saturating_sub(1),
        };
        if !ld_cache::is_cache(path) {
            if self.inputs.contains(path) {
                self.input = self.input.max(Some(level));
            }
            return Use::Plan;
        }
        if entry.origin.is_none() || entry.origin.as_ref() != self.below.get(level) {
            return Use::Pass;
        }
        self.holder = Some(level);
        Use::Put
    }

    /// Whether the cache that the stack comes to is out of date.
    pub fn is_stale(&self) -> bool {
        self.input > self.holder
    }
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is an entry as any other.
    Plan,
    /// It stands, whatever is below.
    Put,
    /// It does not count.
    Pass,
}
