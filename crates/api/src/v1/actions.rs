//! What an administrator has an endpoint do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something to be done, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Look what is new of all that is followed, and bring it.
    Update {},
    /// Make a desktop as it was delivered, but for the user's data.
    Rejuvenate {
        /// The desktop.
        desktop: String,
        /// Whether the applications go that its user installed.
        apps: bool,
    },
    /// Set one layer of a desktop to an earlier version.
    RollBack {
        /// The desktop.
        desktop: String,
        /// The layer: `os`, `user-apps`, `user-data`, or the name of a layer of applications.
        layer: String,
        /// The version.
        to: u64,
    },
}

/// An action for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionWanted {
    /// The endpoint.
    pub endpoint: String,
    /// What it is to do.
    pub action: Action,
}

/// It was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionOrdered {
    /// Its number.
    pub id: u64,
}

/// An action, as an endpoint gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Its number.
    pub id: u64,
    /// What is to be done.
    pub action: Action,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderDone {
    /// Its number.
    pub id: u64,
    /// Why it was not done; `None` where it was.
    pub error: Option<String>,
}

/// The actions of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actions {
    /// The last hundred, the newest first.
    pub actions: Vec<ActionView>,
}

/// An action, as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionView {
    /// Its number.
    pub id: u64,
    /// What is to be done.
    pub action: Action,
    /// Who wants it.
    pub by: String,
    /// Unix time of the order, in seconds.
    pub at: u64,
    /// Unix time at which the server heard that it was done, in seconds; `None` while it waits.
    pub done_at: Option<u64>,
    /// Why it was not done.
    pub error: Option<String>,
}

/// What an endpoint waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct News {
    /// Whether there is something for it to do.
    pub is_there: bool,
}
