//! A tree of files in memory.

use goldleaf_tree::{
    Attrs, DirEntry, FileExtent, FileTree, GuestPath, Node, NodeId, NodeKind, TreeError, Xattr,
};
use std::collections::BTreeMap;

#[derive(Default)]
struct Inode {
    kind: Option<NodeKind>,
    bytes: Vec<u8>,
    names: BTreeMap<Vec<u8>, NodeId>,
}

/// A tree of files in memory; node 0 is the root.
pub struct Tree {
    inodes: Vec<Inode>,
}

impl Tree {
    pub fn new() -> Self {
        Self { inodes: vec![Inode { kind: Some(NodeKind::Directory), ..Inode::default() }] }
    }

    /// Adds a node, and the directories above it.
    pub fn add(&mut self, path: &GuestPath, kind: NodeKind, bytes: &[u8]) -> NodeId {
        let (mut at, depth) = (NodeId(0), path.components().count());
        for (number, name) in path.components().enumerate() {
            let fresh = NodeId(self.inodes.len() as u64);
            let kind = if number + 1 == depth { kind } else { NodeKind::Directory };
            let names = &mut self.inodes[at.0 as usize].names;
            at = *names.entry(name.to_vec()).or_insert(fresh);
            if at == fresh {
                let bytes = if number + 1 == depth { bytes.to_vec() } else { Vec::new() };
                self.inodes.push(Inode { kind: Some(kind), bytes, ..Inode::default() });
            }
        }
        at
    }

    fn inode(&self, id: NodeId) -> Result<&Inode, TreeError> {
        self.inodes.get(id.0 as usize).ok_or_else(|| TreeError::Io(format!("no node {}", id.0)))
    }
}

impl FileTree for Tree {
    fn root(&self) -> NodeId {
        NodeId(0)
    }
    fn node(&self, id: NodeId) -> Result<Node, TreeError> {
        let inode = self.inode(id)?;
        let (mtime, ctime, crtime) = Default::default();
        Ok(Node {
            id,
            kind: inode.kind.unwrap_or(NodeKind::File),
            attrs: Attrs { mode: 0o755, uid: 0, gid: 0, mtime, ctime, crtime, flags: 0 },
            size: inode.bytes.len() as u64,
            links: 1,
            generation: 0,
        })
    }
    fn entries(&self, directory: NodeId) -> Result<Vec<DirEntry>, TreeError> {
        let names = self.inode(directory)?.names.iter();
        Ok(names.map(|(name, id)| DirEntry { name: name.clone(), id: *id }).collect())
    }
    fn lookup(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>, TreeError> {
        Ok(self.inode(directory)?.names.get(name).copied())
    }
    fn read(&self, file: NodeId, at: u64, buf: &mut [u8]) -> Result<usize, TreeError> {
        let rest = self.inode(file)?.bytes.get(at as usize..).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn read_link(&self, link: NodeId) -> Result<Vec<u8>, TreeError> {
        Ok(self.inode(link)?.bytes.clone())
    }
    fn xattrs(&self, _: NodeId) -> Result<Vec<Xattr>, TreeError> {
        Ok(Vec::new())
    }
    fn extents(&self, _: NodeId) -> Result<Option<Vec<FileExtent>>, TreeError> {
        Ok(None)
    }
}
