//! What `trust` refuses, with what to do about it.

use goldleaf_trust::{RootWaits, TrustError};

use crate::failure::Failure;
use crate::output::printable;

const LOOK: &str = "`goldleaf key show DIR` says who may sign what, and who signed";
const SPOILT: &str = "the directory is not as it was written: take it from where it was last good";

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        // Names in it may be a stranger's, and are not to look like lines of our own.
        let message = printable(&error.to_string());
        match error {
            TrustError::Io { what, ref source } => Self::io(what, source),
            TrustError::Busy => Self::user(message).hint("try again when the other one is done"),
            TrustError::NotItsKey { .. } => Self::user(message).hint(LOOK),
            TrustError::NotADraft(_) => Self::user(message)
                .hint("what can be signed are files such as DIR/2.root.draft.json"),
            TrustError::DraftExists(ref name) => {
                let hint = format!("sign {name}, or remove it to begin again");
                Self::user(message).hint(hint)
            }
            TrustError::Begun => {
                Self::user(message).hint("`goldleaf key rotate DIR` drafts the next root")
            }
            TrustError::NotBegun => Self::user(message)
                .hint("`goldleaf key root` begins a feed, and its root keys sign that"),
            TrustError::NothingToPublish => Self::user(message)
                .hint("the image keys sign a draft of targets first, with `goldleaf key sign`"),
            TrustError::RootWaits { on: RootWaits::Targets, .. } => Self::user(message)
                .hint("sign the draft of targets with the new image keys, then refresh again"),
            TrustError::RootWaits { on: RootWaits::OnlineKey, .. } => Self::user(message)
                .hint("`goldleaf key refresh DIR --online-key FILE` with the new online key"),
            TrustError::Authority(_) => {
                Self::user(message).hint("check which keys are given, and the thresholds")
            }
            TrustError::Malformed { .. } => Self::user(message)
                .hint("keys and metadata are made by the commands of `goldleaf key`"),
            TrustError::SigMissing(_) | TrustError::SigThreshold { .. } => {
                Self::user(message).hint(LOOK)
            }
            TrustError::LastVersion(_) => {
                Self::user(message).hint("remove the file that has the highest number there is")
            }
            _ => Self::user(message).hint(SPOILT),
        }
    }
}
