//! The table of docs/conflicts.md, made true case by case: each in a directory of its own, all in
//! one desktop with one session over one version of an image and a start over the next. The page is
//! what is read here, so that the two cannot drift apart.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use goldleaf_player::desktop;
use rustix::fs::XattrFlags;

use super::ground::Ground;
use super::seen::{Look, What, look};
use crate::Result;

const PAGE: &str = include_str!("../../../../docs/conflicts.md");
/// A site's rules, for the table that needs one.
const RULES: &str = "[[rule]]\npath = '/usr/share/kept/**'\nto = 'user-apps'\nkeep = true\n";
const ANN: u32 = 1000;

/// One line of the page.
struct Case {
    /// The directory that the case has for itself; none for a line of the accounts.
    place: Option<String>,
    /// What the image had, the user left, the image has, the next start shows.
    states: [String; 4],
}

/// Where the cases of a heading are made.
fn place(heading: &str) -> Result<Option<&'static str>> {
    let places = [
        ("Documents", Some("home/ann")),
        ("Settings", Some("etc")),
        ("Applications", Some("opt")),
        ("Caches", Some("home/ann/.cache")),
        ("Identity", Some("etc/NetworkManager/system-connections")),
        ("The system", Some("usr/share")),
        ("What a site keeps", Some("usr/share/kept")),
        ("Accounts", None),
    ];
    let known = places.iter().find(|(name, _)| heading.starts_with(name));
    known.map(|(_, place)| *place).ok_or_else(|| format!("no place for {heading:?}").into())
}

fn cases() -> Result<Vec<Case>> {
    let (mut cases, mut at) = (Vec::new(), None);
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            at = Some(place(heading)?);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let codes: Vec<&str> =
            cells.iter().filter_map(|c| c.strip_prefix('`')?.strip_suffix('`')).collect();
        if let ([had, left, has, shows], Some(at)) = (codes[..].as_ref(), at) {
            let number = cases.len();
            let place = at.map(|place: &str| format!("{place}/case{number}"));
            cases.push(Case { place, states: [had, left, has, shows].map(|s| (*s).to_owned()) });
        }
    }
    Ok(cases)
}

/// Makes all cases; how many there are, and what is wrong.
pub fn run(bug: Option<&str>) -> Result<(u64, Vec<String>)> {
    let (ground, cases) = (Ground::new(bug)?, cases()?);
    ground.image("golden", |root| {
        super::life::settle(root, &mut crate::dice::Dice::new(1, 1))?;
        make_all(root, &cases, 0)
    })?;
    ground.livepc("golden", "golden", Some(RULES))?;
    desktop::create(&ground.home, "conflicts", "golden")?;
    ground.session("conflicts", |root| make_all(root, &cases, 1))?;
    ground.image("golden", |root| make_all(root, &cases, 2))?;
    let mut wrong = Vec::new();
    ground.session("conflicts", |root| {
        let seen = look(root)?;
        let accounts = fs::read_to_string(root.join("etc/passwd"))?;
        for case in &cases {
            let found = match &case.place {
                Some(place) => show(&seen, place),
                None => show_account(&accounts, case),
            };
            if found != normal(&case.states[3]) {
                let [had, left, has, shows] = &case.states;
                let place = case.place.as_deref().unwrap_or("etc/passwd");
                wrong.push(format!(
                    "/{place}: had {had}, left {left}, has {has}: {found}, not {shows}"
                ));
            }
        }
        Ok(())
    })?;
    ground.check("conflicts")?;
    Ok((cases.len() as u64, wrong))
}

fn items(state: &str) -> impl Iterator<Item = &str> {
    state.split(',').map(str::trim).filter(|item| *item != "-")
}

fn normal(state: &str) -> String {
    let mut all: Vec<&str> = items(state).collect();
    all.sort_unstable();
    all.join(", ")
}

fn make_all(root: &Path, cases: &[Case], which: usize) -> Result<()> {
    for case in cases {
        match &case.place {
            Some(place) => make(&root.join(place), &case.states, which)?,
            None => make_account(root, case, which)?,
        }
    }
    Ok(())
}

/// Turns one state into another the way that a person would: what stays is not touched.
fn make(place: &Path, states: &[String; 4], which: usize) -> Result<()> {
    fs::create_dir_all(place)?;
    let was = match which {
        0 => "-",
        _ => &states[0],
    };
    let (old, new): (Vec<&str>, Vec<&str>) =
        (items(was).collect(), items(&states[which]).collect());
    let renamed = rename(place, &old, &new)?;
    for item in old.iter().rev().filter(|item| !new.contains(item)) {
        let path = place.join(part(item).0);
        let kept =
            new.iter().any(|other| part(other).0 == part(item).0 && kind(other) == kind(item));
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_dir() && !kept => fs::remove_dir_all(&path)?,
            Ok(data) if !data.is_dir() && (!kept || kind(item) != '=') => fs::remove_file(&path)?,
            _ => {}
        }
    }
    for item in new.iter().filter(|item| !old.contains(item) && renamed != Some(**item)) {
        make_item(place, item, old.iter().find(|was| part(was).0 == part(item).0).copied())?;
    }
    Ok(())
}

