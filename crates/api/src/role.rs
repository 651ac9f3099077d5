//! Who may do what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody must be to make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody: what is asked carries its own proof, or is public.
    Nothing,
    /// An endpoint, known by its certificate.
    Endpoint,
    /// Somebody whose role has this permission.
    Permission(Permission),
}

/// What a role allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// See everything but the audit log.
    See,
    /// Make codes with which endpoints enrol.
    Invite,
    /// Have endpoints update, rejuvenate and roll back.
    Act,
    /// Let endpoints in, and shut them out.
    Admit,
    /// Say which LivePCs there are.
    Offer,
    /// Say who gets which LivePC.
    Assign,
    /// Make groups, and put endpoints into them.
    Arrange,
    /// See the audit log.
    Audit,
    /// Give access to the server to others, and say whose keys new endpoints believe.
    Administer,
}

/// What somebody is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Helps people with their endpoints.
    Helpdesk,
    /// Makes LivePCs.
    ImageAuthor,
    /// Decides who gets them.
    Approver,
    /// Decides which endpoints are trusted, and reads the audit log.
    SecurityOfficer,
    /// May do everything that one person may.
    Administrator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Viewer,
        Self::Helpdesk,
        Self::ImageAuthor,
        Self::Approver,
        Self::SecurityOfficer,
        Self::Administrator,
    ];

    /// Its name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Helpdesk => "helpdesk",
            Self::ImageAuthor => "image-author",
            Self::Approver => "approver",
            Self::SecurityOfficer => "security-officer",
            Self::Administrator => "administrator",
        }
    }

    /// The role of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether it has a permission.
    pub fn may(self, permission: Permission) -> bool {
        use Permission::{Act, Admit, Assign, Audit, Invite, Offer, See};
        match self {
            Self::Viewer => matches!(permission, See),
            Self::Helpdesk => matches!(permission, See | Invite | Act),
            Self::ImageAuthor => matches!(permission, See | Offer),
            Self::Approver => matches!(permission, See | Assign),
            Self::SecurityOfficer => matches!(permission, See | Invite | Admit | Audit),
            Self::Administrator => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_written() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
