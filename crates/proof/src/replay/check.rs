//! From what a power cut left to a verdict.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, ByteLen, ByteOffset, RangeKind, ReadBlocks, SessionDevice};

use super::bridge::open_base;
use super::fs::FileSystem;
use super::tools;
use super::workload::{Cut, content};
use crate::Result;
use crate::nbd::served::DIGEST;

/// What is copied at one time, in bytes.
const PIECE_LEN: u64 = 1 << 20;

/// What was found in an image.
pub struct Verdict {
    /// What recovery, the kernel or the file system's checker complains of.
    pub fault: Option<String>,
    /// Synced files that are not there, or not with their content.
    pub lost: Vec<String>,
}

/// Recovers the session and writes the disk to a sparse image.
pub fn recover(cut: &Cut, base: &Path, image: &Path) -> Result<()> {
    let dir = Arc::new(cut.sim.clone());
    let (device, _) = SessionDevice::open(dir, open_base(base)?, &DIGEST)?;
    let file = File::create(image)?;
    let len = device.len().0;
    file.set_len(len)?;
    let mut at = 0;
    while at < len {
        let (run, kind) = device.status(ByteOffset(at), ByteLen(PIECE_LEN.min(len - at)))?;
        if kind == RangeKind::Data {
            copy(&device, &file, at, run.0)?;
        }
        at += run.0;
    }
    Ok(())
}

/// Blocks of zeroes stay holes.
fn copy(device: &SessionDevice, file: &File, at: u64, len: u64) -> Result<()> {
    let mut bytes = vec![0; usize::try_from(len)?];
    device.read_at(ByteOffset(at), &mut bytes)?;
    for (number, block) in (0..).zip(bytes.chunks(BLOCK_SIZE as usize)) {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, at + number * BLOCK_SIZE)?;
        }
    }
    Ok(())
}

/// Mounts an image, which replays its journal, looks at the files, and has it checked.
pub fn check(system: FileSystem, cut: &Cut, image: &Path, at: &Path) -> Result<Verdict> {
    if let Err(error) = system.mount(image, at) {
        return Ok(Verdict { fault: Some(error.to_string()), lost: Vec::new() });
    }
    let lost =
        cut.synced.iter().filter_map(|(name, ids)| look(&at.join(name), ids).err()).collect();
    tools::succeed("umount", &[at.to_str().ok_or("a path that is no text")?])?;
    Ok(Verdict { fault: system.check(image)?, lost })
}

fn look(path: &Path, ids: &[u64]) -> std::result::Result<(), String> {
    let found = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if ids.iter().any(|id| content(*id) == found) {
        return Ok(());
    }
    Err(format!("{}: {} bytes of other content", path.display(), found.len()))
}
