//! dpkg's and apt's databases.
//!
//! | file | item and key | when both sides changed it |
//! |---|---|---|
//! | `dpkg/status` | stanza, `status:NAME:ARCH` | the higher version; the stack's if equal |
//! | `apt/extended_states` | stanza, `extended:NAME:ARCH` | the stack's |
//! | `dpkg/statoverride` | line, `statoverride:PATH` | the stack's |
//! | `dpkg/diversions` | three lines, `diversion:PATH` | the stack's |
//! | `dpkg/triggers/File` | line, `trigger:LINE` | the stack's |
//! | `dpkg/triggers/Unincorp` | line, `unincorp:TRIGGER` | the stack's |
//! | `dpkg/alternatives/*`, `/etc/alternatives/*` | see `alternatives.rs` | the stack's; a choice is the user's |
//!
//! A package that the stack provides in the same version or a higher one is [`superseded`]: its
//! files in the layer are shed. After a merge the dependencies of all packages are checked; what is
//! newly broken is noted, and `apt-get -f install` in the guest repairs it. `dpkg/info/*` are plain
//! files that follow their package ([`package_of_info_file`]); `dpkg/updates/*` is read only to see
//! whether dpkg is at rest.

mod alternatives;
mod dependents;
mod depends;
mod packages;
mod version;

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_tree::GuestPath;

pub use self::dependents::dependents;
use self::packages::install_state;
pub use self::packages::{
    InstallState, PackageName, PackageState, not_at_rest, package_of_info_file, packages,
    parse_list, superseded, user_packages,
};
pub use self::version::compare_versions;
use super::items::{self, Format, Split, Wins, text_field};
use super::{
    Applied, ApplyContext, DiffContext, FileSet, MergeError, MergeHandler, Note, NoteKind, Record,
    check_sizes, path,
};
use crate::Kind;

const NAME: &str = "dpkg";
const STATUS: &str = "/var/lib/dpkg/status";
const EXTENDED_STATES: &str = "/var/lib/apt/extended_states";
const UNINCORP: &str = "/var/lib/dpkg/triggers/Unincorp";
const UPDATES: &str = "/var/lib/dpkg/updates";
const ALTERNATIVES: &str = "/var/lib/dpkg/alternatives";
const LINKS: &str = "/etc/alternatives";

/// The handler.
pub struct Dpkg;

/// The files that are sets of items.
const FILES: [(&str, Format); 6] = [
    (STATUS, Format { tag: "status", settle: higher_version, ..STANZAS }),
    (EXTENDED_STATES, Format { tag: "extended", ..STANZAS }),
    (
        "/var/lib/dpkg/statoverride",
        Format { tag: "statoverride", key: |line| word(line, 3), ..LINES },
    ),
    (
        "/var/lib/dpkg/diversions",
        Format {
            tag: "diversion",
            split: Split::Triples,
            key: diversion_key,
            package: diversion_package,
            ..LINES
        },
    ),
    (
        "/var/lib/dpkg/triggers/File",
        Format { tag: "trigger", key: whole_line, package: trigger_package, ..LINES },
    ),
    (UNINCORP, Format { tag: "unincorp", key: |line| word(line, 0), ..LINES }),
];

const LINES: Format = Format {
    tag: "",
    split: Split::Lines,
    key: whole_line,
    package: |_| None,
    layer: |_| Kind::UserApps,
    settle: |_, _| Wins::Below,
    mode: 0o644,
    sparse: false,
};

const STANZAS: Format = Format {
    split: Split::Stanzas,
    key: |stanza| Some(packages::package_name(stanza)?.to_string().into_bytes()),
    package: |stanza| Some(packages::package_name(stanza)?.to_string()),
    ..LINES
};

fn whole_line(line: &[u8]) -> Option<Vec<u8>> {
    (!line.is_empty()).then(|| line.to_vec())
}

/// A word of a line; the last that is asked for takes the rest of the line if it is the fourth, as
/// a path in statoverride may have spaces.
fn word(line: &[u8], at: usize) -> Option<Vec<u8>> {
    let word = line.splitn(4, |&byte| byte == b' ').nth(at)?;
    (!word.is_empty()).then(|| word.to_vec())
}

fn diversion_key(lines: &[u8]) -> Option<Vec<u8>> {
    let mut parts = lines.split(|&byte| byte == b'\n');
    let from = parts.next()?;
    (parts.count() == 2 && from.starts_with(b"/")).then(|| from.to_vec())
}

