//! From what a power cut left to a verdict.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use goldleaf_block::{BLOCK_SIZE, RangeKind, ReadBlocks};

use super::cut::{Cut, Prescribed, walk};
use super::fs::FileSystem;
use super::tools;
use super::workload::{Synced, content};
use crate::Result;

/// What was found in an image.
#[derive(Default)]
pub struct Verdict {
    /// Blocks of the recovered disk that are not what the log prescribes.
    pub wrong_blocks: u64,
    /// What recovery, the kernel or the file system's checker complains of.
    pub fault: Option<String>,
    /// Synced files that are not there, or not with their content.
    pub lost: Vec<String>,
}

/// Recovers the session and compares the disk with what is prescribed, block for block; on the way
/// it is written to a sparse image if one is wanted.
pub fn recover(
    cut: &Cut,
    base: &Path,
    prescribed: &mut Prescribed<'_>,
    image: Option<&Path>,
) -> Result<u64> {
    let device = cut.recovered(base)?;
    prescribed.go_to(cut.durable);
    let image = image.map(File::create).transpose()?;
    if let Some(image) = &image {
        image.set_len(device.len().0)?;
    }
    let mut wrong = 0;
    walk(&device, |at, kind, bytes| {
        wrong += prescribed.count_wrong(at, bytes, &cut.may);
        match &image {
            Some(image) if kind == RangeKind::Data => copy(image, at, bytes),
            _ => Ok(()),
        }
    })?;
    Ok(wrong)
}

/// Blocks of zeroes stay holes.
fn copy(image: &File, at: u64, bytes: &[u8]) -> Result<()> {
    for (number, block) in (0..).zip(bytes.chunks(BLOCK_SIZE as usize)) {
        if block.iter().any(|byte| *byte != 0) {
            image.write_all_at(block, at + number * BLOCK_SIZE)?;
        }
    }
    Ok(())
}

/// Mounts an image, which replays its journal, looks at the files, and has it checked.
pub fn check(system: FileSystem, synced: &Synced, image: &Path, at: &Path) -> Result<Verdict> {
    if let Err(error) = system.mount(image, at) {
        return Ok(Verdict { fault: Some(error.to_string()), ..Verdict::default() });
    }
    let lost = synced.iter().filter_map(|(name, ids)| look(&at.join(name), ids).err()).collect();
    tools::succeed("umount", &[tools::text(at)?])?;
    Ok(Verdict { fault: system.check(image)?, lost, wrong_blocks: 0 })
}

fn look(path: &Path, ids: &[u64]) -> std::result::Result<(), String> {
    let found = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if ids.iter().any(|id| content(*id) == found) {
        return Ok(());
    }
    Err(format!("{}: {} bytes of other content", path.display(), found.len()))
}
