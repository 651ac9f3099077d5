//! What an endpoint says of itself, and what it is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Order, OrderDone};

/// An endpoint that checks in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckingIn {
    /// Where it is in its chain of steps.
    pub step: Step,
    /// The tag of what it was last told to have.
    pub known: Option<String>,
    /// How it is, if that is another than it last told.
    pub report: Option<Report>,
    /// What came of actions, until it has heard that the server knows.
    #[serde(default)]
    pub done: Vec<OrderDone>,
}

/// A link of the chain by which copies of an endpoint are found out. An endpoint draws a new value
/// when it begins to run and when its certificate is renewed, keeps it, and tells it with the one
/// before. Of two copies the second to step comes from a value that the server has seen left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The value before; none for the first.
    pub before: Option<String>,
    /// The value now.
    pub now: String,
}

/// How an endpoint is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of its program.
    pub program: String,
    /// What it has.
    pub livepcs: Vec<LivePcReport>,
}

/// How a LivePC is on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LivePcReport {
    /// Which one.
    pub livepc: String,
    /// The version that starts next.
    pub version: Option<u64>,
    /// Whether all of it is there.
    pub is_whole: bool,
    /// What went wrong.
    pub error: Option<String>,
}

/// What is answered to a check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckedIn {
    /// What it is to have, unless it knows that.
    pub desired: Option<Desired>,
    /// The tag of that.
    pub tag: String,
    /// What it is to do, and has not told that it did.
    #[serde(default)]
    pub orders: Vec<Order>,
    /// In how many seconds it is to check in again, a tenth more or less.
    pub again_secs: u64,
}

/// What an endpoint is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Desired {
    /// The LivePCs.
    pub livepcs: Vec<AssignedLivePc>,
}

/// A LivePC that an endpoint is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssignedLivePc {
    /// Its name.
    pub livepc: String,
    /// Where it is published: `PLACE/feeds/FEED` or `PLACE/feeds/FEED/CHANNEL`.
    pub location: String,
    /// Other places that carry the same.
    pub mirrors: Vec<String>,
}
