//! What goes wrong between here and a server.

use std::borrow::Cow;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered that it will not.
    #[error("{message}")]
    Refused {
        /// What kind of refusal it is.
        code: Cow<'static, str>,
        /// Why.
        message: String,
    },
    /// The server could not be asked, or its answer did not come.
    #[error("asking {server}: {why}")]
    Unreachable {
        /// Which one.
        server: String,
        /// Why.
        why: String,
    },
    /// The server that answers is not the one whose code this is.
    #[error("{0} is not the server that made this code")]
    Stranger(String),
    /// What was given to reach a server is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The answer is not what this program understands.
    #[error("{server} answered what this program does not understand: {why}")]
    Answer {
        /// Which server.
        server: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}
