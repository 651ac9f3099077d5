//! Names of files in a feed. They go into URLs and directories as they are, so there is nothing in
//! them that means anything to either.

use crate::{At, FetchError};

/// Longest component, in bytes, as file systems have it.
const COMPONENT_MAX: usize = 255;
/// Most components: more than any layout of a feed has.
const COMPONENTS_MAX: usize = 8;

/// Which file of which source; [`FetchError::BadName`] for what is no name.
pub(crate) fn at(name: &str, path: &str) -> Result<At, FetchError> {
    let is_good =
        path.split('/').count() <= COMPONENTS_MAX && path.split('/').all(is_good_component);
    let shown: String = path.chars().take(COMPONENT_MAX).collect();
    if is_good {
        Ok(At { name: name.into(), path: path.into() })
    } else {
        Err(FetchError::BadName { at: At { name: name.into(), path: shown } })
    }
}

fn is_good_component(component: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=COMPONENT_MAX).contains(&component.len())
        && component.bytes().all(is_plain)
        && !component.starts_with('.')
        && !component.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["timestamp.json", "packs/00ff", "a/b_c/d-e.1.json", &"n".repeat(255)] {
            assert!(at("x", good).is_ok(), "{good}");
        }
        let long = "n".repeat(256);
        let deep = "a/".repeat(8) + "a";
        let bad = [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            ".a",
            "a.",
            "a b",
            "a\0",
            "a\\b",
            "C:",
            "C:/a",
            "%2e%2e/a",
            "a?b",
            "a#b",
            "a@b",
            "é",
            "http://b/",
            &long,
            &deep,
        ];
        for bad in bad {
            assert!(matches!(at("x", bad), Err(FetchError::BadName { .. })), "{bad:?}");
        }
    }
}