/// `:` stands for a diversion that an administrator made.
fn diversion_package(lines: &[u8]) -> Option<String> {
    let package = lines.split(|&byte| byte == b'\n').nth(2)?;
    let package = std::str::from_utf8(package).ok()?;
    (package != ":").then(|| package.to_owned())
}

fn trigger_package(line: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(line).ok()?.rsplit(' ').next()?;
    Some(word.split('/').next().unwrap_or_default().to_owned())
}

/// Both changed a package's stanza, or only the layer did and the stack dropped the package.
fn higher_version(now: Option<&[u8]>, wanted: Option<&[u8]>) -> Wins {
    let (Some(now), Some(wanted)) = (now, wanted) else {
        // Gone below and kept by the user: kept. Removed by the user and changed below: there.
        return if wanted.is_some() { Wins::Layer } else { Wins::Below };
    };
    let installed = |stanza| install_state(stanza) == InstallState::Installed;
    let version = |stanza| text_field(stanza, "Version").unwrap_or_default();
    let higher = compare_versions(version(wanted), version(now)).is_gt();
    if installed(wanted) && (higher || !installed(now)) { Wins::Layer } else { Wins::Below }
}

impl MergeHandler for Dpkg {
    fn name(&self) -> &'static str {
        NAME
    }

    fn owns(&self, at: &GuestPath) -> bool {
        FILES.iter().any(|(file, _)| path(file) == *at)
            || alternatives::owns(at)
            || at.parent().is_some_and(|parent| parent == path(UPDATES))
    }

    fn diff(
        &self,
        below: &FileSet,
        after: &FileSet,
        context: &DiffContext<'_>,
    ) -> Result<Vec<Record>, MergeError> {
        check_sizes(below)?;
        check_sizes(after)?;
        let mut records = alternatives::diff(below, after, context);
        for (file, format) in &FILES {
            let (old, new) = (below.get(&path(file)), after.get(&path(file)));
            let mut more = items::diff(NAME, format, format.tag, old, new, context);
            if format.tag == "statoverride" {
                more.iter_mut().for_each(|record| tag_override(record, context));
            }
            records.append(&mut more);
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
        let mut left: Vec<&Record> = Vec::new();
        let mut by_tag: BTreeMap<&str, BTreeMap<&str, &Record>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.handler == NAME) {
            match record.key.split_once(':') {
                Some(("alternative", _)) => left.push(record),
                Some((tag, key)) if FILES.iter().any(|(_, format)| format.tag == tag) => {
                    by_tag.entry(tag).or_default().insert(key, record);
                }
                _ => applied.keep_aside(record, "the record is not in this format"),
            }
        }
        for (file, format) in &FILES {
            let records = by_tag.remove(format.tag).unwrap_or_default();
            items::apply(format, &path(file), below, &records, &mut applied);
        }
        alternatives::apply(below, &left, &mut applied);
        note_superseded(below, records, &mut applied);
        note_problems(below, &mut applied);
        let now = not_at_rest(below).into_iter().collect::<BTreeSet<_>>();
        let after = not_at_rest(&applied.onto(below)).into_iter();
        let new: Vec<Note> = after.filter(|note| !now.contains(note)).collect();
        applied.notes.extend(new);
        Ok(applied)
    }
}

fn tag_override(record: &mut Record, context: &DiffContext<'_>) {
    let at = items::after_tag(record, "statoverride").and_then(|at| GuestPath::parse(at).ok());
    record.package = at.and_then(|at| (context.package_of_path)(&at));
}

fn note_superseded(below: &FileSet, records: &[Record], applied: &mut Applied) {
    for name in superseded(below, records) {
        let text = "the stack below provides it in this version or a higher one";
        applied.notes.push(Note::new(NoteKind::Superseded, name.to_string(), text));
    }
}

/// Notes what the merge broke; what was broken below is not the layer's doing.
fn note_problems(below: &FileSet, applied: &mut Applied) {
    let status = path(STATUS);
    let Some(merged) = applied.files.get(&status) else { return };
    let before = below.get(&status).map_or(&[][..], |state| &state.bytes);
    let (Some(old), Some(new)) = (depends::problems(before), depends::problems(&merged.bytes))
    else {
        let text = "the dependencies are too intricate to check";
        return applied.notes.push(Note::new(NoteKind::Broken, STATUS, text));
    };
    for (package, problem) in new.difference(&old) {
        let text = format!("{problem}; `apt-get -f install` in the guest repairs it");
        applied.notes.push(Note::new(NoteKind::Broken, package, text));
    }
}
