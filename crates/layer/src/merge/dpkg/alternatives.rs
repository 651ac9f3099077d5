//! `/var/lib/dpkg/alternatives/NAME` and the links `/etc/alternatives/*` (update-alternatives(1)).
//!
//! ```text
//!   auto | manual
//!   link                     where the name stands, such as /usr/bin/editor
//!   slave name ⏎ slave link  any number
//!   (empty line)
//!   candidate ⏎ priority ⏎ the slaves' paths in the order above, each may be empty
//!   (empty line)
//! ```
//! A line merge would corrupt it, because candidates list their slaves by position. Records:
//! ```text
//!   alternative:NAME:link             the link
//!   alternative:NAME:slave:SLAVE      the slave's link
//!   alternative:NAME:candidate:PATH   priority, then `slave=path` lines
//!   alternative:NAME:choice           the path chosen by hand: the user's, wins always
//! ```
//! When both sides changed a key, the stack's holds. Without a choice by hand the candidate of the
//! highest priority is linked, and a choice whose candidate is gone waits. The links outside
//! `/etc/alternatives` that point there never change, and are ordinary entries of layers.

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_tree::GuestPath;

use super::super::{
    Applied, DiffContext, FileSet, FileState, Record, Standing, differences, path, standing,
};
use super::{ALTERNATIVES, LINKS, NAME};
use crate::{Digest, Kind};

