//! The layout task: what of a disk is metadata, and where the content of each file lies, in the
//! order in which the disk is to travel.
//!
//! ```text
//!   each volume ── metadata ──▶ ranges of the disk, joined ──▶ batches
//!   the guest's tree, depth first ── each regular file once ──▶ pieces ──▶ batches
//! ```
//! Paths come in the order of their bytes. A walk gives that order when the names of a directory
//! are sorted with the slash that follows them in a path, if they are directories themselves.

use std::collections::HashSet;

use goldleaf_block::{BlockCount, BlockRange, ByteLen};
use goldleaf_ext4::Limits;
use goldleaf_tree::{FileTree, GuestPath, NodeId, NodeKind};

use crate::channel::BATCH;
use crate::mounted::MountedTree;
use crate::protocol::{DiskRun, FilePiece, LayoutTask, Reply};
use crate::serve::{Handed, refused};
use crate::volumes::{Journal, Volumes, on_disk};
use crate::{Channel, WorkerError};

/// Most runs in a piece of a file; a batch that has as many is sent. A run takes 30 bytes at most
/// in a message, and a file may have four million of them.
const RUNS: usize = 8192;

/// Lists metadata, then files.
pub fn layout(
    handed: &Handed,
    task: &LayoutTask,
    channel: &mut Channel,
) -> Result<(), WorkerError> {
    let disk = handed.disk(&task.disk)?;
    let volumes = Volumes::open(&disk, &task.volumes, Journal::Clean)?;
    for batch in metadata(&volumes)?.chunks(BATCH) {
        channel.send(&Reply::Done(batch))?;
    }
    channel.send(&Reply::Done(Vec::<BlockRange>::new()))?;
    let list = List { channel, pieces: Vec::new(), runs: 0 };
    Walk { volumes: &volumes, list, met: HashSet::new(), names: 0 }.run()
}

/// The metadata of all volumes, in blocks of the disk: sorted, apart, as long as they can be.
fn metadata(volumes: &Volumes) -> Result<Vec<BlockRange>, WorkerError> {
    let mut ranges = Vec::new();
    for (spec, (_, volume)) in volumes.specs.iter().zip(volumes.tree.volumes()) {
        let found = goldleaf_ext4::metadata(volume).map_err(refused)?;
        let moved = |range: BlockRange| BlockRange::new(on_disk(spec, range.start.0), range.count);
        ranges.extend(found.into_iter().map(moved));
    }
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end();
        if touches {
            last.count = BlockCount(last.end().max(next.end()).0 - last.start.0);
        }
        touches
    });
    Ok(ranges)
}

/// What a walk needs to know of a directory or file.
struct Child {
    /// The name, and a slash if this is a directory.
    name: Vec<u8>,
    id: NodeId,
    size: u64,
    links: u32,
}

impl Child {
    /// The name of a directory.
    fn directory(&self) -> Option<&[u8]> {
        self.name.strip_suffix(b"/")
    }
}

/// A directory on the way from the root, and what of it is to come.
struct Level {
    path: GuestPath,
    children: std::vec::IntoIter<Child>,
}

struct Walk<'a> {
    volumes: &'a Volumes,
    list: List<'a>,
    /// Directories, and files with several names: neither is to come twice.
    met: HashSet<NodeId>,
    names: u64,
}

impl Walk<'_> {
    /// Each step goes on in the deepest directory; a path's longest length bounds the depth.
    fn run(mut self) -> Result<(), WorkerError> {
        let tree = &self.volumes.tree;
        let mut levels = vec![self.open(GuestPath::root(), tree.root())?];
        while let Some(level) = levels.last_mut() {
            let Some(child) = level.children.next() else {
                levels.pop();
                continue;
            };
            match child.directory() {
                Some(name) => {
                    let path = level.path.join(name).map_err(refused)?;
                    levels.push(self.open(path, child.id)?);
                }
                None => {
                    let path = level.path.join(&child.name).map_err(refused)?;
                    self.file(path, &child)?;
                }
            }
        }
        self.list.end()
    }

    /// The directories and files of a directory, sorted.
    fn open(&mut self, path: GuestPath, id: NodeId) -> Result<Level, WorkerError> {
        if !self.met.insert(id) {
            return Err(refused(format!("{path}: a directory with two names")));
        }
        let names_max = Limits::default().names;
        let tree = &self.volumes.tree;
        let mut children = Vec::new();
        for entry in tree.entries(id).map_err(refused)? {
            self.names += 1;
            if self.names > names_max {
                return Err(refused(format!("more than {names_max} names")));
            }
            let node = tree.node(entry.id).map_err(refused)?;
            let mut name = entry.name;
            match node.kind {
                NodeKind::Directory => name.push(b'/'),
                NodeKind::File => {}
                _ => continue,
            }
            children.push(Child { name, id: entry.id, size: node.size, links: node.links });
        }
        children.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(Level { path, children: children.into_iter() })
    }

    fn file(&mut self, path: GuestPath, file: &Child) -> Result<(), WorkerError> {
        if file.links > 1 && !self.met.insert(file.id) {
            return Ok(());
        }
        let spec = &self.volumes.specs[MountedTree::<goldleaf_ext4::Volume>::volume_of(file.id)];
        let extents = self.volumes.tree.extents(file.id).map_err(refused)?.unwrap_or_default();
        let run = |extent: &goldleaf_tree::FileExtent| DiskRun {
            file_block: extent.file_block,
            blocks: extent.blocks,
            disk_block: on_disk(spec, extent.volume_block),
        };
        let mut parts = extents.chunks(RUNS).map(|part| part.iter().map(run).collect());
        let len = ByteLen(file.size);
        // An empty file has a piece too.
        let first = parts.next().unwrap_or_default();
        self.list.put(FilePiece { path: path.clone(), len, runs: first })?;
        parts.try_for_each(|runs| self.list.put(FilePiece { path: path.clone(), len, runs }))
    }
}

/// Pieces that are to be sent.
struct List<'a> {
    channel: &'a mut Channel,
    pieces: Vec<FilePiece>,
    /// Runs in them.
    runs: usize,
}

impl List<'_> {
    fn put(&mut self, piece: FilePiece) -> Result<(), WorkerError> {
        self.runs += piece.runs.len();
        self.pieces.push(piece);
        if self.pieces.len() >= BATCH || self.runs >= RUNS { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), WorkerError> {
        self.channel.send(&Reply::Done(&self.pieces))?;
        self.pieces.clear();
        self.runs = 0;
        Ok(())
    }

    fn end(mut self) -> Result<(), WorkerError> {
        if !self.pieces.is_empty() {
            self.send()?;
        }
        self.send()
    }
}
