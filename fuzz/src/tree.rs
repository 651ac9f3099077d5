//! A tree with a loader's configuration and libraries, and nothing else.
//!
//! ```text
//!   1 /  ─ 2 etc ─ 3 ld.so.conf
//!        └ 4 usr ─ 5 lib ─ 16, 17, … lib0.so, lib1.so, … ─ 6 up ─▶ .
//! ```

use goldleaf_tree::{
    Attrs, DirEntry, FileExtent, FileTree, Node, NodeId, NodeKind, Timestamp, TreeError, Xattr,
};

/// See the module.
pub struct LibraryTree {
    /// `/etc/ld.so.conf`.
    pub conf: Vec<u8>,
    /// `/usr/lib/libN.so`.
    pub libraries: Vec<Vec<u8>>,
}

const LIBRARIES: u64 = 16;
const LINK: u64 = 6;

impl LibraryTree {
    fn content(&self, id: NodeId) -> Option<&[u8]> {
        match id.0 {
            3 => Some(&self.conf),
            number => {
                let library = number.checked_sub(LIBRARIES)?;
                self.libraries.get(library as usize).map(Vec::as_slice)
            }
        }
    }
}

fn missing() -> TreeError {
    TreeError::Limit("no such node".into())
}

impl FileTree for LibraryTree {
    fn root(&self) -> NodeId {
        NodeId(1)
    }

    fn node(&self, id: NodeId) -> Result<Node, TreeError> {
        let content = self.content(id);
        let kind = match id.0 {
            LINK => NodeKind::Symlink,
            1 | 2 | 4 | 5 => NodeKind::Directory,
            _ if content.is_some() => NodeKind::File,
            _ => return Err(missing()),
        };
        let time = Timestamp::default();
        let (mode, uid, gid, flags) = (0o755, 0, 0, 0);
        let attrs = Attrs { mode, uid, gid, mtime: time, ctime: time, crtime: time, flags };
        let size = content.map_or(0, |bytes| bytes.len() as u64);
        Ok(Node { id, kind, attrs, size, links: 1, generation: 0 })
    }

    fn entries(&self, directory: NodeId) -> Result<Vec<DirEntry>, TreeError> {
        let entry = |name: &str, id| DirEntry { name: name.into(), id: NodeId(id) };
        let library = |number| entry(&format!("lib{number}.so"), LIBRARIES + number);
        Ok(match directory.0 {
            1 => vec![entry("etc", 2), entry("usr", 4)],
            2 => vec![entry("ld.so.conf", 3)],
            4 => vec![entry("lib", 5)],
            5 => (0..self.libraries.len() as u64).map(library).chain([entry("up", LINK)]).collect(),
            _ => return Err(missing()),
        })
    }

    fn lookup(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>, TreeError> {
        let entries = self.entries(directory)?;
        Ok(entries.into_iter().find(|entry| entry.name == name).map(|entry| entry.id))
    }

    fn read(&self, file: NodeId, at: u64, buf: &mut [u8]) -> Result<usize, TreeError> {
        let bytes = self.content(file).ok_or_else(missing)?;
        let rest = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn read_link(&self, _: NodeId) -> Result<Vec<u8>, TreeError> {
        Ok(b".".to_vec())
    }

    fn xattrs(&self, _: NodeId) -> Result<Vec<Xattr>, TreeError> {
        Ok(Vec::new())
    }

    fn extents(&self, _: NodeId) -> Result<Option<Vec<FileExtent>>, TreeError> {
        Ok(None)
    }
}
