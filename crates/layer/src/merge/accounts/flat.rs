//! The account files as one map from keys to values, which is what records are about.

use std::collections::BTreeMap;

use super::Tables;
use super::table::{Fields, Table, members};

/// Fields of an account in passwd, by place.
pub(super) const USER_FIELDS: [(&str, usize); 6] =
    [("password", 1), ("uid", 2), ("group", 3), ("gecos", 4), ("home", 5), ("shell", 6)];
/// Fields of a group, by place.
pub(super) const GROUP_FIELDS: [(&str, usize); 2] = [("password", 1), ("gid", 2)];

/// Names of group numbers; of two groups with one number the first counts.
pub(super) type GroupNames = BTreeMap<u32, String>;

pub(super) fn group_names(group: &Table) -> GroupNames {
    let mut names = GroupNames::new();
    for fields in group.entries() {
        if let Ok(number) = fields[2].parse() {
            names.entry(number).or_insert_with(|| fields[0].clone());
        }
    }
    names
}

/// A field of an account with the group by name.
pub(super) fn user_field(fields: &Fields, at: usize, names: &GroupNames) -> String {
    let value = fields.get(at).cloned().unwrap_or_default();
    match value.parse().ok().and_then(|number: u32| names.get(&number)) {
        Some(name) if at == 3 => name.clone(),
        _ => value,
    }
}

pub(super) fn user_value(fields: &Fields, names: &GroupNames) -> Vec<u8> {
    let parts: Vec<String> = (1..7).map(|at| user_field(fields, at, names)).collect();
    parts.join(":").into_bytes()
}

pub(super) fn group_value(fields: &Fields) -> Vec<u8> {
    fields[1..3].join(":").into_bytes()
}

pub(super) fn shadow_value(fields: &Fields) -> Vec<u8> {
    fields[1..].join(":").into_bytes()
}

pub(super) fn ranges_value<'a>(ranges: impl Iterator<Item = &'a Fields>) -> Option<Vec<u8>> {
    let ranges: Vec<String> = ranges.map(|fields| fields[1..3].join(":")).collect();
    (!ranges.is_empty()).then(|| ranges.join(",").into_bytes())
}

/// The value of a membership.
pub(super) fn member_value(passwd: &Table, user: &str) -> &'static [u8] {
    if passwd.get(user).is_some() { b"local" } else { b"foreign" }
}

/// All keys of `tables`; accounts and groups that `other` has too are told field by field.
pub(super) fn flatten(tables: &Tables, other: &Tables) -> BTreeMap<String, Vec<u8>> {
    let mut flat = BTreeMap::new();
    users(tables, other, &mut flat);
    groups(tables, other, &mut flat);
    for fields in tables.shadow.entries() {
        flat.insert(format!("shadow:{}", fields[0]), shadow_value(fields));
    }
    for fields in tables.gshadow.entries() {
        flat.insert(format!("gshadow:{}", fields[0]), fields[1].clone().into_bytes());
    }
    for (tag, table) in [("subuid", &tables.subuid), ("subgid", &tables.subgid)] {
        for name in table.names() {
            flat.extend(
                ranges_value(table.all(name)).map(|value| (format!("{tag}:{name}"), value)),
            );
        }
    }
    let lists = [("member", &tables.group, 3), ("gadmin", &tables.gshadow, 2)];
    for (tag, table, at) in lists.into_iter().chain([("gmember", &tables.gshadow, 3)]) {
        for fields in table.entries() {
            for user in members(&fields[at]) {
                let value = member_value(&tables.passwd, user).to_vec();
                flat.insert(format!("{tag}:{}:{user}", fields[0]), value);
            }
        }
    }
    flat
}

fn users(tables: &Tables, other: &Tables, flat: &mut BTreeMap<String, Vec<u8>>) {
    let names = group_names(&tables.group);
    for fields in tables.passwd.entries() {
        let name = &fields[0];
        if other.passwd.get(name).is_none() {
            flat.insert(format!("user:{name}"), user_value(fields, &names));
            continue;
        }
        for (field, at) in USER_FIELDS {
            let value = user_field(fields, at, &names).into_bytes();
            flat.insert(format!("user:{name}:{field}"), value);
        }
    }
}

fn groups(tables: &Tables, other: &Tables, flat: &mut BTreeMap<String, Vec<u8>>) {
    for fields in tables.group.entries() {
        let name = &fields[0];
        if other.group.get(name).is_none() {
            flat.insert(format!("group:{name}"), group_value(fields));
            continue;
        }
        for (field, at) in GROUP_FIELDS {
            flat.insert(format!("group:{name}:{field}"), fields[at].clone().into_bytes());
        }
    }
}
