//! Writes account records onto a stack.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    Applied, ApplyContext, FileSet, FileState, Note, NoteKind, Record, Standing, standing,
};
use super::flat::{self, GroupNames};
use super::table::{Fields, File, Table, is_name, parse_line};
use super::{PEOPLE, Tables};
use crate::Kind;

/// System numbers that are given out, highest first: 100 to 999 in Debian's policy, 9.2.2.
const SYSTEM: std::ops::RangeInclusive<u32> = 100..=999;
/// Records of subordinate ranges that are written; each costs a look at all ranges of the stack.
const SUBORDINATES_MAX: usize = 1000;
/// First subordinate id: `SUB_UID_MIN` of login.defs(5).
const SUBORDINATE_MIN: u32 = 100_000;

/// Order of writing: what is removed frees names and numbers, groups stand before the accounts
/// that name them, accounts before what hangs on them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Remove,
    Group,
    GroupField,
    User,
    UserField,
    Hanging,
    Member,
}

/// A record with its key taken apart.
struct Task<'a> {
    phase: Phase,
    tag: &'a str,
    name: &'a str,
    part: Option<&'a str>,
    value: Option<&'a str>,
    record: &'a Record,
}

fn task(record: &Record) -> Option<Task<'_>> {
    let mut parts = record.key.split(':');
    let (tag, name, part) = (parts.next()?, parts.next()?, parts.next());
    let value = record.value.as_deref().map(std::str::from_utf8).transpose().ok()?;
    let clean = |text: &str| !text.contains(|c: char| c.is_control());
    let phase = match (tag, part, value) {
        ("user" | "group", None, None) => Phase::Remove,
        ("group", None, Some(_)) => Phase::Group,
        ("group", Some(_), Some(_)) => Phase::GroupField,
        ("user", None, Some(_)) => Phase::User,
        ("user", Some(_), Some(_)) => Phase::UserField,
        ("shadow" | "gshadow" | "subuid" | "subgid", None, _) => Phase::Hanging,
        ("member" | "gmember" | "gadmin", Some(user), _) if is_name(user) => Phase::Member,
        _ => return None,
    };
    let right = parts.next().is_none() && is_name(name) && value.is_none_or(clean);
    right.then_some(Task { phase, tag, name, part, value, record })
}

/// The numbers of one kind, users or groups.
#[derive(Default)]
struct Numbers {
    /// Below has them.
    taken: BTreeSet<u32>,
    /// Records ask for them.
    wanted: BTreeSet<u32>,
}

impl Numbers {
    fn of(table: &Table, reserved: &BTreeSet<u32>, wanted: BTreeSet<u32>) -> Self {
        let taken = table.entries().filter_map(|fields| fields[2].parse().ok());
        Self { taken: taken.chain(reserved.iter().copied()).collect(), wanted }
    }

    fn free(&mut self) -> Option<u32> {
        let free = |id: &u32| !self.taken.contains(id) && !self.wanted.contains(id);
        let number = SYSTEM.rev().find(free)?;
        self.wanted.insert(number);
        Some(number)
    }
}

struct Writer {
    tables: Tables,
    names: GroupNames,
    applied: Applied,
    subordinates: usize,
}

pub(super) fn apply(below: &FileSet, records: &[Record], context: &ApplyContext) -> Applied {
    let tables = Tables::parse(below);
    let names = flat::group_names(&tables.group);
    let mut writer = Writer { tables, names, applied: Applied::default(), subordinates: 0 };
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for record in records.iter().filter(|record| record.handler == super::NAME) {
        match task(record) {
            Some(task) => tasks.push(task),
            None => writer.applied.keep_aside(record, "the record is not in this format"),
        }
    }
    tasks.sort_by(|a, b| (a.phase, &a.record.key).cmp(&(b.phase, &b.record.key)));
    let (first, rest) = tasks.split_at(tasks.partition_point(|task| task.phase == Phase::Remove));
    first.iter().for_each(|task| writer.remove(task));
    writer.write(rest, context);
    writer.finish(below)
}

