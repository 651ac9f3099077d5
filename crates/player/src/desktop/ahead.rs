//! Composing the disk of a next session before anybody starts it.

use goldleaf_host::Progress;

use super::compose::compose;
use super::stack::Stack;
use super::{Desktop, list};
use crate::{Home, PlayerError};

/// Composes what the desktops of a LivePC stand on next. One that runs or is to go on with its
/// session is left alone, and so is one that cannot be composed: its start says why.
pub fn compose_ahead(
    home: &Home,
    livepc: &str,
    progress: &dyn Progress,
) -> Result<(), PlayerError> {
    for record in list(home)?.iter().filter(|record| record.livepc == livepc) {
        match Desktop::open(home, &record.name) {
            Ok(desktop) if desktop.record.session.is_none() => {
                let _ = one(home, &desktop, progress);
            }
            Ok(_) | Err(PlayerError::Busy { .. } | PlayerError::Unknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn one(home: &Home, desktop: &Desktop, progress: &dyn Progress) -> Result<(), PlayerError> {
    // The packs that the disk is composed over are pinned by it, but not before it is there.
    let _hold = home.public()?.hold()?;
    let stack = Stack::open(home, &desktop.dir, &desktop.versions(home)?)?;
    compose(home, &desktop.dir, &stack, progress).map(drop)
}
