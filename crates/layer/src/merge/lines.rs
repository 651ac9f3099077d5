//! Smaller shared files that are sets of lines or stanzas.
//!
//! | file | item and key | layer | when both sides changed it |
//! |---|---|---|---|
//! | `/etc/shells` | line | user-apps | (a line has no value) |
//! | `/var/lib/ucf/hashfile` | line, by path | user-apps | the stack's |
//! | `/var/lib/ucf/registry` | line, by path | user-apps | the stack's |
//! | `deb-systemd-*/**/*.dsh-also` | line | user-apps | (a line has no value) |
//! | debconf `config.dat` | stanza, by `Name` | an answer that below has: user-data, else user-apps | the layer's |
//! | debconf `passwords.dat` | stanza, by `Name` | identity | the layer's |
//! | debconf `templates.dat` | stanza, by `Name` | user-apps | the stack's |

use std::collections::BTreeMap;

use goldleaf_tree::GuestPath;

use super::items::{self, Format, Split, Wins, field, text_field};
use super::{
    Applied, ApplyContext, DiffContext, FileSet, MergeError, MergeHandler, Record, check_sizes,
    path,
};
use crate::Kind;

const NAME: &str = "lines";
/// Where deb-systemd-helper(1p) keeps what it did for each unit.
const SYSTEMD: [&str; 3] = [
    "/var/lib/systemd/deb-systemd-helper-enabled",
    "/var/lib/systemd/deb-systemd-helper-masked",
    "/var/lib/systemd/deb-systemd-user-helper-enabled",
];

/// The handler.
pub struct Lines;

const LINES: Format = Format {
    tag: "",
    split: Split::Lines,
    key: |line| (!line.is_empty() && !line.starts_with(b"#")).then(|| line.to_vec()),
    package: |_| None,
    layer: |_| Kind::UserApps,
    settle: |_, _| Wins::Below,
    mode: 0o644,
    sparse: false,
};

const DEBCONF: Format = Format {
    split: Split::Stanzas,
    key: |stanza| field(stanza, "Name").map(<[u8]>::to_vec),
    package: first_owner,
    ..LINES
};

const FILES: [(&str, Format); 6] = [
    ("/etc/shells", Format { tag: "shells", ..LINES }),
    ("/var/lib/ucf/hashfile", Format { tag: "ucf-hash", key: second_word, ..LINES }),
    (
        "/var/lib/ucf/registry",
        Format { tag: "ucf-owner", key: second_word, package: first_word, ..LINES },
    ),
    (
        "/var/cache/debconf/config.dat",
        Format {
            tag: "debconf",
            layer: |existed| if existed { Kind::UserData } else { Kind::UserApps },
            settle: |_, _| Wins::Layer,
            ..DEBCONF
        },
    ),
    (
        "/var/cache/debconf/passwords.dat",
        Format {
            tag: "debconf-password",
            layer: |_| Kind::Identity,
            settle: |_, _| Wins::Layer,
            mode: 0o600,
            ..DEBCONF
        },
    ),
    ("/var/cache/debconf/templates.dat", Format { tag: "debconf-template", ..DEBCONF }),
];

/// What is kept for one unit; the file is there only while it has lines.
const UNIT: Format = Format { tag: "systemd", sparse: true, ..LINES };

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

fn second_word(line: &[u8]) -> Option<Vec<u8>> {
    words(line).nth(1).map(<[u8]>::to_vec)
}

fn first_word(line: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(words(line).next()?).ok()?.to_owned())
}

fn first_owner(stanza: &[u8]) -> Option<String> {
    let owner = text_field(stanza, "Owners")?.split(',').next()?.trim();
    (!owner.is_empty()).then(|| owner.to_owned())
}

/// The file of a unit as a tag of records; those whose path could be misread are not merged.
fn unit_tag(at: &GuestPath) -> Option<String> {
    let within = SYSTEMD.iter().any(|directory| at.starts_with(&path(directory)));
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b':' && *byte != b'%';
    let right = within && at.as_bytes().ends_with(b".dsh-also") && at.as_bytes().iter().all(plain);
    right.then(|| at.to_string())
}

/// The format of a path, and the tag of its records.
fn format_of(at: &GuestPath) -> Option<(&'static Format, String)> {
    static TABLE: [(&str, Format); 6] = FILES;
    static UNITS: Format = UNIT;
    if let Some((_, format)) = TABLE.iter().find(|(file, _)| path(file) == *at) {
        return Some((format, format.tag.to_owned()));
    }
    unit_tag(at).map(|tag| (&UNITS, tag))
}

fn path_of_tag(tag: &str) -> Option<GuestPath> {
    match FILES.iter().find(|(_, format)| format.tag == tag) {
        Some((file, _)) => Some(path(file)),
        None => GuestPath::parse(tag).ok().filter(|at| unit_tag(at).is_some()),
    }
}

impl MergeHandler for Lines {
    fn name(&self) -> &'static str {
        NAME
    }

    fn owns(&self, at: &GuestPath) -> bool {
        format_of(at).is_some()
    }

    fn diff(
        &self,
        below: &FileSet,
        after: &FileSet,
        context: &DiffContext<'_>,
    ) -> Result<Vec<Record>, MergeError> {
        check_sizes(below)?;
        check_sizes(after)?;
        let paths: std::collections::BTreeSet<&GuestPath> =
            below.keys().chain(after.keys()).collect();
        let mut records = Vec::new();
        for at in paths {
            if let Some((format, tag)) = format_of(at) {
                let (old, new) = (below.get(at), after.get(at));
                records.append(&mut items::diff(NAME, format, &tag, old, new, context));
            }
        }
        records.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(records)
    }

    fn apply(
        &self,
        below: &FileSet,
        records: &[Record],
        _: &ApplyContext,
    ) -> Result<Applied, MergeError> {
        check_sizes(below)?;
        let mut applied = Applied::default();
        let mut by_path: BTreeMap<GuestPath, BTreeMap<&str, &Record>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.handler == NAME) {
            let parts = record.key.split_once(':');
            match parts.and_then(|(tag, key)| Some((path_of_tag(tag)?, key))) {
                Some((at, key)) => drop(by_path.entry(at).or_default().insert(key, record)),
                None => applied.keep_aside(record, "the record is not in this format"),
            }
        }
        for (at, records) in by_path {
            if let Some((format, _)) = format_of(&at) {
                items::apply(format, &at, below, &records, &mut applied);
            }
        }
        Ok(applied)
    }
}
