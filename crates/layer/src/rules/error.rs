//! What can be wrong with a rules file.

use std::fmt;

/// A place in a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file as the user knows it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The place of a byte offset in a text.
    pub(super) fn of(file: &str, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Why a rules file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The file is no TOML.
    #[error("{at}: {message}")]
    Syntax {
        /// Where.
        at: Position,
        /// What the parser says.
        message: String,
    },
    /// A key or value is not what the language has there.
    #[error("{at}: expected {expected}, found {found}")]
    Expected {
        /// Where.
        at: Position,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A pattern is malformed.
    #[error("{at}: the pattern `{pattern}` {problem}")]
    Pattern {
        /// Where.
        at: Position,
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A pattern covers so much that it is probably a mistake.
    #[error(
        "{at}: the pattern `{pattern}` sends all of {covered} to `{target}`; \
         name less, or write `broad = true` in the rule"
    )]
    TooBroad {
        /// Where.
        at: Position,
        /// The pattern as written.
        pattern: String,
        /// The protected directory that it covers whole.
        covered: String,
        /// Where the rule sends it.
        target: String,
    },
}
