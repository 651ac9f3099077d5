//! The place that a device sits in, so that another can take it while clients are connected.
//!
//! Every use of the device is one call under a shared lock, and a swap takes the lock alone. So a
//! swap waits for the calls in progress, and all that comes later meets the new device. The lock
//! is never held while a socket is read or written: a client that does not take its replies cannot
//! hold up a swap.

use std::sync::{Arc, PoisonError, RwLock};

use goldleaf_block::{ByteLen, WriteBlocks};

use crate::NbdError;

pub(crate) struct Seat {
    device: RwLock<Arc<dyn WriteBlocks>>,
    len: ByteLen,
}

impl Seat {
    pub(crate) fn new(device: Arc<dyn WriteBlocks>) -> Self {
        let len = device.len();
        Self { device: RwLock::new(device), len }
    }

    /// The length that clients are told; no swap changes it.
    pub(crate) fn len(&self) -> ByteLen {
        self.len
    }

    /// Uses the device that sits here now. Not to be nested: a swap waiting in between would stop
    /// both.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&dyn WriteBlocks) -> T) -> T {
        // The lock guards only which device it is, which no panic can leave half-changed.
        let device = self.device.read().unwrap_or_else(PoisonError::into_inner);
        act(&**device)
    }

    /// Waits for the calls in progress, flushes the device, and puts `new` in its place.
    pub(crate) fn swap(&self, new: Arc<dyn WriteBlocks>) -> Result<(), NbdError> {
        if new.len() != self.len {
            return Err(NbdError::LengthDiffers { old: self.len, new: new.len() });
        }
        let mut device = self.device.write().unwrap_or_else(PoisonError::into_inner);
        // A flush that a client asked for before may be answered by the new device, so the old one
        // is made durable first.
        device.flush().map_err(NbdError::Flush)?;
        *device = new;
        Ok(())
    }
}
