//! The account files as tables: lines of fields between colons (passwd(5), group(5), shadow(5),
//! gshadow(5), subuid(5)).
//!
//! A line that is no entry (a comment, `+` and `-` of NIS, a wrong number of fields, a second entry
//! for a name) keeps its place and its bytes.

use std::collections::BTreeMap;

use goldleaf_tree::GuestPath;

use super::super::{FileSet, path};

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum File {
    Passwd,
    Group,
    Shadow,
    Gshadow,
    Subuid,
    Subgid,
}

impl File {
    pub(super) const ALL: [File; 6] =
        [File::Passwd, File::Group, File::Shadow, File::Gshadow, File::Subuid, File::Subgid];

    pub(super) fn path(self) -> GuestPath {
        path(match self {
            File::Passwd => "/etc/passwd",
            File::Group => "/etc/group",
            File::Shadow => "/etc/shadow",
            File::Gshadow => "/etc/gshadow",
            File::Subuid => "/etc/subuid",
            File::Subgid => "/etc/subgid",
        })
    }

    fn fields(self) -> usize {
        match self {
            File::Passwd => 7,
            File::Group | File::Gshadow => 4,
            File::Shadow => 9,
            File::Subuid | File::Subgid => 3,
        }
    }

    /// Which fields must be numbers.
    fn numbers(self) -> &'static [usize] {
        match self {
            File::Passwd => &[2, 3],
            File::Group => &[2],
            File::Shadow | File::Gshadow => &[],
            File::Subuid | File::Subgid => &[1, 2],
        }
    }

    /// Subordinate ranges: a name may have several.
    fn repeats(self) -> bool {
        matches!(self, File::Subuid | File::Subgid)
    }
}

/// An entry: its name and the fields behind it.
pub(super) type Fields = Vec<String>;

enum Line {
    Entry(Fields),
    Other(Vec<u8>),
}

/// One file, in order.
#[derive(Default)]
pub(super) struct Table {
    lines: Vec<Option<Line>>,
    by_name: BTreeMap<String, Vec<usize>>,
    added: Vec<usize>,
    changed: bool,
}

impl Table {
    pub(super) fn parse(file: File, files: &FileSet) -> Self {
        let bytes = files.get(&file.path()).map_or(&[][..], |state| &state.bytes);
        let mut table = Self::default();
        if bytes.is_empty() {
            return table;
        }
        for bytes in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n') {
            let entry = parse_line(file, bytes);
            let entry = entry.filter(|f| file.repeats() || !table.by_name.contains_key(&f[0]));
            match entry {
                Some(fields) => table.push(fields),
                None => table.lines.push(Some(Line::Other(bytes.to_vec()))),
            }
        }
        table
    }

    fn push(&mut self, fields: Fields) {
        self.by_name.entry(fields[0].clone()).or_default().push(self.lines.len());
        self.lines.push(Some(Line::Entry(fields)));
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The entries in the order of the file.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Fields> {
        self.lines.iter().filter_map(|line| match line {
            Some(Line::Entry(fields)) => Some(fields),
            _ => None,
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Fields> {
        self.all(name).next()
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Fields> {
        let places = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|&at| match self.lines.get(at) {
            Some(Some(Line::Entry(fields))) => Some(fields),
            _ => None,
        })
    }

    pub(super) fn field(&self, name: &str, at: usize) -> Option<&str> {
        self.get(name)?.get(at).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str, at: usize) -> Option<u32> {
        self.field(name, at)?.parse().ok()
    }

    pub(super) fn set_field(&mut self, name: &str, field: usize, value: String) {
        let place = self.by_name.get(name).and_then(|places| places.first());
        if let Some(Some(Line::Entry(fields))) = place.and_then(|&at| self.lines.get_mut(at)) {
            if let Some(slot) = fields.get_mut(field) {
                *slot = value;
                self.changed = true;
            }
        }
    }

    /// Replaces all entries of a name; the first keeps its place.
    pub(super) fn set(&mut self, name: &str, mut entries: Vec<Fields>) {
        self.changed = true;
        let places = self.by_name.remove(name).unwrap_or_default();
        let mut kept = Vec::new();
        entries.reverse();
        for at in places {
            self.lines[at] = entries.pop().map(Line::Entry);
            if self.lines[at].is_some() {
                kept.push(at);
            }
        }
        while let Some(fields) = entries.pop() {
            kept.push(self.lines.len());
            self.added.push(self.lines.len());
            self.lines.push(Some(Line::Entry(fields)));
        }
        if !kept.is_empty() {
            self.by_name.insert(name.to_owned(), kept);
        }
    }

    /// The file, if it was changed: what is new stands behind the old entries, by number and name,
    /// and before the lines of NIS that end many such files.
    pub(super) fn render(mut self, number: impl Fn(&Fields) -> Option<u32>) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        let mut added: Vec<Fields> = Vec::new();
        for at in std::mem::take(&mut self.added) {
            if let Some(Line::Entry(fields)) = self.lines[at].take() {
                added.push(fields);
            }
        }
        added.sort_by(|a, b| number(a).cmp(&number(b)).then_with(|| a.cmp(b)));
        let lines: Vec<Line> = self.lines.into_iter().flatten().collect();
        let nis = lines.iter().rev().take_while(|line| is_nis(line)).count();
        let (old, tail) = lines.split_at(lines.len() - nis);
        let mut bytes = Vec::new();
        old.iter().for_each(|line| write(&mut bytes, line));
        added.into_iter().for_each(|fields| write(&mut bytes, &Line::Entry(fields)));
        tail.iter().for_each(|line| write(&mut bytes, line));
        Some(bytes)
    }
}

fn is_nis(line: &Line) -> bool {
    matches!(line, Line::Other(bytes) if bytes.starts_with(b"+"))
}

fn write(bytes: &mut Vec<u8>, line: &Line) {
    match line {
        Line::Entry(fields) => bytes.extend_from_slice(fields.join(":").as_bytes()),
        Line::Other(other) => bytes.extend_from_slice(other),
    }
    bytes.push(b'\n');
}

/// Whether a name may be merged: no separator, nothing that a terminal would obey, no number.
pub(super) fn is_name(name: &str) -> bool {
    let strange = |c: char| c.is_control() || c.is_whitespace() || ":,/".contains(c);
    !name.is_empty()
        && name.len() <= 256
        && !name.starts_with(['+', '-', '#', '~'])
        && !name.contains(strange)
        && !name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits a line of `file` into its fields, if it is an entry.
pub(super) fn parse_line(file: File, bytes: &[u8]) -> Option<Fields> {
    let text = std::str::from_utf8(bytes).ok()?;
    let fields: Fields = text.split(':').map(str::to_owned).collect();
    let numbers = |&at: &usize| canonical(&fields[at]);
    let right = fields.len() == file.fields()
        && !text.contains(|c: char| c.is_control())
        && is_name(&fields[0])
        && file.numbers().iter().all(numbers);
    right.then_some(fields)
}

/// Whether text is a number as the system writes it: `0101` or `+1` would not come back the same.
fn canonical(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|number| number.to_string() == text)
}

/// The members in a list of a group.
pub(super) fn members(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|name| is_name(name))
}
