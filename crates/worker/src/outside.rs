//! What a session wrote outside of the volumes that layers go into: swap, the firmware's boot
//! partition, the partition table. All of it goes with the session.

use std::sync::Arc;

use goldleaf_block::{
    BlockRange, ByteLen, ByteOffset, MapDevice, Partition, PartitionView, ReadBlocks,
    read_partitions,
};
use goldleaf_ext4::{Foreign, identify};
use goldleaf_layer::merge::{Note, NoteKind};
use goldleaf_tree::GuestPath;

use crate::WorkerError;
use crate::protocol::VolumeSpec;
use crate::serve::refused;
use crate::volumes::within;

/// What was found there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// One for each partition that was written.
    pub notes: Vec<Note>,
    /// The guest is not shut down: its memory lies in a swap partition, and it goes on from there.
    pub hibernated: bool,
}

/// Looks at all that is on a session's disk beside its volumes.
pub fn look(
    disk: &Arc<MapDevice>,
    volumes: &[VolumeSpec],
    dirty: &[BlockRange],
) -> Result<Outside, WorkerError> {
    let mut outside = Outside::default();
    // A guest that spoilt its partition table wrote there, and gets the image's back.
    let Ok(table) = read_partitions(disk.as_ref()) else { return Ok(outside) };
    let others = table.partitions.iter().filter(|partition| partition.is_aligned());
    for partition in others {
        let (mount, start, len) = (GuestPath::root(), partition.start, partition.len);
        let spec = VolumeSpec { mount, start, len };
        let is_volume = volumes.iter().any(|volume| volume.start == partition.start);
        let written: u64 = within(dirty, &spec).iter().map(|range| range.count.bytes().0).sum();
        if is_volume || written == 0 {
            continue;
        }
        let view = partition_view(disk, partition)?;
        let content = identify(&view).map_err(refused)?;
        outside.hibernated |= content == Some(Foreign::Swap) && suspended(&view)?;
        outside.notes.push(note(partition, content, ByteLen(written)));
    }
    Ok(outside)
}

fn note(partition: &Partition, content: Option<Foreign>, written: ByteLen) -> Note {
    let what = content.map_or("nothing known".to_owned(), |content| content.to_string());
    Note {
        kind: NoteKind::Reset,
        subject: format!("partition {}", partition.number),
        text: format!(
            "holds {what}; what was written there ({} KiB) goes with the session",
            written.0 / 1024
        ),
    }
}

/// A partition as a device.
pub fn partition_view(
    disk: &Arc<MapDevice>,
    partition: &Partition,
) -> Result<PartitionView<Arc<dyn ReadBlocks>>, WorkerError> {
    let device: Arc<dyn ReadBlocks> = disk.clone();
    PartitionView::new(device, partition.start, partition.len).map_err(refused)
}

/// Whether swap holds a hibernated system (the kernel's `kernel/power/swap.c`).
pub fn suspended(view: &dyn ReadBlocks) -> Result<bool, WorkerError> {
    const SIGNATURE: ByteOffset = ByteOffset(4086);
    let mut bytes = [0; 10];
    if view.len() < ByteLen(SIGNATURE.0 + bytes.len() as u64) {
        return Ok(false);
    }
    view.read_at(SIGNATURE, &mut bytes).map_err(refused)?;
    Ok(&bytes[..9] == b"S1SUSPEND" || bytes.starts_with(b"LINHIB"))
}
