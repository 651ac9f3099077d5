//! The engine for files that are sets of keyed items: lines, groups of three lines, or stanzas.
//!
//! A [`Format`] says how a file falls into items and what the key of each is; the engine does the
//! difference and the writing. Items without a key (comments, malformed ones, second items for a
//! key) stay where they are below, and are not looked at in a session.

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_tree::GuestPath;

use super::{
    Applied, DiffContext, FileSet, FileState, Note, NoteKind, Record, Standing, differences,
    escape, standing,
};
use crate::{Digest, Kind};

/// How a file falls into items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// Each line is an item.
    Lines,
    /// Each three lines are an item (diversions).
    Triples,
    /// Runs of lines between empty lines (RFC 822 style, as dpkg and debconf write them).
    Stanzas,
}

/// Which side holds when both changed a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wins {
    /// The stack below; the record waits in its layer.
    Below,
    /// The layer.
    Layer,
}

/// Settles a conflict between what below has and what the layer wants.
pub(super) type Settle = fn(Option<&[u8]>, Option<&[u8]>) -> Wins;

/// A kind of file.
pub(super) struct Format {
    /// First part of its records' keys; without `:`.
    pub tag: &'static str,
    /// How it falls into items.
    pub split: Split,
    /// The key of an item; `None` for a comment.
    pub key: fn(&[u8]) -> Option<Vec<u8>>,
    /// The package that an item names.
    pub package: fn(&[u8]) -> Option<String>,
    /// The layer of a record, told whether below had the key.
    pub layer: fn(bool) -> Kind,
    /// Settles a conflict.
    pub settle: Settle,
    /// Permissions of a file that below does not have.
    pub mode: u16,
    /// Whether a file without items is removed, and an absent one has none.
    pub sparse: bool,
}

/// One item: a key, if it has one, and its bytes without the end of its last line.
struct Item<'a> {
    key: Option<String>,
    bytes: &'a [u8],
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n')
}

fn pieces(split: Split, bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.is_empty() {
        return Vec::new();
    }
    match split {
        Split::Lines => lines(bytes).collect(),
        Split::Triples => runs(bytes, |seen, _| seen == 3, |_| false),
        Split::Stanzas => stanzas(bytes),
    }
}

/// The stanzas of a file, without the empty lines between them.
pub(super) fn stanzas(bytes: &[u8]) -> Vec<&[u8]> {
    runs(bytes, |_, line| line.is_empty(), <[u8]>::is_empty)
}

/// Cuts at lines: before a line for which `cut(lines so far, line)`; `skip` lines are in no run.
fn runs(
    bytes: &[u8],
    cut: impl Fn(usize, &[u8]) -> bool,
    skip: impl Fn(&[u8]) -> bool,
) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let (mut start, mut end, mut seen, mut at) = (0, 0, 0, 0);
    for line in lines(bytes) {
        if seen > 0 && cut(seen, line) {
            found.push(&bytes[start..end]);
            seen = 0;
        }
        if !skip(line) {
            if seen == 0 {
                start = at;
            }
            seen += 1;
            end = at + line.len();
        }
        at += line.len() + 1;
    }
    if seen > 0 {
        found.push(&bytes[start..end]);
    }
    found
}

fn parse<'a>(format: &Format, bytes: &'a [u8]) -> Vec<Item<'a>> {
    let mut seen = BTreeSet::new();
    pieces(format.split, bytes)
        .into_iter()
        .map(|bytes| {
            let key = (format.key)(bytes).map(|key| escape(&key));
            let key = key.filter(|key| seen.insert(key.clone()));
            Item { key, bytes }
        })
        .collect()
}

fn keyed<'a>(format: &Format, bytes: &'a [u8]) -> BTreeMap<String, &'a [u8]> {
    let items = parse(format, bytes).into_iter();
    items.filter_map(|item| Some((item.key?, item.bytes))).collect()
}

/// The records for one file; `prefix` stands before the keys.
pub(super) fn diff(
    handler: &str,
    format: &Format,
    prefix: &str,
    below: Option<&FileState>,
    after: Option<&FileState>,
    context: &DiffContext<'_>,
) -> Vec<Record> {
    if after.is_none() && !format.sparse {
        return Vec::new();
    }
    let before = keyed(format, below.map_or(&[], |state| &state.bytes));
    let now = keyed(format, after.map_or(&[], |state| &state.bytes));
    let record = |(key, old, new): (&str, Option<&&[u8]>, Option<&&[u8]>)| Record {
        handler: handler.to_owned(),
        key: format!("{prefix}:{key}"),
        layer: context.all_to.unwrap_or((format.layer)(old.is_some())),
        package: new.or(old).and_then(|item| (format.package)(item)),
        ancestor: old.map(|bytes| Digest::of(bytes)),
        value: new.map(|bytes| bytes.to_vec()),
    };
    differences(&before, &now).into_iter().map(record).collect()
}

