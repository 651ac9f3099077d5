//! Accounts: `/etc/{passwd,group,shadow,gshadow,subuid,subgid}`, merged by name.
//!
//! Records, by key:
//! ```text
//!   user:NAME            password:uid:GROUP:gecos:home:shell      an account that is new or gone
//!   user:NAME:FIELD      one field of an account that below has (password, uid, group, gecos, …)
//!   group:NAME           password:gid                             a group that is new or gone
//!   group:NAME:FIELD     password or gid of a group that below has
//!   shadow:NAME          the rest of the line in shadow
//!   gshadow:NAME         the password in gshadow
//!   member:GROUP:USER    `local` or `foreign` (an account that is not in passwd)
//!   gmember:GROUP:USER   the same in gshadow;  gadmin:GROUP:USER  its administrators
//!   subuid:NAME, subgid:NAME   start:count[,start:count…]
//! ```
//! The primary group stands by name, because numbers move: a system account whose number is another
//! account's below gets the highest free one from 999 down. A person's number never moves; a clash
//! of one is reported. A person's account is [`Kind::UserData`], and so is what a user changes of
//! an account of the image; a system account that a session made is [`Kind::UserApps`] and belongs
//! to the package that made it.
//!
//! When both sides have an account of one name: a person's is the layer's, a system's the stack's.
//!
//! Not kept: a second account for one number (each gets its own), see also [`super`].

mod acl;
mod flat;
mod names;
mod table;
mod write;

use goldleaf_tree::GuestPath;

pub use acl::{acl_to_ids, acl_to_names};
pub use names::Names;

use self::table::{File, Table};
use super::{
    Applied, ApplyContext, DiffContext, FileSet, MergeError, MergeHandler, Record, check_sizes,
    differences,
};
use crate::{Digest, Kind};

/// Numbers of people's accounts and of their groups: `UID_MIN` and one over `UID_MAX` of Debian's
/// login.defs(5).
const PEOPLE: std::ops::Range<u32> = 1000..60000;

/// The handler.
pub struct Accounts;

const NAME: &str = "accounts";

/// The account files of one stack.
struct Tables {
    passwd: Table,
    group: Table,
    shadow: Table,
    gshadow: Table,
    subuid: Table,
    subgid: Table,
}

impl Tables {
    fn parse(files: &FileSet) -> Self {
        Self {
            passwd: Table::parse(File::Passwd, files),
            group: Table::parse(File::Group, files),
            shadow: Table::parse(File::Shadow, files),
            gshadow: Table::parse(File::Gshadow, files),
            subuid: Table::parse(File::Subuid, files),
            subgid: Table::parse(File::Subgid, files),
        }
    }
}

impl MergeHandler for Accounts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn owns(&self, path: &GuestPath) -> bool {
        File::ALL.iter().any(|file| file.path() == *path)
    }

    fn diff(
        &self,
        below: &FileSet,
        after: &FileSet,
        context: &DiffContext<'_>,
    ) -> Result<Vec<Record>, MergeError> {
        check_sizes(below)?;
        check_sizes(after)?;
        let (old, new) = (Tables::parse(below), Tables::parse(&completed(below, after)));
        let old_flat = flat::flatten(&old, &new);
        let new_flat = flat::flatten(&new, &old);
        let whose = Whose { old: &old, new: &new, context };
        let record = |(key, before, now): (&str, Option<&Vec<u8>>, Option<&Vec<u8>>)| {
            let (layer, package) = whose.owner(key, now.is_none());
            Record {
                handler: NAME.to_owned(),
                key: key.to_owned(),
                layer: context.all_to.unwrap_or(layer),
                package,
                ancestor: before.map(|value| Digest::of(value)),
                value: now.cloned(),
            }
        };
        Ok(differences(&old_flat, &new_flat).into_iter().map(record).collect())
    }

    fn apply(
        &self,
        below: &FileSet,
        records: &[Record],
        context: &ApplyContext,
    ) -> Result<Applied, MergeError> {
        check_sizes(below)?;
        Ok(write::apply(below, records, context))
    }
}

/// `after` with below's file where it has none: a session that deleted one says nothing.
fn completed(below: &FileSet, after: &FileSet) -> FileSet {
    let mut files = below.clone();
    files.extend(after.iter().map(|(path, state)| (path.clone(), state.clone())));
    files
}

/// Tells whose a change is.
struct Whose<'a> {
    old: &'a Tables,
    new: &'a Tables,
    context: &'a DiffContext<'a>,
}

/// What an account or group is to its change.
#[derive(PartialEq)]
enum Class {
    Person,
    /// Below has it.
    Image,
    /// The session made it.
    Made,
    /// Nobody here has it.
    Foreign,
}

impl Whose<'_> {
    fn owner(&self, key: &str, gone: bool) -> (Kind, Option<String>) {
        let mut parts = key.split(':');
        let (tag, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match tag {
            "group" | "gshadow" => self.one(self.group(name), name, gone),
            "member" | "gmember" | "gadmin" => {
                self.membership(name, parts.next().unwrap_or_default())
            }
            _ => self.one(self.user(name), name, gone),
        }
    }

    fn one(&self, class: Class, name: &str, gone: bool) -> (Kind, Option<String>) {
        match class {
            Class::Made => (Kind::UserApps, (self.context.package_of_account)(name)),
            Class::Image if gone => (Kind::UserApps, None),
            _ => (Kind::UserData, None),
        }
    }

    fn membership(&self, group: &str, user: &str) -> (Kind, Option<String>) {
        let package = &self.context.package_of_account;
        match (self.user(user), self.group(group)) {
            (Class::Person | Class::Foreign, _) => (Kind::UserData, None),
            (Class::Made, _) => (Kind::UserApps, package(user).or_else(|| package(group))),
            (_, Class::Made) => (Kind::UserApps, package(group)),
            _ => (Kind::UserData, None),
        }
    }

    fn user(&self, name: &str) -> Class {
        class(&self.old.passwd, &self.new.passwd, name)
    }

    fn group(&self, name: &str) -> Class {
        class(&self.old.group, &self.new.group, name)
    }
}

fn class(old: &Table, new: &Table, name: &str) -> Class {
    let (before, now) = (old.number(name, 2), new.number(name, 2));
    match now.or(before) {
        None => Class::Foreign,
        Some(number) if PEOPLE.contains(&number) => Class::Person,
        Some(_) if before.is_some() => Class::Image,
        Some(_) => Class::Made,
    }
}