impl Writer {
    fn write(&mut self, tasks: &[Task<'_>], context: &ApplyContext) {
        let reserved = &context.reserved_ids;
        let wanted = |phase| tasks.iter().filter(move |t| t.phase == phase).filter_map(wanted);
        let mut gids = Numbers::of(&self.tables.group, reserved, wanted(Phase::Group).collect());
        let mut uids = Numbers::of(&self.tables.passwd, reserved, wanted(Phase::User).collect());
        let users = tasks.partition_point(|task| task.phase < Phase::User);
        for task in &tasks[..users] {
            match task.phase {
                Phase::Group => self.group(task, &mut gids),
                _ => self.field(task, &gids),
            }
        }
        self.follow_groups();
        let members = tasks.partition_point(|task| task.phase < Phase::Member);
        for task in &tasks[users..members] {
            match task.phase {
                Phase::User => self.user(task, &mut uids),
                Phase::UserField => self.field(task, &uids),
                _ => self.hanging(task),
            }
        }
        self.members(&tasks[members..]);
    }

    /// Accounts keep their primary group by name when the group got another number.
    fn follow_groups(&mut self) {
        let moved: Vec<(String, u32)> = self
            .tables
            .passwd
            .entries()
            .filter_map(|fields| {
                let old = fields[3].parse().ok()?;
                let new = self.tables.group.number(self.names.get(&old)?, 2)?;
                (new != old).then(|| (fields[0].clone(), new))
            })
            .collect();
        for (name, gid) in moved {
            self.tables.passwd.set_field(&name, 3, gid.to_string());
        }
        self.names = flat::group_names(&self.tables.group);
    }

    fn remove(&mut self, task: &Task<'_>) {
        let (table, value) = match task.tag {
            "user" => {
                let names = &self.names;
                let now = self.tables.passwd.get(task.name);
                let now = now.map(|fields| flat::user_value(fields, names));
                (&mut self.tables.passwd, now)
            }
            _ => {
                let now = self.tables.group.get(task.name).map(flat::group_value);
                (&mut self.tables.group, now)
            }
        };
        match standing(value.as_deref(), task.record) {
            Standing::Same => {}
            Standing::Clean => table.set(task.name, Vec::new()),
            Standing::Conflict => {
                self.applied.keep_aside(task.record, "changed below since it was removed");
            }
        }
    }

    /// The number that a new account or group gets; `None` when there is none left.
    fn number(&mut self, task: &Task<'_>, wanted: u32, numbers: &mut Numbers) -> Option<u32> {
        if !numbers.taken.contains(&wanted) {
            return Some(wanted);
        }
        if PEOPLE.contains(&wanted) {
            let text = format!("{wanted} belongs to another {} below, and neither moves", task.tag);
            self.applied.notes.push(Note::new(NoteKind::Clash, task.name, text));
            return Some(wanted);
        }
        let number = numbers.free()?;
        let text = format!("{} {wanted} is taken below: now {number}", task.tag);
        self.applied.notes.push(Note::new(NoteKind::Renumbered, task.name, text));
        Some(number)
    }

    fn group(&mut self, task: &Task<'_>, gids: &mut Numbers) {
        let line = format!("{}:{}:", task.name, task.value.unwrap_or_default());
        let Some(mut fields) = parse_line(File::Group, line.as_bytes()) else {
            return self.applied.keep_aside(task.record, "the record is not in this format");
        };
        let wanted = fields[2].parse().unwrap_or_default();
        if let Some(now) = self.tables.group.get(task.name) {
            if Some(flat::group_value(now)) == task.record.value {
                return;
            }
            if !(task.record.layer == Kind::UserData && PEOPLE.contains(&wanted)) {
                return self.applied.keep_aside(task.record, "the stack below has this group");
            }
            fields[3].clone_from(&now[3]);
            self.conflict(task.record);
        } else {
            let Some(number) = self.number(task, wanted, gids) else {
                return self.applied.keep_aside(task.record, "no system number is free");
            };
            fields[2] = number.to_string();
        }
        self.tables.group.set(task.name, vec![fields]);
    }

    fn user(&mut self, task: &Task<'_>, uids: &mut Numbers) {
        let Some((mut fields, group)) = user_fields(task) else {
            return self.applied.keep_aside(task.record, "the record is not in this format");
        };
        let Some(gid) = self.gid(&group) else {
            return self.applied.keep_aside(task.record, "its primary group is missing");
        };
        fields[3] = gid.to_string();
        let wanted = fields[2].parse().unwrap_or_default();
        if let Some(now) = self.tables.passwd.get(task.name) {
            if Some(flat::user_value(now, &self.names)) == task.record.value {
                return;
            }
            if !(task.record.layer == Kind::UserData && PEOPLE.contains(&wanted)) {
                return self.applied.keep_aside(task.record, "the stack below has this account");
            }
            self.conflict(task.record);
        } else {
            let Some(number) = self.number(task, wanted, uids) else {
                return self.applied.keep_aside(task.record, "no system number is free");
            };
            fields[2] = number.to_string();
        }
        self.tables.passwd.set(task.name, vec![fields]);
    }

    fn gid(&self, group: &str) -> Option<u32> {
        group.parse().ok().or_else(|| self.tables.group.number(group, 2))
    }

    fn conflict(&mut self, record: &Record) {
        let text = "changed below and in the layer: the layer's holds";
        self.applied.notes.push(Note::new(NoteKind::Conflict, &record.key, text));
    }

    /// One field of an account or group that the stack must have.
    fn field(&mut self, task: &Task<'_>, numbers: &Numbers) {
        let is_user = task.tag == "user";
        let all = if is_user { &flat::USER_FIELDS[..] } else { &flat::GROUP_FIELDS[..] };
        let place = all.iter().find(|(field, _)| Some(*field) == task.part);
        let value = task.value.unwrap_or_default();
        let (Some(&(field, at)), false) = (place, value.contains(':')) else {
            return self.applied.keep_aside(task.record, "the record is not in this format");
        };
        let table = if is_user { &self.tables.passwd } else { &self.tables.group };
        let Some(fields) = table.get(task.name) else {
            return self.applied.keep_aside(task.record, "the stack has no such entry");
        };
        let now = flat::user_field(fields, at, &self.names);
        if now == value {
            return;
        }
        let written = match field {
            "group" => self.gid(value).map(|gid| gid.to_string()),
            "uid" | "gid" => {
                let free = |number: &u32| !numbers.taken.contains(number);
                value.parse().ok().filter(free).map(|number| number.to_string())
            }
            _ => Some(value.to_owned()),
        };
        let Some(written) = written else {
            return self.applied.keep_aside(task.record, "the number or group is not to be had");
        };
        if standing(Some(now.as_bytes()), task.record) == Standing::Conflict {
            self.conflict(task.record);
        }
        let table = if is_user { &mut self.tables.passwd } else { &mut self.tables.group };
        table.set_field(task.name, at, written);
    }

    /// A line of shadow or gshadow, or subordinate ranges.
    fn hanging(&mut self, task: &Task<'_>) {
        let now = self.hanging_now(task);
        let standing = standing(now.as_deref(), task.record);
        if standing == Standing::Same {
            return;
        }
        self.subordinates += usize::from(task.tag.starts_with("sub"));
        if self.subordinates > SUBORDINATES_MAX {
            return self.applied.keep_aside(task.record, "too many subordinate ranges");
        }
        let on = if task.tag == "gshadow" { &self.tables.group } else { &self.tables.passwd };
        if task.value.is_some() && on.get(task.name).is_none() {
            return self.applied.keep_aside(task.record, "the stack has no such entry");
        }
        if standing == Standing::Conflict {
            if task.record.layer != Kind::UserData || task.value.is_none() {
                let text = "changed below and in the layer: the stack's holds";
                return self.applied.keep_aside(task.record, text);
            }
            self.conflict(task.record);
        }
        let Some(entries) = self.hanging_entries(task) else {
            return self.applied.keep_aside(task.record, "the record is not in this format");
        };
        self.hanging_table(task).set(task.name, entries);
    }

    fn hanging_now(&self, task: &Task<'_>) -> Option<Vec<u8>> {
        match task.tag {
            "shadow" => self.tables.shadow.get(task.name).map(flat::shadow_value),
            "gshadow" => self.tables.gshadow.field(task.name, 1).map(|text| text.into()),
            "subuid" => flat::ranges_value(self.tables.subuid.all(task.name)),
            _ => flat::ranges_value(self.tables.subgid.all(task.name)),
        }
    }

    fn hanging_table(&mut self, task: &Task<'_>) -> &mut Table {
        match task.tag {
            "shadow" => &mut self.tables.shadow,
            "gshadow" => &mut self.tables.gshadow,
            "subuid" => &mut self.tables.subuid,
            _ => &mut self.tables.subgid,
        }
    }

    fn hanging_entries(&self, task: &Task<'_>) -> Option<Vec<Fields>> {
        let Some(value) = task.value else { return Some(Vec::new()) };
        let line = format!("{}:{value}", task.name);
        match task.tag {
            "shadow" => Some(vec![parse_line(File::Shadow, line.as_bytes())?]),
            "gshadow" => {
                let mut fields = parse_line(File::Gshadow, format!("{line}::").as_bytes())?;
                if let Some(now) = self.tables.gshadow.get(task.name) {
                    fields[2..].clone_from_slice(&now[2..]);
                }
                Some(vec![fields])
            }
            "subuid" => ranges(task.name, value, &self.tables.subuid),
            _ => ranges(task.name, value, &self.tables.subgid),
        }
    }

    /// Members, a list at a time: one list may have very many.
    fn members(&mut self, tasks: &[Task<'_>]) {
        let mut lists: BTreeMap<(&str, &str), BTreeMap<&str, &Task<'_>>> = BTreeMap::new();
        for task in tasks {
            let list = lists.entry((task.tag, task.name)).or_default();
            list.insert(task.part.unwrap_or_default(), task);
        }
        for ((tag, group), tasks) in lists {
            self.member_list(tag, group, &tasks);
        }
    }

    fn member_list(&mut self, tag: &str, group: &str, tasks: &BTreeMap<&str, &Task<'_>>) {
        let at = if tag == "gadmin" { 2 } else { 3 };
        let table = if tag == "member" { &self.tables.group } else { &self.tables.gshadow };
        let list = table.field(group, at).map(str::to_owned);
        let missing = list.is_none();
        let list = list.unwrap_or_default();
        let had: BTreeSet<&str> = list.split(',').collect();
        let mut adds = Vec::new();
        for (user, task) in tasks {
            let local = self.tables.passwd.get(user).is_some();
            if task.value.is_some() && (missing || (task.value == Some("local") && !local)) {
                self.applied.keep_aside(task.record, "the group or the account is missing");
            } else if task.value.is_some() && !had.contains(user) {
                adds.push(*user);
            }
        }
        let gone = |user: &&str| tasks.get(user).is_some_and(|task| task.value.is_none());
        let stays = list.split(',').filter(|user| !user.is_empty() && !gone(user));
        let new = stays.chain(adds).collect::<Vec<_>>().join(",");
        if new != list {
            let tables = &mut self.tables;
            let table = if tag == "member" { &mut tables.group } else { &mut tables.gshadow };
            table.set_field(group, at, new);
        }
    }

    fn finish(mut self, below: &FileSet) -> Applied {
        let shadow = self.tables.group.number("shadow", 2).unwrap_or(0);
        let tables = self.tables;
        let numbers = |table: &Table| -> BTreeMap<String, u32> {
            let number = |fields: &Fields| Some((fields[0].clone(), fields[2].parse().ok()?));
            table.entries().filter_map(number).collect()
        };
        let (uids, gids) = (numbers(&tables.passwd), numbers(&tables.group));
        let files = [
            (File::Passwd, tables.passwd),
            (File::Group, tables.group),
            (File::Shadow, tables.shadow),
            (File::Gshadow, tables.gshadow),
            (File::Subuid, tables.subuid),
            (File::Subgid, tables.subgid),
        ];
        for (file, table) in files {
            let secret = matches!(file, File::Shadow | File::Gshadow);
            let mut fresh = FileState::file([], if secret { 0o640 } else { 0o644 });
            fresh.gid = if secret { shadow } else { 0 };
            let is_group = matches!(file, File::Group | File::Gshadow);
            let numbers = if is_group { &gids } else { &uids };
            let number = |fields: &Fields| numbers.get(&fields[0]).copied();
            if let Some(bytes) = table.render(number) {
                self.applied.put(below, &file.path(), bytes, fresh);
            }
        }
        self.applied
    }
}

/// The number that a new account or group asks for.
fn wanted(task: &Task<'_>) -> Option<u32> {
    task.value?.split(':').nth(1)?.parse().ok()
}

/// The fields of a whole account, and its group, whose number is not known yet.
fn user_fields(task: &Task<'_>) -> Option<(Fields, String)> {
    let mut parts: Vec<&str> = task.value?.split(':').collect();
    let group = std::mem::replace(parts.get_mut(2)?, "0");
    let line = format!("{}:{}", task.name, parts.join(":"));
    Some((parse_line(File::Passwd, line.as_bytes())?, group.to_owned()))
}

/// The entries for subordinate ranges; one that overlaps another account's moves behind them all.
fn ranges(name: &str, value: &str, table: &Table) -> Option<Vec<Fields>> {
    let others: BTreeMap<u64, u64> = table
        .entries()
        .filter(|fields| fields[0] != name)
        .filter_map(|fields| {
            let start: u64 = fields[1].parse().ok()?;
            Some((start, start + fields[2].parse::<u64>().ok()?))
        })
        .collect();
    let top = others.values().copied().max().unwrap_or_default();
    let mut next = top.max(u64::from(SUBORDINATE_MIN));
    let mut entries = Vec::new();
    for range in value.split(',') {
        let (start, count) = range.split_once(':')?;
        let (mut start, count) = (start.parse::<u64>().ok()?, count.parse::<u64>().ok()?);
        let before = others.range(..start.saturating_add(count)).next_back();
        if before.is_some_and(|(_, &end)| end > start) {
            start = next;
        }
        next = next.max(start.checked_add(count).filter(|&end| end <= u64::from(u32::MAX))?);
        let line = format!("{name}:{start}:{count}");
        entries.push(parse_line(File::Subuid, line.as_bytes())?);
    }
    Some(entries)
}
