//! What goes wrong.

use std::sync::Arc;

use axum::http::StatusCode;
use goldleaf_api::Problem;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The database cannot be reached, or is not as it should be.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database was written by a newer program.
    #[error("the database is of version {found}, and this program knows {known}")]
    Newer {
        /// The database's.
        found: i64,
        /// The program's.
        known: i64,
    },
    /// The database belongs to somebody else.
    #[error("the database is that of {found}, not of {wanted}")]
    Organisation {
        /// Whose it is.
        found: String,
        /// Who was said to have it.
        wanted: String,
    },
    /// The authority's files.
    #[error("the authority: {0}")]
    Authority(String),
    /// A file or a socket.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl ServerError {
    /// Wraps an error of the system's.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request makes no sense.
    #[error("{0}")]
    Bad(String),
    /// Nobody knows who calls.
    #[error("{0}")]
    Unknown(&'static str),
    /// Who calls may not.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The endpoint is not let in.
    #[error("this endpoint is {0}")]
    NotAdmitted(String),
    /// There is no such thing.
    #[error("there is no {kind} {name}")]
    Missing {
        /// What kind of thing.
        kind: &'static str,
        /// Which one.
        name: String,
    },
    /// It does not go with what is there.
    #[error("{0}")]
    Conflict(String),
    /// Too many calls of one caller's.
    #[error("too many calls; ask again in some seconds")]
    TooMany,
    /// A code that is good for nothing.
    #[error("{0}")]
    Code(&'static str),
    /// The server failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The same, for all who were in one commit.
    #[error("the database failed")]
    Batch(#[source] Arc<sqlx::Error>),
    /// The server failed.
    #[error("{0}")]
    Internal(String),
}

impl CallError {
    /// HTTP's number for it (RFC 9110, section 15), and ours.
    pub(crate) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Bad(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            Self::Unknown(_) => (StatusCode::UNAUTHORIZED, "unknown-caller"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotAdmitted(_) => (StatusCode::FORBIDDEN, "not-admitted"),
            Self::Missing { .. } => (StatusCode::NOT_FOUND, "missing"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many"),
            Self::Code(_) => (StatusCode::FORBIDDEN, "bad-code"),
            // It may be there again in a moment, and nothing was done.
            Self::Database(_) | Self::Batch(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    pub(crate) fn problem(&self) -> Problem {
        Problem { code: self.status().1.into(), message: self.to_string() }
    }
}
