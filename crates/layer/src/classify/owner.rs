//! Whose a path is, where the package database does not list the path itself.
//!
//! Four kinds of paths follow a package without being in its list: the package's own records under
//! `/var/lib/dpkg/info`, the links and marks that enable its services, links in `/etc` to what it
//! installed, and the data that it keeps below its directory in `/var/lib`.

use goldleaf_tree::{Change, GuestPath};

use super::facts::{Facts, PackageRef, Source};
use crate::rules::OwnerClass;

/// The package of a changed path, listed or derived.
pub(super) fn package(change: &Change, facts: &dyn Facts) -> Option<PackageRef> {
    let path = change.path();
    facts.package(path).or_else(|| {
        let parts: Vec<&[u8]> = path.components().collect();
        match parts.as_slice() {
            [b"etc", ..] => linked(change, facts),
            [b"var", b"lib", b"dpkg", b"info", name] => recorded(name, facts),
            [b"var", b"lib", b"systemd", mark, .., unit] if is_helper(mark) => of_unit(unit, facts),
            _ => None,
        }
    })
}

/// Whose a path is, for the rules.
///
/// A directory that is below stays theirs whose it was: packages share directories.
pub(super) fn class(
    package: Option<&PackageRef>,
    below: Option<&Source>,
    directory: bool,
) -> OwnerClass {
    match (package.filter(|_| !directory || below.is_none()), below) {
        (Some(PackageRef { user: true, .. }), _) => OwnerClass::UserPackage,
        (_, Some(Source::Image)) => OwnerClass::Image,
        (_, Some(Source::Apps(_))) => OwnerClass::Apps,
        (_, None) => OwnerClass::Nobody,
    }
}

/// The user's package in whose directory under `/var/lib` a path lies.
pub(super) fn data_of(path: &GuestPath, facts: &dyn Facts) -> Option<PackageRef> {
    let mut parent = path.parent();
    while let Some(directory) = parent {
        let mut parts = directory.components();
        if parts.next() != Some(b"var") || parts.next() != Some(b"lib") || parts.next().is_none() {
            break;
        }
        if let Some(package) = facts.package(&directory) {
            return package.user.then_some(package);
        }
        parent = directory.parent();
    }
    namesake(path, facts)
}

/// The user's package whose name, or the name of whose directory elsewhere, a directory of `/var`
/// has: scripts of packages make `/var/lib/x` and `/var/log/x` without listing them.
pub(super) fn namesake(path: &GuestPath, facts: &dyn Facts) -> Option<PackageRef> {
    let parts: Vec<&[u8]> = path.components().take(3).collect();
    let [b"var", b"lib" | b"log" | b"cache" | b"spool", name] = parts.as_slice() else {
        return None;
    };
    let named = std::str::from_utf8(name).ok().and_then(|name| facts.package_named(name));
    let elsewhere = || {
        ["etc", "usr/lib", "usr/share"]
            .iter()
            .filter_map(|folder| GuestPath::parse(folder).ok()?.join(name).ok())
            .find_map(|path| facts.package(&path))
    };
    named.or_else(elsewhere).filter(|package| package.user)
}

fn is_helper(name: &[u8]) -> bool {
    name.starts_with(b"deb-systemd-")
}

/// The package whose file a link in `/etc` names: the link that enables a service belongs to the
/// package of the service.
fn linked(change: &Change, facts: &dyn Facts) -> Option<PackageRef> {
    let Change::Put { path, target, .. } = change else { return None };
    if target.is_empty() {
        return None;
    }
    let target = resolve_link(path, target)?;
    facts.package(&target).or_else(|| facts.package(&merged_usr(&target)?))
}

/// Where a link leads, by its text alone: no other link on the way is followed.
fn resolve_link(link: &GuestPath, target: &[u8]) -> Option<GuestPath> {
    let mut at = if target.starts_with(b"/") { GuestPath::root() } else { link.parent()? };
    for part in target.split(|&byte| byte == b'/') {
        at = match part {
            b"" | b"." => at,
            b".." => at.parent().unwrap_or_default(),
            name => at.join(name).ok()?,
        };
    }
    Some(at)
}

/// `/lib/x` as `/usr/lib/x`.
fn merged_usr(path: &GuestPath) -> Option<GuestPath> {
    let first = path.components().next()?;
    if first != b"bin" && first != b"sbin" && !first.starts_with(b"lib") {
        return None;
    }
    GuestPath::root().join(b"usr").ok()?.append(path).ok()
}

/// The package of `NAME.list` or `NAME:ARCH.postinst`.
fn recorded(name: &[u8], facts: &dyn Facts) -> Option<PackageRef> {
    // Names of packages hold dots (`libfoo1.2`), endings do not.
    let cut = name.iter().rposition(|&byte| byte == b'.')?;
    facts.package_named(std::str::from_utf8(name.get(..cut)?).ok()?)
}

/// The package of a unit that a mark of deb-systemd-helper names.
fn of_unit(mark: &[u8], facts: &dyn Facts) -> Option<PackageRef> {
    let unit = mark.strip_suffix(b".dsh-also").unwrap_or(mark);
    ["usr/lib/systemd/system", "usr/lib/systemd/user", "lib/systemd/system"]
        .iter()
        .filter_map(|folder| GuestPath::parse(folder).ok()?.join(unit).ok())
        .find_map(|path| facts.package(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> GuestPath {
        GuestPath::parse(text).expect("a path")
    }

    #[test]
    fn links_resolve_by_their_text() {
        let link = path("/etc/rc2.d/S01redis");
        assert_eq!(resolve_link(&link, b"../init.d/redis"), Some(path("/etc/init.d/redis")));
        assert_eq!(resolve_link(&link, b"/lib/x/./y"), Some(path("/lib/x/y")));
        assert_eq!(resolve_link(&link, b"../../../../x"), Some(path("/x")));
        assert_eq!(resolve_link(&link, b"a\0b"), None);
    }

    #[test]
    fn only_merged_directories_merge() {
        assert_eq!(merged_usr(&path("/lib/x")), Some(path("/usr/lib/x")));
        assert_eq!(merged_usr(&path("/libx32/x")), Some(path("/usr/libx32/x")));
        assert_eq!(merged_usr(&path("/opt/x")), None);
    }
}
