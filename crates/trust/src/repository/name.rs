//! Names of files in a feed's directory: `3.root.json`, `3.root.draft.json`.

use std::fmt;

use crate::Role;

/// The one file without a version in its name.
pub const TIMESTAMP: &str = "timestamp.json";

const DRAFT: &str = "draft.";
const ROLES: [Role; 3] = [Role::Root, Role::Targets, Role::Snapshot];

/// A file with its version in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub role: Role,
    pub version: u64,
    pub is_draft: bool,
}

impl Name {
    pub fn of(role: Role, version: u64) -> Self {
        Self { role, version, is_draft: false }
    }

    pub fn draft(role: Role, version: u64) -> Self {
        Self { role, version, is_draft: true }
    }

    /// `None` for anything else that may lie there. A version has one form, without zeroes before
    /// it.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, rest) = text.split_once('.')?;
        let (role, _) = rest.split_once('.')?;
        let role = ROLES.into_iter().find(|known| known.name() == role)?;
        let (version, is_draft) = (version.parse().ok()?, rest.contains(DRAFT));
        let name = Self { role, version, is_draft };
        (name.version > 0 && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let draft = if self.is_draft { DRAFT } else { "" };
        write!(f, "{}.{}.{draft}json", self.version, self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for name in [Name::of(Role::Root, 1), Name::draft(Role::Targets, u64::MAX)] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for other in [
            "timestamp.json",
            "1.timestamp.json",
            "01.root.json",
            "0.root.json",
            "+1.root.json",
            "1.root.json.new",
            "1.root.draft.draft.json",
            "1.root",
            "root.json",
            "18446744073709551616.root.json",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
