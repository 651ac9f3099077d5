//! Feeds: publishing LivePCs to where anybody can carry them from, following one, and carrying it on.
//!
//! ```text
//!   HOME/subscriptions/NAME/
//!     subscription.json         which feed, where it is carried, what of it runs here
//!     believed, believed.copy   what is believed of its author (crate `trust`)
//!     lock                      held while a command works on it
//! ```
//! Versions are asked for and become what starts next (`update`). They are received (`receive`,
//! `layer`), taken from what is here already as far as that goes (`seeding`), and forgotten when
//! nothing stands on them any more (`forget`). A place may have a signed list of its feeds (`catalog`).
//!
//! The LivePC of a subscription has its name, and so has its image; its layers are `NAME.LAYER`. All
//! of them are as if they had been made here, but for what has not arrived yet of the image.

mod catalog;
mod deltas;
mod export;
mod forget;
mod layer;
mod look;
mod publish;
mod receive;
mod record;
mod seeding;
mod seeds;
mod subscription;
#[cfg(test)]
pub(crate) mod tests;
mod update;

pub use catalog::{
    CATALOG, CatalogEntry, CatalogKeys, CatalogReport, CatalogView, add_to_catalog, catalog,
    catalog_at, remove_from_catalog, root_by_catalog,
};
pub use deltas::Differ;
pub use export::{ExportOptions, Exported};
pub(crate) use forget::{Followed, followed};
pub use goldleaf_wire::Effort;
pub use look::{FeedView, VersionView, look, look_at};
pub use publish::{PublishOptions, PublishReport, publish};
pub use receive::Arrival;
pub use record::{published, received};
pub use subscription::{
    SubscribeOptions, Subscription, SubscriptionRecord, Wanted, absolute, current, has_failed,
    list, subscribe, supplier, unsubscribe,
};
pub use update::{Told, Updated};
