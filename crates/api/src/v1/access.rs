//! Who may use the API, and as what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Role;

/// Somebody who becomes the first administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Beginning {
    /// The code that the server printed.
    pub code: String,
    /// Who it is.
    pub name: String,
}

/// A token that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenWanted {
    /// Whose it is, or what for.
    pub name: String,
    /// As what.
    pub role: Role,
    /// For how many days it is good, 400 at most; 90 where nothing is said.
    pub days: Option<u32>,
}

/// A token that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    /// Its id, which is no secret.
    pub id: String,
    /// What is sent with each call (RFC 6750), in the form of a code, so that whoever gets it knows
    /// the server by it. It is told only now.
    pub token: String,
    /// Unix time up to which it is good, in seconds.
    pub expires_at: u64,
}

/// The tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// By name.
    pub tokens: Vec<Token>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// Whose it is, or what for.
    pub name: String,
    /// As what.
    pub role: Role,
    /// Unix time up to which it is good, in seconds.
    pub expires_at: u64,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenNamed {
    /// Its id.
    pub token: String,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Me {
    /// Whose server it is.
    pub organisation: String,
    /// The token's name.
    pub name: String,
    /// As what.
    pub role: Role,
}
