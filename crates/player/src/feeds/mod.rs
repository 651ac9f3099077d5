//! Feeds: publishing LivePCs into a directory that anybody can carry, and following one.
//!
//! ```text
//!   HOME/subscriptions/NAME/
//!     subscription.json         which feed, where it is carried, what of it runs here
//!     believed, believed.copy   what is believed of its author (crate `trust`)
//!     lock                      held while a command works on it
//! ```
//! The LivePC of a subscription has its name, and so has its image; its layers are `NAME.LAYER`. All
//! of them are as if they had been made here, but for what has not arrived yet of the image.

mod deltas;
mod look;
mod publish;
mod receive;
mod record;
mod subscription;

pub use deltas::Differ;
pub use goldleaf_wire::Effort;
pub use look::{FeedView, VersionView, look};
pub use publish::{PublishOptions, PublishReport, publish};
pub use receive::{Arrival, Versions};
pub use record::{published, received};
pub use subscription::{
    SubscribeOptions, Subscription, SubscriptionRecord, Wanted, absolute, current, has_failed,
    list, subscribe, supplier, unsubscribe,
};