/// A file that is all there is and changes its name only is renamed.
fn rename<'a>(place: &Path, old: &[&'a str], new: &[&'a str]) -> Result<Option<&'a str>> {
    let ([was], [is]) = (old, new) else { return Ok(None) };
    let (from, to) = (part(was), part(is));
    if from.0 == to.0 || from.1 != to.1 || kind(was) != '=' {
        return Ok(None);
    }
    fs::rename(place.join(from.0), place.join(to.0))?;
    Ok(Some(is))
}

/// The name, and all behind it.
fn part(item: &str) -> (&str, &str) {
    let cut = if item.contains("==") || item.contains('=') || item.contains('>') {
        item.find(['=', '>'])
    } else {
        item.find(['@', ':', '+']).or(Some(item.len()))
    };
    let (name, rest) = item.split_at(cut.unwrap_or(item.len()));
    (name.trim_end_matches('/'), rest)
}

/// `=` a file, `e` another name of one, `>` a link, `/` a directory.
fn kind(item: &str) -> char {
    match part(item).1 {
        rest if rest.starts_with("==") => 'e',
        rest if rest.starts_with('=') => '=',
        rest if rest.starts_with('>') => '>',
        _ => '/',
    }
}

fn make_item(place: &Path, item: &str, was: Option<&str>) -> Result<()> {
    let (name, rest) = part(item);
    let path = place.join(name);
    match kind(item) {
        'e' => {
            if path.exists() {
                fs::remove_file(&path)?;
            }
            return Ok(fs::hard_link(place.join(&rest[2..]), &path)?);
        }
        '>' => return Ok(symlink(&rest[1..], &path)?),
        '/' if !path.exists() => fs::create_dir(&path)?,
        '=' => {
            let content = content(rest);
            let same =
                was.is_some_and(|was| kind(was) == '=' && self::content(part(was).1) == content);
            if !same {
                fs::write(&path, content)?;
            }
        }
        _ => {}
    }
    attributes(&path, rest)
}

fn content(rest: &str) -> &str {
    let text = rest.trim_start_matches('=');
    &text[..text.find([':', '@', '+']).unwrap_or(text.len())]
}

fn attributes(path: &Path, rest: &str) -> Result<()> {
    let default = if fs::symlink_metadata(path)?.is_dir() { 0o755 } else { 0o644 };
    let mode = rest.split_once(':').map(|(_, text)| text.split(['@', '+']).next().unwrap_or(text));
    let mode = mode.map_or(Ok(default), |text| u32::from_str_radix(text, 8))?;
    if rest.contains("@ann") {
        lchown(path, Some(ANN), Some(ANN))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if rest.contains("+note") {
        rustix::fs::lsetxattr(path, "user.note", b"1", XattrFlags::empty())?;
    }
    if rest.contains("+acl") {
        rustix::fs::lsetxattr(path, ACCESS_LIST, &access_list(), XattrFlags::empty())?;
    }
    Ok(())
}

const ACCESS_LIST: &str = "system.posix_acl_access";

/// `u::rw-,u:ann:r--,g::r--,m::r--,o::r--` as the kernel takes it: the mode stays 644.
fn access_list() -> Vec<u8> {
    let none = u32::MAX;
    let entries = [(1, 6, none), (2, 4, ANN), (4, 4, none), (16, 4, none), (32, 4, none)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, may, id) in entries {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(may));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

/// What is in a case's directory, in the words of the page.
fn show(seen: &Look, place: &str) -> String {
    let inside = |path: &str| path.strip_prefix(place)?.strip_prefix('/').map(str::to_owned);
    let mut all = Vec::new();
    for (path, node) in &seen.tree {
        let Some(name) = inside(path) else { continue };
        let first = node.names.as_deref().and_then(inside).filter(|first| *first != name);
        if let Some(first) = first {
            all.push(format!("{name}=={first}"));
            continue;
        }
        let (mut text, usual) = match &node.what {
            What::Directory => (format!("{name}/"), 0o755),
            What::File(bytes) => (format!("{name}={}", String::from_utf8_lossy(bytes)), 0o644),
            What::Link(target) => (format!("{name}>{target}"), 0o777),
            What::Fifo => (format!("{name}|"), 0o644),
        };
        if node.mode != usual {
            text.push_str(&format!(":{:o}", node.mode));
        }
        if node.owner == (ANN, ANN) {
            text.push_str("@ann");
        }
        for name in node.xattrs.keys() {
            text.push_str(if name == ACCESS_LIST { "+acl" } else { "+note" });
        }
        all.push(text);
    }
    all.sort();
    all.join(", ")
}

/// `name:number:shell` as a line of the accounts.
fn account(state: &str) -> Option<String> {
    let parts: Vec<&str> = state.split(':').collect();
    let [name, number, shell] = parts[..] else { return None };
    Some(format!("{name}:x:{number}:100::/:/bin/{shell}"))
}

/// Names are told apart by the number of the case's line.
fn make_account(root: &Path, case: &Case, which: usize) -> Result<()> {
    let path = root.join("etc/passwd");
    let text = fs::read_to_string(&path)?;
    let before = if which == 0 { None } else { account(&case.states[0]) };
    let mut lines: Vec<String> =
        text.lines().filter(|line| Some(*line) != before.as_deref()).map(Into::into).collect();
    lines.extend(account(&case.states[which]));
    Ok(fs::write(path, lines.join("\n") + "\n")?)
}

fn show_account(accounts: &str, case: &Case) -> String {
    let name = case.states.iter().find_map(|state| state.split_once(':')).map_or("", |one| one.0);
    let found = accounts.lines().find(|line| line.split(':').next() == Some(name));
    let Some(line) = found else { return String::new() };
    let parts: Vec<&str> = line.split(':').collect();
    let shell = parts.last().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    format!("{name}:{}:{shell}", parts.get(2).unwrap_or(&""))
}