/// Whether a value is one item of the format with that key: a record must not smuggle in others.
fn fits(format: &Format, key: &str, value: &[u8]) -> bool {
    let items = parse(format, value);
    items.len() == 1 && items[0].bytes.len() == value.len() && items[0].key.as_deref() == Some(key)
}

/// Writes records onto one file; each comes with its key, without the prefix.
pub(super) fn apply(
    format: &Format,
    path: &GuestPath,
    below: &FileSet,
    records: &BTreeMap<&str, &Record>,
    applied: &mut Applied,
) {
    let old = below.get(path).map_or(&[][..], |state| &state.bytes);
    let items = parse(format, old);
    let now: BTreeMap<&str, &[u8]> =
        items.iter().filter_map(|item| Some((item.key.as_deref()?, item.bytes))).collect();
    let mut changes: BTreeMap<&str, Option<&[u8]>> = BTreeMap::new();
    for (&key, &record) in records {
        let value = record.value.as_deref();
        if value.is_some_and(|value| !fits(format, key, value)) {
            applied.keep_aside(record, "the record is not in the file's format");
            continue;
        }
        let here = now.get(key).copied();
        let write = match standing(here, record) {
            Standing::Same => false,
            Standing::Clean => true,
            Standing::Conflict => settle(format, here, record, applied),
        };
        if write {
            changes.insert(key, value);
        }
    }
    if changes.is_empty() {
        return;
    }
    let bytes = render(format, &items, &changes);
    if bytes.is_empty() && format.sparse {
        if below.contains_key(path) {
            applied.removed.push(path.clone());
        }
        return;
    }
    applied.put(below, path, bytes, FileState::file([], format.mode));
}

fn settle(format: &Format, here: Option<&[u8]>, record: &Record, applied: &mut Applied) -> bool {
    match (format.settle)(here, record.value.as_deref()) {
        Wins::Layer => {
            let text = "changed below and in the layer: the layer's holds";
            applied.notes.push(Note::new(NoteKind::Conflict, &record.key, text));
            true
        }
        Wins::Below => {
            applied.keep_aside(record, "changed below and in the layer: the stack's holds");
            false
        }
    }
}

/// The file with changes made: what stays keeps its place; new stanzas go to their place when
/// all stand in order, everything else new to the end.
fn render(format: &Format, items: &[Item<'_>], changes: &BTreeMap<&str, Option<&[u8]>>) -> Vec<u8> {
    let less = |a: &Item<'_>, b: &Item<'_>| {
        a.key.as_deref().is_some_and(|a| order(a, b.key.as_deref()).is_lt())
    };
    let ordered = format.split == Split::Stanzas && items.is_sorted_by(less);
    let mut kept: Vec<(Option<&str>, &[u8])> = Vec::new();
    for item in items {
        match item.key.as_deref().map(|key| (key, changes.get(key))) {
            Some((_, Some(None))) => {}
            Some((key, Some(Some(value)))) => kept.push((Some(key), value)),
            _ => kept.push((item.key.as_deref(), item.bytes)),
        }
    }
    let had: BTreeSet<&str> = items.iter().filter_map(|item| item.key.as_deref()).collect();
    let new = changes.iter().filter(|(key, _)| !had.contains(*key));
    kept.extend(new.filter_map(|(key, value)| Some((Some(*key), (*value)?))));
    if ordered {
        kept.sort_by(|(a, _), (b, _)| order(a.unwrap_or_default(), *b));
    }
    let mut bytes = Vec::new();
    for (_, item) in kept {
        bytes.extend_from_slice(item);
        bytes.push(b'\n');
        if format.split == Split::Stanzas {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// The order in which dpkg writes its stanzas: by name, then architecture. A key without `:` is in
/// plain order of its bytes.
fn order(a: &str, b: Option<&str>) -> std::cmp::Ordering {
    a.split(':').cmp(b.unwrap_or_default().split(':'))
}

/// The value of a field of a stanza, first line only; field names are matched without case.
pub(super) fn field<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines(stanza).find_map(|line| {
        let rest = line.get(name.len()..)?.strip_prefix(b":")?;
        line[..name.len()].eq_ignore_ascii_case(name.as_bytes()).then(|| rest.trim_ascii())
    })
}

/// As [`field`], as text.
pub(super) fn text_field<'a>(stanza: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(field(stanza, name)?).ok()
}

/// Removes what stands before the first `:` of a record's key.
pub(super) fn after_tag<'a>(record: &'a Record, tag: &str) -> Option<&'a str> {
    record.key.strip_prefix(tag)?.strip_prefix(':')
}
