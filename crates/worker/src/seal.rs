//! The seal task: all metadata of a disk is validated before any C library sees it, and what its
//! canonical form leaves out is named.

use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange, MapDevice, read_partitions};
use goldleaf_ext4::{Foreign, Limits, Volume, canonical, gate, identify, validate};

use crate::WorkerError;
use crate::outside::{partition_view, suspended};
use crate::protocol::{SealReport, SealTask};
use crate::serve::{Handed, refused};
use crate::volumes::{on_disk, view};

/// Validates the volumes of a disk.
pub fn seal(handed: &Handed, task: &SealTask) -> Result<SealReport, WorkerError> {
    let disk = handed.disk(&task.disk)?;
    let mut zeroes = Vec::new();
    let mut files = 0;
    for spec in &task.volumes {
        let device = view(&disk, spec)?;
        gate(device.as_ref()).map_err(refused)?;
        let volume = Volume::open(device).map_err(refused)?;
        let summary = validate(&volume, Limits::default()).map_err(|error| {
            refused(format!(
                "the volume at /{}: {error}",
                String::from_utf8_lossy(spec.mount.as_bytes())
            ))
        })?;
        files += summary.files + summary.directories + summary.symlinks + summary.special;
        let ranges = canonical(&volume).map_err(refused)?.zeroes;
        zeroes.extend(
            ranges
                .into_iter()
                .map(|range| BlockRange::new(on_disk(spec, range.start.0), range.count)),
        );
    }
    zeroes.extend(swap_bodies(&disk)?);
    zeroes.sort_unstable();
    Ok(SealReport { zeroes, files })
}

/// The bodies of swap partitions; the first block, with the UUID, stays.
fn swap_bodies(disk: &Arc<MapDevice>) -> Result<Vec<BlockRange>, WorkerError> {
    let mut bodies = Vec::new();
    for partition in read_partitions(disk.as_ref()).map_err(refused)?.partitions {
        if !partition.is_aligned() {
            continue;
        }
        let view = partition_view(disk, &partition)?;
        if identify(&view).map_err(refused)? != Some(Foreign::Swap) {
            continue;
        }
        if suspended(&view)? {
            return Err(refused(
                "the guest is hibernated: its memory is in the swap partition; start it, shut it \
                 down in order, then try again",
            ));
        }
        let first = partition.start.0 / BLOCK_SIZE + 1;
        let count = (partition.len.0 / BLOCK_SIZE).saturating_sub(1);
        if count > 0 {
            bodies.push(BlockRange::new(BlockNo(first), BlockCount(count)));
        }
    }
    Ok(bodies)
}
