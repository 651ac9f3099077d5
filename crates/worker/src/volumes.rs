//! The volumes of a disk, opened.

use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, BlockRange, MapDevice, PartitionView, ReadBlocks,
};
use goldleaf_ext4::Volume;
use goldleaf_tree::GuestPath;

use crate::WorkerError;
use crate::mounted::MountedTree;
use crate::protocol::VolumeSpec;
use crate::serve::refused;

/// What to do with a journal that was not replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// The volume must be clean.
    Clean,
    /// Show the volume as it will be after replay.
    Replay,
}

/// A disk's volumes and the tree that they make.
pub struct Volumes {
    /// The guest's tree.
    pub tree: MountedTree<Volume>,
    /// Where each volume is on the disk.
    pub specs: Vec<VolumeSpec>,
}

/// The window of a volume.
pub fn view(disk: &Arc<MapDevice>, spec: &VolumeSpec) -> Result<Arc<dyn ReadBlocks>, WorkerError> {
    let device: Arc<dyn ReadBlocks> = disk.clone();
    Ok(Arc::new(PartitionView::new(device, spec.start, spec.len).map_err(refused)?))
}

impl Volumes {
    /// Opens all volumes of a disk.
    pub fn open(
        disk: &Arc<MapDevice>,
        specs: &[VolumeSpec],
        journal: Journal,
    ) -> Result<Self, WorkerError> {
        let mut volumes = Vec::new();
        for spec in specs {
            let device = view(disk, spec)?;
            let volume = match journal {
                Journal::Clean => Volume::open(device),
                Journal::Replay => Volume::open_replayed(device),
            };
            volumes.push((spec.mount.clone(), Arc::new(volume.map_err(refused)?)));
        }
        let tree = MountedTree::new(volumes).map_err(refused)?;
        Ok(Self { tree, specs: specs.to_vec() })
    }

    /// The volume that holds a path: the one whose mount point is the longest prefix.
    pub fn holding(&self, path: &GuestPath) -> usize {
        if self.specs.len() == 1 {
            return 0;
        }
        let depth = |spec: &VolumeSpec| spec.mount.components().count();
        let holds = self.specs.iter().enumerate().filter(|(_, spec)| path.starts_with(&spec.mount));
        holds.max_by_key(|(_, spec)| depth(spec)).map_or(0, |(index, _)| index)
    }
}

/// The first block of a volume on its disk. Volumes that are not aligned are refused at import.
pub fn first_block(spec: &VolumeSpec) -> BlockNo {
    spec.start.block()
}

/// The parts of ranges of the disk that lie in a volume, in the volume's own blocks.
pub fn within(ranges: &[BlockRange], spec: &VolumeSpec) -> Vec<BlockRange> {
    let first = first_block(spec).0;
    let end = first + spec.len.0 / BLOCK_SIZE;
    let clipped = ranges.iter().filter_map(|range| {
        let (from, to) = (range.start.0.max(first), range.end().0.min(end));
        (from < to).then(|| BlockRange::new(BlockNo(from - first), BlockCount(to - from)))
    });
    clipped.collect()
}

/// The place of a volume's block on the disk.
pub fn on_disk(spec: &VolumeSpec, block: u64) -> BlockNo {
    BlockNo(first_block(spec).0 + block)
}
