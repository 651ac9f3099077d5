//! Which name has which number: the accounts of one stack.

use std::collections::BTreeMap;

use super::super::FileSet;
use super::table::{File, Table};
use crate::Owner;

/// The ids of one kind, users or groups.
#[derive(Debug, Clone, Default)]
struct Ids {
    number_of: BTreeMap<String, u32>,
    name_of: BTreeMap<u32, String>,
    /// Subordinate ranges by their start; none overlap.
    ranges: BTreeMap<u32, Range>,
    /// Their starts and lengths, by account and the ids of its earlier ranges.
    starts: BTreeMap<String, BTreeMap<u32, (u32, u32)>>,
}

#[derive(Debug, Clone)]
struct Range {
    count: u32,
    name: String,
    /// Ids of this account's earlier ranges.
    before: u32,
}

impl Ids {
    fn parse(accounts: &Table, subordinate: &Table, users: &Table) -> Self {
        let mut ids = Ids::default();
        for fields in accounts.entries() {
            if let Ok(number) = fields[2].parse() {
                ids.number_of.insert(fields[0].clone(), number);
                ids.name_of.entry(number).or_insert_with(|| fields[0].clone());
            }
        }
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for fields in subordinate.entries() {
            if users.get(&fields[0]).is_some() {
                let before = counts.entry(&fields[0]).or_default();
                ids.add_range(fields, before);
            }
        }
        ids
    }

    fn add_range(&mut self, fields: &[String], before: &mut u32) {
        let (Ok(start), Ok(count)) = (fields[1].parse::<u32>(), fields[2].parse::<u32>()) else {
            return;
        };
        let (Some(end), Some(total)) = (start.checked_add(count), before.checked_add(count)) else {
            return;
        };
        let previous = self.ranges.range(..end).next_back();
        let overlaps = previous.is_some_and(|(&at, range)| at + range.count > start);
        if count > 0 && !overlaps {
            let name = fields[0].clone();
            self.starts.entry(name.clone()).or_default().insert(*before, (start, count));
            self.ranges.insert(start, Range { count, name, before: *before });
            *before = total;
        }
    }

    fn owner(&self, number: u32) -> Owner {
        if let Some(name) = self.name_of.get(&number) {
            return Owner::Name(name.clone());
        }
        match self.ranges.range(..=number).next_back() {
            Some((&start, range)) if number - start < range.count => {
                Owner::SubId { name: range.name.clone(), index: range.before + (number - start) }
            }
            _ => Owner::Id(number),
        }
    }

    fn number(&self, owner: &Owner) -> Option<u32> {
        match owner {
            Owner::Id(number) => Some(*number),
            Owner::Name(name) => self.number_of.get(name).copied(),
            Owner::SubId { name, index } => {
                let (before, (start, count)) =
                    self.starts.get(name)?.range(..=*index).next_back()?;
                (index - before < *count).then(|| start + (index - before))
            }
        }
    }
}

/// The names and numbers of a stack's users and groups, with the subordinate ranges of both.
#[derive(Debug, Clone, Default)]
pub struct Names {
    users: Ids,
    groups: Ids,
}

impl Names {
    /// From `/etc/{passwd,group,subuid,subgid}`. Of two accounts with one number the first counts;
    /// of two overlapping subordinate ranges also.
    pub fn parse(files: &FileSet) -> Self {
        let table = |file| Table::parse(file, files);
        let users = table(File::Passwd);
        Self {
            users: Ids::parse(&users, &table(File::Subuid), &users),
            groups: Ids::parse(&table(File::Group), &table(File::Subgid), &users),
        }
    }

    /// Who a file's owner is.
    pub fn owner_of_uid(&self, uid: u32) -> Owner {
        self.users.owner(uid)
    }

    /// Which group a file's group is.
    pub fn owner_of_gid(&self, gid: u32) -> Owner {
        self.groups.owner(gid)
    }

    /// The number of a user; `None` when the stack has no such account.
    pub fn uid_of(&self, owner: &Owner) -> Option<u32> {
        self.users.number(owner)
    }

    /// The number of a group; `None` when the stack has no such group.
    pub fn gid_of(&self, owner: &Owner) -> Option<u32> {
        self.groups.number(owner)
    }

    /// The numbers that users or groups have, for finding those that are in use without a name.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.users.name_of.keys().chain(self.groups.name_of.keys()).copied()
    }
}
