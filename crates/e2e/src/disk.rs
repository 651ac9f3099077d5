//! Disks of the product's, looked at from outside: by e2fsck, and as trees.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use goldleaf_block::{ByteLen, ByteOffset, PartitionView, RangeKind, ReadBlocks};
use goldleaf_ext4::Volume;
use goldleaf_tree::{FileTree, GuestPath, Node, NodeId, NodeKind, resolve};
use goldleaf_worker::MountedTree;
use goldleaf_worker::protocol::VolumeSpec;

use crate::error::HarnessError;

/// Files of this many bytes at most are read from a disk.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Copied in pieces of this many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A volume of a disk.
fn view(
    disk: &Arc<dyn ReadBlocks>,
    spec: &VolumeSpec,
) -> Result<Arc<dyn ReadBlocks>, HarnessError> {
    Ok(Arc::new(PartitionView::new(disk.clone(), spec.start, spec.len)?))
}

/// Has e2fsck look at the volumes of a composed disk, which are clean.
pub fn check_volumes(
    disk: &Arc<dyn ReadBlocks>,
    volumes: &[VolumeSpec],
) -> Result<(), HarnessError> {
    volumes.iter().try_for_each(|spec| fsck(view(disk, spec)?.as_ref(), &spec.mount))
}

/// Has e2fsck look at the volumes of a guest's disk as the product's own replay of the journal
/// leaves them.
pub fn check_snapshot(
    disk: &Arc<dyn ReadBlocks>,
    volumes: &[VolumeSpec],
) -> Result<(), HarnessError> {
    volumes.iter().try_for_each(|spec| {
        let volume = Volume::open_replayed(view(disk, spec)?).map_err(tree_error)?;
        fsck(volume.replayed().as_ref(), &spec.mount)
    })
}

fn tree_error(error: impl std::fmt::Display) -> HarnessError {
    HarnessError::Tool { program: "opening a volume", said: error.to_string() }
}

fn fsck(volume: &dyn ReadBlocks, mount: &GuestPath) -> Result<(), HarnessError> {
    let file = tempfile::NamedTempFile::new()?;
    materialise(volume, file.as_file())?;
    fsck_file(file.path()).map_err(|error| match error {
        HarnessError::Tool { program, said } => {
            HarnessError::Tool { program, said: format!("volume {mount}: {said}") }
        }
        other => other,
    })
}

/// `e2fsck -fn`, which must find nothing at all.
pub fn fsck_file(file: &Path) -> Result<(), HarnessError> {
    let output = Command::new("e2fsck").args(["-f", "-n"]).arg(file).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Err(HarnessError::Tool { program: "e2fsck", said })
}

/// Copies a device into an empty file; what holds nothing stays a hole.
pub fn materialise(device: &dyn ReadBlocks, file: &File) -> Result<(), HarnessError> {
    let ByteLen(len) = device.len();
    file.set_len(len)?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < len {
        let limit = (len - at).min(PIECE_BYTES as u64);
        let (ByteLen(run), kind) = device.status(ByteOffset(at), ByteLen(limit))?;
        let run = run.min(limit);
        if kind == RangeKind::Data {
            let piece = &mut buffer[..run as usize];
            device.read_at(ByteOffset(at), piece)?;
            file.write_all_at(piece, at)?;
        }
        at += run;
    }
    Ok(())
}

/// A disk's files, as the guest will see them.
pub struct DiskTree {
    /// The tree.
    pub tree: MountedTree<Volume>,
}

impl DiskTree {
    /// Opens the volumes of a disk.
    pub fn open(disk: &Arc<dyn ReadBlocks>, specs: &[VolumeSpec]) -> Result<Self, HarnessError> {
        let mut volumes = Vec::new();
        for spec in specs {
            let volume = Volume::open_replayed(view(disk, spec)?).map_err(tree_error)?;
            volumes.push((spec.mount.clone(), Arc::new(volume)));
        }
        Ok(Self { tree: MountedTree::new(volumes)? })
    }

    fn id(&self, path: &str) -> Result<Option<NodeId>, HarnessError> {
        let path = GuestPath::parse(path).map_err(tree_error)?;
        Ok(resolve(&self.tree, &path)?)
    }

    /// The node at a path; links are not followed.
    pub fn node(&self, path: &str) -> Result<Option<Node>, HarnessError> {
        Ok(self.id(path)?.map(|id| self.tree.node(id)).transpose()?)
    }

    /// Whether there is something at a path.
    pub fn has(&self, path: &str) -> Result<bool, HarnessError> {
        Ok(self.id(path)?.is_some())
    }

    /// A file's text; `None` when there is no file.
    pub fn text(&self, path: &str) -> Result<Option<String>, HarnessError> {
        let Some(id) = self.id(path)? else { return Ok(None) };
        if self.tree.node(id)?.kind != NodeKind::File {
            return Ok(None);
        }
        let bytes = goldleaf_tree::read_whole(&self.tree, id, FILE_BYTES_MAX)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// All paths below a directory that contain `part`.
    pub fn find(&self, directory: &str, part: &str) -> Result<Vec<String>, HarnessError> {
        let Some(id) = self.id(directory)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut open = vec![(directory.trim_end_matches('/').to_owned(), id)];
        while let Some((path, id)) = open.pop() {
            if self.tree.node(id)?.kind != NodeKind::Directory {
                continue;
            }
            for entry in self.tree.entries(id)? {
                let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
                if path.contains(part) {
                    found.push(path.clone());
                }
                open.push((path, entry.id));
            }
        }
        found.sort();
        Ok(found)
    }
}
