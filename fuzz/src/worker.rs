//! What parent and worker say to each other, from either side.
//!
//! ```text
//!   input:  which message, 1 │ whether it is framed already, 1 │ bytes
//! ```

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use goldleaf_block::{BlockCount, ExtentMap, MapDevice, ReadBlocks};
use goldleaf_tree::GuestPath;
use goldleaf_worker::Channel;
use goldleaf_worker::protocol::{
    ComposeReply, DiskReport, DiskSpec, GrownTable, HarvestReply, Item, PathFacts, Reply,
    SealReport, StackEntry, Task,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::Disk;
use crate::input::Input;

/// What the parent says.
pub fn to_worker(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => {
            let Some(task) = receive::<Task>(&mut input) else { return };
            match task {
                Task::Inspect(disk) => open(disk),
                Task::Grow(task) => open(task.disk),
                Task::Seal(task) => open(task.disk),
                Task::Compose(task) => open(task.disk),
                Task::Harvest(task) => {
                    [task.before, task.after, task.image].into_iter().for_each(open);
                }
                Task::Derive(task) => open(task.disk),
                Task::Layout(task) => open(task.disk),
            }
        }
        1 => drop(receive::<Vec<StackEntry>>(&mut input)),
        _ => drop(receive::<Vec<PathFacts>>(&mut input)),
    }
}

/// What a worker that a guest has taken over says.
pub fn to_parent(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 8 {
        0 => drop(receive::<Reply<DiskReport>>(&mut input)),
        1 => drop(receive::<Reply<GrownTable>>(&mut input)),
        2 => drop(receive::<Reply<SealReport>>(&mut input)),
        3 => {
            if let Some(Reply::Done(reply)) = receive::<Reply<ComposeReply>>(&mut input) {
                compose(&reply);
            }
        }
        4 => drop(receive::<Reply<HarvestReply>>(&mut input)),
        5 => drop(receive::<Vec<GuestPath>>(&mut input)),
        6 => drop(receive::<Vec<Item>>(&mut input)),
        _ => drop(receive::<Reply<Vec<(GuestPath, Vec<u8>)>>>(&mut input)),
    }
}

/// One message through a channel; what was understood is said again and understood again.
fn receive<T: Serialize + DeserializeOwned>(input: &mut Input<'_>) -> Option<T> {
    let framed = input.byte() & 1 == 1;
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    if !framed {
        far.write_all(&(input.0.len() as u32).to_le_bytes()).expect("sent");
    }
    far.write_all(input.0).expect("sent");
    far.shutdown(Shutdown::Write).expect("the end");
    let mut channel = Channel::new(near.into()).expect("a channel");
    let message: T = channel.receive().ok()?;
    let bytes = postcard::to_stdvec(&message).expect("what was read can be written");
    let again: T = postcard::from_bytes(&bytes).expect("our own form");
    let twice = postcard::to_stdvec(&again).expect("what was read can be written");
    assert_eq!(bytes, twice, "a message is a fixed point");
    Some(message)
}

/// As the worker opens a disk over files that it was handed.
fn open(disk: DiskSpec) {
    let handed = |_: &u32| Arc::new(Disk::zero(1 << 20)) as Arc<dyn ReadBlocks>;
    let sources = disk.sources.iter().take(64).map(handed).collect();
    let Ok(device) = MapDevice::new(Arc::new(disk.map), sources) else { return };
    let mut buf = [0; 6000];
    for extent in device.map().extents().iter().take(100) {
        let _ = device.read_at(extent.range.start.offset(), &mut buf);
    }
}

/// As the parent takes what composing gave.
fn compose(reply: &ComposeReply) {
    let image = ExtentMap::zero(BlockCount(1 << 20));
    if let Ok(map) = image.overlaid(&reply.extents) {
        let sources = [BlockCount(1 << 20); 3];
        let _ = ExtentMap::checked(map.blocks(), map.extents().to_vec(), &sources);
    }
}
