//! The worker's side: locking itself in, taking its one task, answering.

use std::os::fd::AsFd;
use std::sync::Arc;

use goldleaf_block::{FileBlocks, MapDevice, ReadBlocks};
use goldleaf_host::File;
use serde::Serialize;

use crate::lent::borrowed;
use crate::protocol::{DiskSpec, Reply, Task};
use crate::{Channel, WorkerError, compose, derive, harvest, inspect, layout, seal};

/// Files that were handed over, by number.
pub struct Handed(Vec<Arc<dyn File>>);

impl Handed {
    /// One of them.
    pub fn file(&self, number: u32) -> Result<Arc<dyn File>, WorkerError> {
        self.0.get(number as usize).cloned().ok_or_else(|| WorkerError::Protocol {
            expected: "the number of a file that was handed over",
            found: number.to_string(),
        })
    }

    /// A disk over some of them.
    pub fn disk(&self, spec: &DiskSpec) -> Result<Arc<MapDevice>, WorkerError> {
        let mut sources: Vec<Arc<dyn ReadBlocks>> = Vec::new();
        for &number in &spec.sources {
            sources.push(Arc::new(FileBlocks::new(self.file(number)?).map_err(refused)?));
        }
        let map = Arc::new(spec.map.clone());
        Ok(Arc::new(MapDevice::new(map, sources).map_err(refused)?))
    }
}

/// An error of the libraries as the worker's answer.
pub fn refused(error: impl std::fmt::Display) -> WorkerError {
    WorkerError::Refused(error.to_string())
}

/// Becomes a worker that was handed `count` files; returns when its task is done. To be called by a
/// process that [`crate::Launcher`] started, before anything else.
pub fn serve(count: usize) -> Result<(), WorkerError> {
    let socket = goldleaf_jail::inherited_socket();
    let output = socket.as_fd().try_clone_to_owned()?;
    let mut files = Vec::with_capacity(count);
    for fd in goldleaf_jail::inherited(count) {
        files.push(borrowed(fd)?);
    }
    goldleaf_jail::enter()?;
    let handed = Handed(files);
    let mut channel = Channel::from_halves(socket, output);
    match channel.receive()? {
        Task::Inspect(disk) => answer(&mut channel, inspect::inspect(&handed, &disk)),
        Task::Grow(task) => answer(&mut channel, inspect::grow(&handed, &task)),
        Task::Seal(task) => answer(&mut channel, seal::seal(&handed, &task)),
        Task::Compose(task) => {
            let result = compose::compose(&handed, task, &mut channel);
            answer(&mut channel, result)
        }
        Task::Harvest(task) => {
            let result = harvest::harvest(&handed, *task, &mut channel);
            answer(&mut channel, result)
        }
        Task::Derive(task) => answer(&mut channel, derive::derive(&handed, &task)),
        Task::Layout(task) => {
            let result = layout::layout(&handed, &task, &mut channel);
            answer(&mut channel, result)
        }
    }
}

/// Does one of the tasks that only look, inspect and seal, on files of this very process; answers
/// with the volumes. For proofs: a process that is confined already looks at many disks.
#[cfg(feature = "proof")]
pub fn look(
    files: Vec<Arc<dyn File>>,
    task: &Task,
) -> Result<Vec<crate::protocol::VolumeSpec>, WorkerError> {
    let handed = Handed(files);
    match task {
        Task::Inspect(disk) => Ok(inspect::inspect(&handed, disk)?.volumes),
        Task::Seal(task) => seal::seal(&handed, task).map(|_| task.volumes.clone()),
        _ => Err(refused("this task needs a conversation")),
    }
}

fn answer<T: Serialize>(
    channel: &mut Channel,
    result: Result<T, WorkerError>,
) -> Result<(), WorkerError> {
    let reply = match result {
        Ok(value) => Reply::Done(value),
        Err(WorkerError::Refused(why)) => Reply::Refused(why),
        Err(WorkerError::TooSmall(volumes)) => Reply::TooSmall(volumes),
        Err(error) => Reply::Refused(error.to_string()),
    };
    channel.send(&reply)?;
    channel.flush()
}
