//! Who may say what a LivePC is: keys, roles, and the metadata that they sign, after The Update
//! Framework's specification (TUF, version 1.0.34; "section" below is one of it).
//!
//! ```text
//!   root       who the others are; several keys offline     N.root.json
//!   targets    what the versions are; several keys offline  N.targets.json
//!   snapshot   which targets go together                    N.snapshot.json
//!   timestamp  that this snapshot is the newest             timestamp.json
//!
//!   author ──signs──▶ a directory on any server ──▶ update ──▶ state: what is believed
//!                     (not trusted for anything)      │
//!                                                     └─ versions only go up, nothing is expired,
//!                                                        nothing is mixed
//! ```
//! The author's side is a [`Repository`]: drafts gather signatures one by one ([`add_signature`]), and
//! the directory goes from one version to the next in an order that no reader can fall between.
//!
//! Signatures are over the bytes of `signed` as they stand in the file. The state on the endpoint is
//! two copies of one record; where both are lost, nothing is believed any more ([`TrustError::Lost`]):
//! an endpoint that has forgotten what it saw could be given what is old.
//!
//! Everything that comes from a server has a limit, and everything that is refused says why, by the
//! name of the attack that it would be ([`TrustError`]).
#![forbid(unsafe_code)]

mod author;
mod authority;
mod error;
mod json;
mod key;
mod pem;
mod repository;
mod role;
mod signatures;
mod state;
mod update;

pub use author::{Draft, sign};
pub use authority::{Authority, Quorum};
pub use error::{Role, TrustError};
pub use key::{Key, KeyId, SigningKey};
pub use repository::{
    Published, ROOT_LIFE, Repository, RootWaits, SNAPSHOT_LIFE, Side, Standing, TARGETS_LIFE,
    TIMESTAMP_LIFE,
};
pub use role::{Line, Meta, RoleKeys, Root, Snapshot, Target, Targets, Timestamp};
pub use signatures::{Signers, add_signature, signers};
pub use state::{Believed, State, introduce};
pub use update::{Event, Metadata, ROOTS_MAX, Updated, update};
