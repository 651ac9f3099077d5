//! Who may do what at once: many may file into a store, or one may collect it.
//!
//! Content that was found to be there already (deduplication) is not named by anything durable
//! until the root that names it has moved, and a collection in that time would take it away. So a
//! filing holds one of a few slots from before its first look-up until its root is durable, and a
//! collection takes all of them before it reads any root. The kernel lets go of a slot when its
//! holder dies. The lock files stay, so that nobody ever locks a name that another one removes.

use std::sync::Arc;

use goldleaf_host::{Dir, Lock, planted};

use crate::StoreError;

/// How many may file at once. A desktop's store has one filer, a public store a few imports.
const SLOTS: usize = 16;

/// Keeps collection away. Keep it until the root that names what was filed is durable.
pub struct Hold {
    _lock: Box<dyn Lock>,
    slot: usize,
}

impl Hold {
    /// Takes any free slot.
    pub(crate) fn take(dir: &Arc<dyn Dir>) -> Result<Self, StoreError> {
        let locks = lock_dir(dir)?;
        for slot in 0..SLOTS {
            if let Some(lock) = try_slot(locks.as_ref(), slot)? {
                return Ok(Self { _lock: lock, slot });
            }
        }
        Err(StoreError::Busy("it is being collected, or too many are filing into it"))
    }

    /// Name of the temporary file that belongs to this slot, and to nobody else.
    pub(crate) fn temporary(&self) -> String {
        temporary(self.slot)
    }
}

/// The only user of a store that may take content away. Take it before reading the roots that say
/// what lives.
pub struct Exclusive {
    _locks: Vec<Box<dyn Lock>>,
}

impl Exclusive {
    /// Takes all slots, or none.
    pub(crate) fn take(dir: &Arc<dyn Dir>) -> Result<Self, StoreError> {
        let locks = lock_dir(dir)?;
        let mut taken = Vec::with_capacity(SLOTS);
        let slots = if planted("a collection does not keep others away") { 0 } else { SLOTS };
        for slot in 0..slots {
            match try_slot(locks.as_ref(), slot)? {
                Some(lock) => taken.push(lock),
                None => return Err(StoreError::Busy("something is being filed into it")),
            }
        }
        Ok(Self { _locks: taken })
    }

    /// Name of the temporary file that a collection writes.
    pub(crate) fn temporary(&self) -> String {
        temporary(0)
    }
}

fn temporary(slot: usize) -> String {
    format!("filing-{slot}.new")
}

/// Whether a name is that of a temporary file of some slot.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with("filing-") && name.ends_with(".new")
}

fn lock_dir(dir: &Arc<dyn Dir>) -> Result<Arc<dyn Dir>, StoreError> {
    dir.create_dir("locks").map_err(|error| StoreError::io("locks of a store", &error))
}

fn try_slot(locks: &dyn Dir, slot: usize) -> Result<Option<Box<dyn Lock>>, StoreError> {
    locks
        .try_lock(&format!("slot-{slot}.lock"))
        .map_err(|error| StoreError::io("locking a store", &error))
}