const TAG: &str = "alternative";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Alternative {
    /// The candidate chosen by hand.
    choice: Option<String>,
    link: String,
    /// Slaves by name, and where they stand.
    slaves: BTreeMap<String, String>,
    candidates: BTreeMap<String, Candidate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Candidate {
    priority: i32,
    slaves: BTreeMap<String, String>,
}

/// Name of the alternative that a path of either directory is for.
fn name_in(directory: &str, path: &GuestPath) -> Option<String> {
    let rest = path.strip_prefix(&super::super::path(directory))?;
    let name = std::str::from_utf8(rest.as_bytes()).ok()?;
    let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':' && c != '%';
    (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
}

pub(super) fn owns(path: &GuestPath) -> bool {
    name_in(ALTERNATIVES, path).is_some() || name_in(LINKS, path).is_some()
}

fn at(directory: &str, name: &str) -> Option<GuestPath> {
    path(directory).join(name.as_bytes()).ok()
}

fn parse_all(files: &FileSet) -> BTreeMap<String, Alternative> {
    let directory = path(ALTERNATIVES);
    let within = files.range(directory.clone()..);
    within
        .take_while(|(path, _)| path.starts_with(&directory))
        .filter_map(|(path, state)| {
            let name = name_in(ALTERNATIVES, path)?;
            let chosen = at(LINKS, &name).and_then(|link| files.get(&link)).filter(|l| l.is_link());
            let chosen = chosen.and_then(|link| std::str::from_utf8(&link.bytes).ok());
            Some((name, Alternative::parse(&state.bytes, chosen)?))
        })
        .collect()
}

impl Alternative {
    fn parse(bytes: &[u8], chosen: Option<&str>) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        if text.contains(|c: char| c.is_control() && c != '\n') {
            return None;
        }
        let mut lines = text.split('\n');
        let manual = lines.next()? == "manual";
        let mut parsed = Self { link: lines.next()?.to_owned(), ..Self::default() };
        let mut order = Vec::new();
        loop {
            let name = lines.next()?;
            if name.is_empty() {
                break;
            }
            parsed.slaves.insert(name.to_owned(), lines.next()?.to_owned());
            order.push(name);
        }
        while let Some(candidate) = lines.next().filter(|line| !line.is_empty()) {
            let priority = lines.next()?.trim().parse().ok()?;
            let mut slaves = BTreeMap::new();
            for name in &order {
                let path = lines.next()?;
                if !path.is_empty() {
                    slaves.insert((*name).to_owned(), path.to_owned());
                }
            }
            parsed.candidates.insert(candidate.to_owned(), Candidate { priority, slaves });
        }
        parsed.drop_unused();
        parsed.choice = chosen
            .filter(|path| manual && parsed.candidates.contains_key(*path))
            .map(str::to_owned);
        Some(parsed)
    }

    /// Slaves that no candidate has are dropped, as update-alternatives does.
    fn drop_unused(&mut self) {
        let used: BTreeSet<&String> =
            self.candidates.values().flat_map(|candidate| candidate.slaves.keys()).collect();
        self.slaves.retain(|name, _| used.contains(name));
    }

    /// The file's bytes; slaves and candidates in order of name.
    fn render(&self) -> Vec<u8> {
        let mode = if self.choice.is_some() { "manual" } else { "auto" };
        let mut lines = vec![mode.to_owned(), self.link.clone()];
        for (name, link) in &self.slaves {
            lines.extend([name.clone(), link.clone()]);
        }
        lines.push(String::new());
        for (path, candidate) in &self.candidates {
            lines.extend([path.clone(), candidate.priority.to_string()]);
            let slave = |name| candidate.slaves.get(name).cloned().unwrap_or_default();
            lines.extend(self.slaves.keys().map(slave));
        }
        lines.extend([String::new(), String::new()]);
        lines.join("\n").into_bytes()
    }

    /// The candidate that is linked: the choice, else the highest priority; of equal ones
    /// `current`, else the first.
    fn linked(&self, current: Option<&str>) -> Option<&str> {
        if let Some(choice) = self.choice.as_deref() {
            return Some(choice);
        }
        let best = self.candidates.values().map(|candidate| candidate.priority).max()?;
        let mut highest =
            self.candidates.iter().filter(|(_, candidate)| candidate.priority == best);
        let first = highest.next()?.0;
        highest
            .find(|(path, _)| current == Some(path.as_str()))
            .map_or(Some(first), |it| Some(it.0))
    }

    fn flatten(&self, name: &str, flat: &mut BTreeMap<String, Vec<u8>>) {
        let mut put = |key: String, value: Vec<u8>| {
            flat.insert(format!("{TAG}:{name}:{key}"), value);
        };
        put("link".to_owned(), self.link.clone().into_bytes());
        for (slave, link) in &self.slaves {
            put(format!("slave:{}", slave), link.clone().into_bytes());
        }
        for (path, candidate) in &self.candidates {
            put(format!("candidate:{}", path), candidate.value());
        }
        if let Some(choice) = &self.choice {
            put("choice".to_owned(), choice.clone().into_bytes());
        }
    }
}

impl Candidate {
    fn value(&self) -> Vec<u8> {
        let mut text = self.priority.to_string();
        for (name, path) in &self.slaves {
            text.push_str(&format!("\n{name}={path}"));
        }
        text.into_bytes()
    }

    fn parse(value: &str) -> Option<Self> {
        let mut lines = value.split('\n');
        let priority = lines.next()?.parse().ok()?;
        let slave = |line: &str| {
            let (name, path) = line.split_once('=')?;
            (!name.is_empty() && !path.is_empty()).then(|| (name.to_owned(), path.to_owned()))
        };
        Some(Self { priority, slaves: lines.map(slave).collect::<Option<_>>()? })
    }
}

pub(super) fn diff(below: &FileSet, after: &FileSet, context: &DiffContext<'_>) -> Vec<Record> {
    let flat = |files: &FileSet| {
        let mut flat = BTreeMap::new();
        parse_all(files).iter().for_each(|(name, it)| it.flatten(name, &mut flat));
        flat
    };
    let (old, new) = (flat(below), flat(after));
    let record = |(key, before, now): (&str, Option<&Vec<u8>>, Option<&Vec<u8>>)| {
        let target = key.split_once(":candidate:").map(|(_, path)| path);
        let target = target.and_then(|path| GuestPath::parse(path).ok());
        let chosen = key.ends_with(":choice");
        Record {
            handler: NAME.to_owned(),
            key: key.to_owned(),
            layer: context.all_to.unwrap_or(if chosen { Kind::UserData } else { Kind::UserApps }),
            package: target.and_then(|path| (context.package_of_path)(&path)),
            ancestor: before.map(|value| Digest::of(value)),
            value: now.cloned(),
        }
    };
    differences(&old, &new).into_iter().map(record).collect()
}

pub(super) fn apply(below: &FileSet, records: &[&Record], applied: &mut Applied) {
    let mut all = parse_all(below);
    let mut by_name: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for &record in records {
        match record.key.split(':').nth(1) {
            Some(name) => by_name.entry(name).or_default().push(record),
            None => applied.keep_aside(record, "the record is not in this format"),
        }
    }
    for (name, mut records) in by_name {
        let old = all.remove(name);
        let mut new = old.clone().unwrap_or_default();
        // `candidate` < `choice` < `link` < `slave`: what a choice needs stands before it.
        records.sort_by(|a, b| a.key.cmp(&b.key));
        let wanted = records.iter().any(|record| record.value.is_some());
        records.iter().for_each(|record| new.write(record, applied));
        if new.link.is_empty() && wanted {
            // Below had the alternative when these were recorded, and dropped it since.
            let aside = |record: &&Record| applied.keep_aside(record, "the alternative is gone");
            records.iter().for_each(aside);
            continue;
        }
        new.drop_unused();
        if new.choice.as_ref().is_some_and(|choice| !new.candidates.contains_key(choice)) {
            new.choice = None;
        }
        if old.as_ref() != Some(&new) {
            put(below, name, old.as_ref(), &new, applied);
        }
    }
}

impl Alternative {
    /// The value of a record's key.
    fn value(&self, key: &str) -> Option<Vec<u8>> {
        let mut parts = key.splitn(4, ':').skip(2);
        match (parts.next()?, parts.next()) {
            ("link", None) => (!self.link.is_empty()).then(|| self.link.clone().into_bytes()),
            ("choice", None) => self.choice.clone().map(String::into_bytes),
            ("slave", Some(name)) => self.slaves.get(name).map(|link| link.clone().into_bytes()),
            ("candidate", Some(path)) => self.candidates.get(path).map(Candidate::value),
            _ => None,
        }
    }

    fn write(&mut self, record: &Record, applied: &mut Applied) {
        let now = self.value(&record.key);
        let chosen = record.key.ends_with(":choice");
        match standing(now.as_deref(), record) {
            Standing::Same => return,
            Standing::Conflict if !chosen => {
                return applied.keep_aside(record, "changed below too: the stack's holds");
            }
            _ => {}
        }
        if self.set(record).is_none() {
            applied.keep_aside(record, "what it is about is missing, or not in this format");
        }
    }

    fn set(&mut self, record: &Record) -> Option<()> {
        let mut parts = record.key.splitn(4, ':').skip(2);
        let (what, part) = (parts.next()?, parts.next());
        let value = record.value.as_deref().map(std::str::from_utf8).transpose().ok()?;
        let line = |text: &str| !text.is_empty() && !text.contains('\n');
        match (what, part, value) {
            ("candidate", Some(path), Some(value)) if line(path) => {
                self.candidates.insert(path.to_owned(), Candidate::parse(value)?);
            }
            ("candidate", Some(path), None) => drop(self.candidates.remove(path)),
            ("choice", None, Some(path)) => {
                self.choice = Some(self.candidates.get_key_value(path)?.0.clone());
            }
            ("choice", None, None) => self.choice = None,
            ("link", None, Some(link)) if line(link) => link.clone_into(&mut self.link),
            ("link", None, None) => {}
            ("slave", Some(name), Some(link)) if line(name) && line(link) => {
                self.slaves.insert(name.to_owned(), link.to_owned());
            }
            // One that is still used stays, one that is not goes by itself.
            ("slave", Some(_), None) => {}
            _ => return None,
        }
        Some(())
    }
}

/// Writes the file and the links of one alternative.
fn put(
    below: &FileSet,
    name: &str,
    old: Option<&Alternative>,
    new: &Alternative,
    applied: &mut Applied,
) {
    let (Some(file), Some(link)) = (at(ALTERNATIVES, name), at(LINKS, name)) else { return };
    let current = below.get(&link).and_then(|link| std::str::from_utf8(&link.bytes).ok());
    let mut links: BTreeMap<GuestPath, String> = BTreeMap::new();
    let linked = new.linked(current);
    let target = linked.filter(|_| !new.link.is_empty());
    if let Some((target, candidate)) = target.and_then(|it| new.candidates.get_key_value(it)) {
        applied.put(below, &file, new.render(), FileState::file([], 0o644));
        links.insert(link.clone(), target.clone());
        let slaves = candidate.slaves.iter();
        links.extend(slaves.filter_map(|(name, path)| Some((at(LINKS, name)?, path.clone()))));
    } else if below.contains_key(&file) {
        applied.removed.push(file);
    }
    let names = old.into_iter().chain([new]).flat_map(|it| it.slaves.keys());
    let mine = names.filter_map(|name| at(LINKS, name)).chain([link]).collect::<BTreeSet<_>>();
    for path in mine {
        match links.remove(&path) {
            Some(target) => {
                let state = FileState::link(target);
                let old = below.get(&path);
                if !old.is_some_and(|old| old.is_link() && old.bytes == state.bytes) {
                    applied.files.insert(path, state);
                }
            }
            None if below.contains_key(&path) => applied.removed.push(path),
            None => {}
        }
    }
}
