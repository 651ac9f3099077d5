//! What is done with the bytes of guests on the player's behalf.
//!
//! The player itself never looks into a file system: it orders, and files what comes back. Who
//! does the work is a seam, as the hypervisor is one, so that everything durable that the player
//! does can run where there are neither processes nor descriptors to hand to them.

use std::sync::Arc;

use goldleaf_block::ExtentMap;
use goldleaf_host::{File, Progress};
use goldleaf_image::{inspect_disk, seal_disk};
use goldleaf_tree::GuestPath;
use goldleaf_worker::WorkerUsage;
use goldleaf_worker::protocol::{ComposeReply, DiskReport, SealReport};

use crate::desktop::{Harvest, Harvested, Packs, Stack, TakeItem, compose_in_worker};
use crate::{Home, PlayerError};

/// A disk to be composed.
pub struct ComposeJob<'a> {
    /// Image and layers.
    pub stack: &'a Stack,
    /// Receives metadata. Among the disk's sources it comes behind the image's files, and the packs
    /// come behind it.
    pub metadata: &'a Arc<dyn File>,
    /// Derived files that were built anew, in place of those of the layers.
    pub derived: Vec<(GuestPath, Vec<u8>)>,
}

/// What came of it.
pub struct Composition {
    /// What differs from the image, and what was learnt.
    pub reply: ComposeReply,
    /// The packs among the sources.
    pub packs: Packs,
    /// Entries that were composed.
    pub entries: u64,
    /// What it took.
    pub usage: WorkerUsage,
}

/// Whoever works on guests' bytes.
pub trait Jobs: Send + Sync {
    /// Composes image and layers. The same order has the same answer, and the same metadata.
    fn compose(
        &self,
        home: &Home,
        order: ComposeJob<'_>,
        progress: &dyn Progress,
    ) -> Result<Composition, PlayerError>;

    /// Begins to read a session back: what changed, and where each change belongs.
    fn harvest<'a>(
        &self,
        home: &Home,
        order: &'a Harvest<'a>,
    ) -> Result<Box<dyn Reading + 'a>, PlayerError>;

    /// Validates a disk that is to become a version of an image, and finds its canonical form.
    fn judge(
        &self,
        home: &Home,
        map: &ExtentMap,
        files: &[Arc<dyn File>],
    ) -> Result<(DiskReport, SealReport), PlayerError>;
}

/// A session that is being read back while other things are done.
pub trait Reading {
    /// Takes what is found as it comes, to the end.
    fn collect(
        self: Box<Self>,
        take: &mut TakeItem<'_>,
        progress: &dyn Progress,
    ) -> Result<Harvested, PlayerError>;
}

/// Workers: processes in a jail, one an order.
pub struct Workers;

impl Jobs for Workers {
    fn compose(
        &self,
        home: &Home,
        order: ComposeJob<'_>,
        progress: &dyn Progress,
    ) -> Result<Composition, PlayerError> {
        compose_in_worker(home, order, progress)
    }

    fn harvest<'a>(
        &self,
        home: &Home,
        order: &'a Harvest<'a>,
    ) -> Result<Box<dyn Reading + 'a>, PlayerError> {
        Ok(Box::new(order.in_worker(home)?))
    }

    fn judge(
        &self,
        home: &Home,
        map: &ExtentMap,
        files: &[Arc<dyn File>],
    ) -> Result<(DiskReport, SealReport), PlayerError> {
        let report = inspect_disk(&home.launcher, map, files)?;
        let sealed = seal_disk(&home.launcher, map, files, &report.volumes)?;
        Ok((report, sealed))
    }
}
