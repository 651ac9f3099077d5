//! The file systems, and how each is made, mounted and checked.

use std::path::Path;

use super::tools;
use crate::Result;

/// A file system of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

/// All of them.
pub const ALL: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];

impl FileSystem {
    /// As `mount` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// What it needs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["mkfs.ext4", "e2fsck"],
            Self::Xfs => &["mkfs.xfs", "xfs_repair"],
            Self::Btrfs => &["mkfs.btrfs", "btrfs"],
        }
    }

    /// Length of its disk, in bytes: little more than the least that its `mkfs` takes.
    pub fn disk_len(self) -> u64 {
        match self {
            Self::Ext4 => 128 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 256 << 20,
        }
    }

    /// Makes one. Nothing is left to be done in the background after the first mount.
    pub fn make(self, image: &Path) -> Result<()> {
        let image = image.to_str().ok_or("a path that is no text")?;
        match self {
            Self::Ext4 => tools::succeed(
                "mkfs.ext4",
                &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image],
            ),
            Self::Xfs => tools::succeed("mkfs.xfs", &["-q", image]),
            Self::Btrfs => tools::succeed("mkfs.btrfs", &["-q", image]),
        }
    }

    /// Mounts an image or the like by a loop device that goes when it is unmounted.
    pub fn mount(self, image: &Path, at: &Path) -> Result<()> {
        let (image, at) = image.to_str().zip(at.to_str()).ok_or("a path that is no text")?;
        let options = match self {
            Self::Xfs => "loop,discard,nouuid",
            _ => "loop,discard",
        };
        tools::succeed("mount", &["-t", self.name(), "-o", options, image, at])
    }

    /// What its checker finds; nothing when all is well. Its journal must have been replayed.
    pub fn check(self, image: &Path) -> Result<Option<String>> {
        let image = image.to_str().ok_or("a path that is no text")?;
        let output = match self {
            Self::Ext4 => tools::run("e2fsck", &["-fn", image])?,
            Self::Xfs => tools::run("xfs_repair", &["-n", "-f", image])?,
            Self::Btrfs => tools::run("btrfs", &["check", "--readonly", image])?,
        };
        Ok((!output.status.success()).then(|| tools::said(&output)))
    }
}
