//! (made by its own crate's first commit)
