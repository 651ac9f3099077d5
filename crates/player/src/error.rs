//! What can go wrong with desktops, by kind, with what to do about it.

use goldleaf_block::BlockError;
use goldleaf_image::ImageError;
use goldleaf_layer::ManifestError;
use goldleaf_layer::rules::RulesError;
use goldleaf_store::StoreError;
use goldleaf_vm::VmError;
use goldleaf_worker::WorkerError;

/// An error of the player.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlayerError {
    /// Nothing of that kind has that name.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// `desktop`, `LivePC`, `layer`, …
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is a {kind} `{name}` already")]
    Exists {
        /// `desktop`, `LivePC`, `layer`, …
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// Somebody is at it: a session runs, or another command works on it.
    #[error("{kind} `{name}` is in use{}", by(.detail))]
    Busy {
        /// `desktop`, `image`, …
        kind: &'static str,
        /// Its name.
        name: String,
        /// By whom, where that is known.
        detail: String,
    },
    /// The request makes no sense as it stands.
    #[error("{0}")]
    Refused(String),
    /// The layers do not fit an image.
    #[error("image `{image}` is too small: {source}")]
    TooSmall {
        /// The image.
        image: String,
        /// Length that its disk would have to have, in bytes, if growing the root helps.
        wanted: Option<u64>,
        /// What is missing where.
        source: WorkerError,
    },
    /// A stored record contradicts itself.
    #[error("{place}: expected {expected}, found {found}")]
    Corrupt {
        /// Where.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A network block device server failed.
    #[error("serving the disk: {0}")]
    Nbd(String),
    /// An image failed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer failed.
    #[error(transparent)]
    Layer(#[from] ManifestError),
    /// A rules file is wrong.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A disk failed.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The hypervisor failed.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A feed failed.
    #[error(transparent)]
    Feed(#[from] goldleaf_feed::FeedError),
    /// Who may publish what is in doubt.
    #[error(transparent)]
    Trust(#[from] goldleaf_trust::TrustError),
    /// Where a feed is carried failed.
    #[error(transparent)]
    Fetch(#[from] goldleaf_fetch::FetchError),
    /// The control server refused, or cannot be asked.
    #[error(transparent)]
    Director(#[from] goldleaf_client::ClientError),
    /// The storage failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's word for it.
        source: std::io::Error,
    },
}

/// An error in one sentence: its own words, and those of its causes that it does not repeat.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn by(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

impl PlayerError {
    /// Wraps an error of the storage.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// A record that is not what it should be.
    pub fn corrupt(place: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Corrupt {
            place: place.into(),
            expected: "what Goldleaf wrote".into(),
            found: found.into(),
        }
    }
}
