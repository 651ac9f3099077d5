//! Several volumes shown as the one tree that the guest sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use goldleaf_tree::{
    DirEntry, FileExtent, FileTree, GuestPath, Node, NodeId, TreeError, Xattr, resolve,
};

/// Volumes in one tree, at most; a disk has a handful of partitions.
const VOLUMES_MAX: usize = 64;
/// The upper bits of a node's id say which volume it is on: inode numbers of ext4 have 32 bits.
const VOLUME_SHIFT: u32 = 40;

/// A tree made of volumes, each mounted at a directory of those before it.
pub struct MountedTree<T> {
    volumes: Vec<(GuestPath, Arc<T>)>,
    /// Directories that are covered by the root of another volume.
    covered: BTreeMap<NodeId, NodeId>,
}

impl<T: FileTree> MountedTree<T> {
    /// Mounts volumes in order; the first is the root. A mount point that is missing is an error.
    pub fn new(volumes: Vec<(GuestPath, Arc<T>)>) -> Result<Self, TreeError> {
        if volumes.is_empty() || volumes.len() > VOLUMES_MAX {
            return Err(TreeError::Limit(format!("1 to {VOLUMES_MAX} volumes")));
        }
        let mut tree = Self { volumes: Vec::new(), covered: BTreeMap::new() };
        for (index, (mount, volume)) in volumes.into_iter().enumerate() {
            let root = outer(index, volume.root());
            if index > 0 {
                let point = resolve(&tree, &mount)?.ok_or_else(|| TreeError::Corrupt {
                    place: "mount points".into(),
                    expected: format!("a directory {mount}"),
                    found: "nothing".into(),
                })?;
                tree.covered.insert(point, root);
            }
            tree.volumes.push((mount, volume));
        }
        Ok(tree)
    }

    /// The volumes with their mount points.
    pub fn volumes(&self) -> &[(GuestPath, Arc<T>)] {
        &self.volumes
    }

    /// Which volume a node is on.
    pub fn volume_of(id: NodeId) -> usize {
        (id.0 >> VOLUME_SHIFT) as usize
    }

    /// The id in the whole tree of a node of a volume.
    pub fn outer(volume: usize, id: NodeId) -> NodeId {
        outer(volume, id)
    }

    fn inner(&self, id: NodeId) -> Result<(&T, NodeId), TreeError> {
        let index = Self::volume_of(id);
        let (_, volume) = self
            .volumes
            .get(index)
            .ok_or_else(|| TreeError::Limit(format!("node {} is on no volume", id.0)))?;
        Ok((volume, NodeId(id.0 & ((1 << VOLUME_SHIFT) - 1))))
    }

    fn uncovered(&self, index: usize, id: NodeId) -> NodeId {
        let id = outer(index, id);
        self.covered.get(&id).copied().unwrap_or(id)
    }
}

fn outer(index: usize, id: NodeId) -> NodeId {
    NodeId((index as u64) << VOLUME_SHIFT | id.0)
}

impl<T: FileTree> FileTree for MountedTree<T> {
    fn root(&self) -> NodeId {
        outer(0, self.volumes[0].1.root())
    }

    fn node(&self, id: NodeId) -> Result<Node, TreeError> {
        let (volume, inner) = self.inner(id)?;
        Ok(Node { id, ..volume.node(inner)? })
    }

    fn entries(&self, directory: NodeId) -> Result<Vec<DirEntry>, TreeError> {
        let index = Self::volume_of(directory);
        let (volume, inner) = self.inner(directory)?;
        let mut entries = volume.entries(inner)?;
        for entry in &mut entries {
            entry.id = self.uncovered(index, entry.id);
        }
        Ok(entries)
    }

    fn lookup(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>, TreeError> {
        let index = Self::volume_of(directory);
        let (volume, inner) = self.inner(directory)?;
        Ok(volume.lookup(inner, name)?.map(|id| self.uncovered(index, id)))
    }

    fn read(&self, file: NodeId, at: u64, buf: &mut [u8]) -> Result<usize, TreeError> {
        let (volume, inner) = self.inner(file)?;
        volume.read(inner, at, buf)
    }

    fn read_link(&self, link: NodeId) -> Result<Vec<u8>, TreeError> {
        let (volume, inner) = self.inner(link)?;
        volume.read_link(inner)
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<Xattr>, TreeError> {
        let (volume, inner) = self.inner(id)?;
        volume.xattrs(inner)
    }

    fn extents(&self, file: NodeId) -> Result<Option<Vec<FileExtent>>, TreeError> {
        let (volume, inner) = self.inner(file)?;
        volume.extents(inner)
    }
}
