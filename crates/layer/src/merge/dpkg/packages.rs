//! What dpkg's status says about packages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use goldleaf_tree::GuestPath;

use super::super::items::{stanzas, text_field};
use super::super::{FileSet, Note, NoteKind, Record, path};
use super::{EXTENDED_STATES, STATUS, UNINCORP, UPDATES, compare_versions};

/// A package of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName {
    /// `Package`.
    pub name: String,
    /// `Architecture`.
    pub arch: String,
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.arch)
    }
}

/// How far a package is installed: the third word of `Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstallState {
    /// Only a trace of it.
    NotInstalled,
    /// Removed, but its configuration is there.
    ConfigFiles,
    /// Installed.
    Installed,
    /// Half way, in one of dpkg's six ways: only the guest can finish it.
    Unfinished,
}

/// What status and extended_states say about one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageState {
    /// Its version, empty when none is known.
    pub version: String,
    /// How far it is installed.
    pub state: InstallState,
    /// Whether it was asked for, not only pulled in by another.
    pub explicit: bool,
    /// Its digests of configuration files: (path, MD5 as text).
    pub conffiles: Vec<(GuestPath, String)>,
}

pub(super) fn install_state(stanza: &[u8]) -> InstallState {
    let status = text_field(stanza, "Status").unwrap_or_default();
    match status.split_ascii_whitespace().nth(2) {
        Some("installed") => InstallState::Installed,
        Some("config-files") => InstallState::ConfigFiles,
        Some("not-installed") | None => InstallState::NotInstalled,
        Some(_) => InstallState::Unfinished,
    }
}

pub(super) fn package_name(stanza: &[u8]) -> Option<PackageName> {
    let word = |name| {
        let text = text_field(stanza, name)?;
        let plain = |c: char| c.is_ascii_graphic() && c != ':';
        (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
    };
    Some(PackageName { name: word("Package")?, arch: word("Architecture")? })
}

fn conffiles(stanza: &[u8]) -> Vec<(GuestPath, String)> {
    let text = String::from_utf8_lossy(stanza);
    let lines = text.lines().skip_while(|line| !line.starts_with("Conffiles:")).skip(1);
    lines
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let path = GuestPath::parse(words.next()?).ok()?;
            Some((path, words.next()?.to_owned()))
        })
        .collect()
}

/// All packages that the status file names.
pub fn packages(files: &FileSet) -> BTreeMap<PackageName, PackageState> {
    let bytes = |at| files.get(&path(at)).map_or(&[][..], |state| &state.bytes);
    let auto: BTreeSet<PackageName> = stanzas(bytes(EXTENDED_STATES))
        .into_iter()
        .filter(|stanza| text_field(stanza, "Auto-Installed") == Some("1"))
        .filter_map(package_name)
        .collect();
    let state = |stanza: &[u8]| {
        let name = package_name(stanza)?;
        let state = PackageState {
            version: text_field(stanza, "Version").unwrap_or_default().to_owned(),
            state: install_state(stanza),
            explicit: !auto.contains(&name),
            conffiles: conffiles(stanza),
        };
        Some((name, state))
    };
    stanzas(bytes(STATUS)).into_iter().filter_map(state).collect()
}

/// The packages that `after` has installed and `below` has not, or not in that version.
pub fn user_packages(below: &FileSet, after: &FileSet) -> BTreeMap<PackageName, PackageState> {
    let base = packages(below);
    let mut own = packages(after);
    own.retain(|name, state| {
        let same = base.get(name).is_some_and(|old| {
            old.state == InstallState::Installed && old.version == state.version
        });
        state.state == InstallState::Installed && !same
    });
    own
}

/// Of the packages that `records` install, those that the stack below now has in the same version
/// or a higher one: the layer's files of these are shed.
pub fn superseded(below: &FileSet, records: &[Record]) -> BTreeSet<PackageName> {
    let base = packages(below);
    let own = records.iter().filter(|record| record.key.starts_with("status:"));
    own.filter_map(|record| {
        let stanza = record.value.as_deref()?;
        let name = package_name(stanza)?;
        let now = base.get(&name).filter(|now| now.state == InstallState::Installed)?;
        let version = text_field(stanza, "Version").unwrap_or_default();
        let provided = compare_versions(&now.version, version).is_ge();
        (install_state(stanza) == InstallState::Installed && provided).then_some(name)
    })
    .collect()
}

/// What says that dpkg was in the middle of something: packages half way, a journal in `updates`,
/// triggers that wait.
pub fn not_at_rest(files: &FileSet) -> Vec<Note> {
    let mut notes = Vec::new();
    let text = "dpkg was interrupted: `dpkg --configure -a` in the guest finishes it";
    for (name, state) in packages(files) {
        if state.state == InstallState::Unfinished {
            notes.push(Note::new(NoteKind::NotAtRest, name.to_string(), text));
        }
    }
    let (updates, unincorp) = (path(UPDATES), path(UNINCORP));
    for (path, state) in files {
        let journal = path.starts_with(&updates);
        if !state.bytes.is_empty() && (journal || *path == unincorp) {
            notes.push(Note::new(NoteKind::NotAtRest, path.to_string(), text));
        }
    }
    notes
}

/// The package of a file in `/var/lib/dpkg/info`: `libc6:amd64` of `libc6:amd64.list`.
pub fn package_of_info_file(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let (package, kind) = name.rsplit_once('.')?;
    let named = !package.is_empty() && package.starts_with(|c: char| c.is_ascii_alphanumeric());
    (named && !kind.is_empty()).then(|| package.to_owned())
}

/// The paths in an `info/*.list` file, without the root; lines that are no path are skipped.
pub fn parse_list(bytes: &[u8]) -> Vec<GuestPath> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"/"));
    let paths = lines.filter_map(|line| {
        let line = if line == b"/." { b"/" } else { line };
        GuestPath::parse(line).ok()
    });
    paths.filter(|path| !path.is_root()).collect()
}
