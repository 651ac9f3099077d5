//! Growing a disk on its way in: the file, the partition table, the root's partition, its file
//! system.

use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, ByteLen};
use goldleaf_host::File;
use goldleaf_worker::protocol::{DiskReport, GrowTask, GrownTable, Task};
use goldleaf_worker::{Launcher, Scale};

use crate::ImageError;
use crate::import::{inspect, whole_file};

/// Grows a raw disk to `bytes`, rounded up to whole blocks. Disks do not shrink.
pub fn grow(
    launcher: &Launcher,
    file: &Arc<dyn File>,
    report: &DiskReport,
    bytes: u64,
) -> Result<(), ImageError> {
    let len = file.len().map_err(ImageError::io("reading a length"))?;
    let bytes = bytes.div_ceil(BLOCK_SIZE).saturating_mul(BLOCK_SIZE);
    if bytes <= len {
        return Err(ImageError::Refused {
            reason: format!("the disk has {len} bytes already, and {bytes} were asked for"),
            cure: "ask for more, or leave --size away".into(),
        });
    }
    let old = whole_file(file)?;
    let set_len = || file.set_len(bytes).map_err(ImageError::io("growing the disk"));
    set_len()?;
    let table = match report.root_partition {
        Some(partition) => {
            let task = Task::Grow(GrowTask { disk: old, len: ByteLen(bytes), partition });
            let scale = Scale { files: 0, output_bytes: 0 };
            let worker = launcher.start(std::slice::from_ref(file), scale, &task)?;
            worker.finish::<GrownTable>()?.0
        }
        None => GrownTable { writes: Vec::new() },
    };
    write_table(file, &table, bytes)?;
    let grown = inspect(launcher, file)?;
    let root = grown.volumes.first().ok_or_else(|| ImageError::Corrupt {
        place: "the grown disk".into(),
        expected: "a root volume".into(),
        found: "none".into(),
    })?;
    // resize2fs reads what a guest wrote: it runs in the tools' jail, with this one file.
    let device = format!("/proc/self/fd/3?offset={}", root.start);
    let size = format!("{}K", root.len.0 / 1024);
    launcher.tool("resize2fs", &["-f", &device, &size], std::slice::from_ref(file))?;
    // It leaves out a last group that would hold little but tables, and cuts the file there, with
    // what of the partition table is behind.
    set_len()?;
    write_table(file, &table, bytes)
}

fn write_table(file: &Arc<dyn File>, table: &GrownTable, len: u64) -> Result<(), ImageError> {
    for (at, data) in &table.writes {
        let end = at.0.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > len) {
            return Err(ImageError::Corrupt {
                place: "the worker's partition table".into(),
                expected: format!("bytes below {len}"),
                found: format!("{} bytes at {at}", data.len()),
            });
        }
        file.write_all_at(data, at.0).map_err(ImageError::io("writing the partition table"))?;
    }
    Ok(())
}
