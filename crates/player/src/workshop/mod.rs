//! The workshop: where an author changes golden images and records apps layers, in the guest
//! itself.
//!
//! ```text
//!   bench    a place for one piece of work      edit      the next version of an image, by hand
//!                                               grow      the next version of an image, longer
//!                                               version   what both make a version with
//!                                               record    the next version of an apps layer
//!                                               rehearse  what a guest reads when it starts
//! ```
//! Edit and record boot a writable session that reboots like a real machine. When the guest powers
//! off, an edit becomes the image's next version, and a recording becomes a version of an apps
//! layer. Work that was cut off stays on its bench, and goes on there when it is asked for again.

mod bench;
mod edit;
mod grow;
mod record;
mod rehearse;
mod version;

pub(crate) use bench::{Bench, begun, is_busy, leftovers};
pub use edit::{Edited, Editing, edit_image};
pub use grow::{Grown, grow_image};
pub use record::{Recorded, record_layer};
pub use rehearse::{Rehearsal, Until, rehearse};
