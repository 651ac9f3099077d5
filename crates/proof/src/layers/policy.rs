//! Where a change belongs: the factory rules once more, written down from docs/rules.md as plain
//! questions about a path. It shares nothing with the rules' own file, parser and matcher.

use goldleaf_layer::Kind;

use super::seen::{at, under};

/// Where a path belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A layer.
    Keep(Kind),
    /// Of what the image has, only other content; all else of that path is the image's.
    Edits,
    /// Nowhere: the image's state returns.
    Nowhere,
}

/// What is asked about a changed path.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub path: &'a str,
    /// The image has something there.
    pub in_image: bool,
    /// It is, or was if it is gone, a directory.
    pub directory: bool,
}

/// Where a path belongs, and whether its directories stay although their content goes.
pub fn belongs(asked: Asked<'_>) -> (To, bool) {
    let path = asked.path;
    let first = |tables: &[fn(Asked<'_>) -> Option<To>]| tables.iter().find_map(|one| one(asked));
    // The tables are asked from the last of the page to the first: later wins.
    let to = first(&[homes, state, machine, settings, system]).unwrap_or(To::Keep(Kind::UserData));
    (to, under(path, "var/cache") || under(path, "var/log"))
}

fn any(path: &str, of: &[&str], fits: fn(&str, &str) -> bool) -> bool {
    of.iter().any(|directory| fits(path, directory))
}

/// Homes: the user's own, but for caches and applications.
fn homes(asked: Asked<'_>) -> Option<To> {
    let home = ["home/ann", "root"].into_iter().find(|home| at(asked.path, home))?;
    let path = asked.path[home.len()..].trim_start_matches('/');
    let steam = ".local/share/Steam";
    let layer = if path.starts_with(".xsession-errors") && !path.contains('/') {
        return Some(To::Nowhere);
    } else if at(path, &format!("{steam}/userdata")) {
        Kind::UserData
    } else if any(path, &[".local/bin", ".local/lib", ".cargo/bin", steam], at) {
        Kind::UserApps
    } else if any(path, &[".cache", ".thumbnails"], under) {
        Kind::Local
    } else {
        Kind::UserData
    };
    Some(To::Keep(layer))
}

/// What programs leave in `/var` and for a while.
fn state(asked: Asked<'_>) -> Option<To> {
    let path = asked.path;
    let gone = ["tmp", "var/tmp", "run", "var/crash", "var/spool/cups", "var/backups"];
    if any(path, &gone, under) || any(path, &["var/lib/systemd/coredump"], under) {
        return Some(To::Nowhere);
    }
    if any(path, &["var/lib/flatpak", "var/lib/snapd"], at) {
        return Some(To::Keep(Kind::UserApps));
    }
    if path == "var/lib/systemd/random-seed" || under(path, "var/cache/ldconfig") {
        return Some(To::Nowhere);
    }
    let local = ["var/lib/systemd/timers", "var/lib/apt/lists", "var/lib/man-db"];
    if any(path, &local, at) || any(path, &["var/log/journal", "var/cache"], under) {
        return Some(To::Keep(Kind::Local));
    }
    under(path, "var/log").then_some(To::Nowhere)
}

/// What makes the machine this one.
fn machine(asked: Asked<'_>) -> Option<To> {
    let path = asked.path;
    let files = ["etc/machine-id", "etc/hostname", "etc/hostid"];
    let places = ["etc/NetworkManager/system-connections", "var/lib/bluetooth"];
    let key = path.strip_prefix("etc/ssh/ssh_host_").is_some_and(|rest| !rest.contains('/'));
    let own = files.contains(&path) || any(path, &places, under) || key;
    own.then_some(To::Keep(Kind::Identity))
}

/// `/etc`.
fn settings(asked: Asked<'_>) -> Option<To> {
    let path = asked.path;
    if !under(path, "etc") {
        return None;
    }
    if ["etc/fstab", "etc/resolv.conf", "etc/adjtime", "etc/default/grub"].contains(&path) {
        return Some(To::Nowhere);
    }
    if ["etc/localtime", "etc/timezone", "etc/default/locale"].contains(&path) {
        return Some(To::Keep(Kind::UserData));
    }
    if asked.in_image {
        return Some(To::Edits);
    }
    let starts = ["etc/systemd/system", "etc/cron.d", "etc/profile.d", "etc/init.d"];
    let starts = any(path, &starts, under);
    Some(if starts { To::Nowhere } else { To::Keep(Kind::UserData) })
}

/// The system itself, and applications beside it.
fn system(asked: Asked<'_>) -> Option<To> {
    let path = asked.path;
    if at(path, "boot") || at(path, "usr/lib/modules") || path.contains("/__pycache__") {
        return Some(To::Nowhere);
    }
    if under(path, "usr/local") || at(path, "opt") {
        return Some(To::Keep(Kind::UserApps));
    }
    if at(path, "usr") {
        let own = asked.in_image || path == "usr";
        return Some(if own { To::Nowhere } else { To::Keep(Kind::UserApps) });
    }
    let shallow =
        !path.contains('/') || path.strip_prefix("var/").is_some_and(|rest| !rest.contains('/'));
    (shallow && asked.directory && asked.in_image).then_some(To::Nowhere)
}
