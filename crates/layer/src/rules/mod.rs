//! Rules: which layer owns a path.
//!
//! A rules file is an ordered list of `[[rule]]` tables, a pattern over paths with conditions each,
//! and **the last rule that fits decides**. The factory's file comes first and is part of the
//! program, so that it improves with it; the site's file comes after and overrides it. The language
//! is described for its users in `docs/rules.md`.
//!
//! Patterns compile into one tree ([`index`]), so that a path costs one walk, however many rules
//! there are. Names of a guest are hostile: matching takes bounded time for any name.

mod error;
mod explain;
mod glob;
mod index;
mod lint;
mod parse;
mod pattern;

use std::fmt;

use goldleaf_tree::{GuestPath, NodeKind};
use serde::{Deserialize, Serialize};

use crate::Kind;

pub use error::{Position, RulesError};
pub use explain::{Explanation, RuleText};

use index::Index;
pub(crate) use index::Walk;

/// The factory's rules for Debian guests and those made from Debian.
pub const DEBIAN: &str = include_str!("../../rules/debian.toml");
/// The name of [`DEBIAN`] in positions and explanations.
pub const DEBIAN_NAME: &str = "factory:debian";

/// Where a rule sends what it fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Into a layer of the desktop; never [`Kind::Apps`].
    Keep(Kind),
    /// Nowhere: the image's state returns at the next reset.
    Os,
    /// Nowhere: gone at the session's end.
    Drop,
    /// Nowhere, and unreadable at the session's end.
    Shred,
    /// To the merge handler of that name.
    Merge(String),
    /// The path is no matter of layers.
    Ignore,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Keep(kind) => f.write_str(kind.name()),
            Target::Os => f.write_str("os"),
            Target::Drop => f.write_str("drop"),
            Target::Shred => f.write_str("shred"),
            Target::Merge(handler) => write!(f, "merge:{handler}"),
            Target::Ignore => f.write_str("ignore"),
        }
    }
}

/// Whose a path is; every path has exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OwnerClass {
    /// A package that the user installed or upgraded owns it, whether or not the image has it too.
    UserPackage,
    /// The image has it.
    Image,
    /// An apps layer has it.
    Apps,
    /// None of these.
    Nobody,
}

impl OwnerClass {
    const NAMES: &[(&str, OwnerClass)] = &[
        ("image", OwnerClass::Image),
        ("apps", OwnerClass::Apps),
        ("user-package", OwnerClass::UserPackage),
        ("nobody", OwnerClass::Nobody),
    ];
}

/// How a path stands to the layers below the private ones; so its fate does not depend on how many
/// sessions it took to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Below has nothing there.
    New,
    /// Below has something there.
    Changed,
    /// It is gone.
    Removed,
}

impl State {
    const NAMES: &[(&str, State)] =
        &[("new", State::New), ("changed", State::Changed), ("removed", State::Removed)];
}

/// Kinds of nodes as rules tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KindClass {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character or block device.
    Device,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

impl KindClass {
    const NAMES: &[(&str, KindClass)] = &[
        ("file", KindClass::File),
        ("directory", KindClass::Directory),
        ("symlink", KindClass::Symlink),
        ("device", KindClass::Device),
        ("fifo", KindClass::Fifo),
        ("socket", KindClass::Socket),
    ];
}

impl From<NodeKind> for KindClass {
    fn from(kind: NodeKind) -> Self {
        match kind {
            NodeKind::File => KindClass::File,
            NodeKind::Directory => KindClass::Directory,
            NodeKind::Symlink => KindClass::Symlink,
            NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. } => KindClass::Device,
            NodeKind::Fifo => KindClass::Fifo,
            NodeKind::Socket => KindClass::Socket,
        }
    }
}

/// What rules may ask about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathFacts {
    /// Whose it is.
    pub owned_by: OwnerClass,
    /// How it stands to the layers below.
    pub state: State,
    /// What it is; of a path that is gone, what it was.
    pub kind: KindClass,
}

/// A pattern as written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    pattern: String,
    at: Position,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    paths: Vec<Written>,
    target: Target,
    owned_by: Option<Vec<OwnerClass>>,
    states: Option<Vec<State>>,
    kinds: Option<Vec<KindClass>>,
    keep_directories: bool,
    edits_only: bool,
    keep: bool,
    secret: bool,
    broad: bool,
    why: String,
    at: Position,
    text: String,
}

impl Rule {
    fn empty(at: Position, text: String) -> Self {
        Self {
            paths: Vec::new(),
            target: Target::Ignore,
            owned_by: None,
            states: None,
            kinds: None,
            keep_directories: false,
            edits_only: false,
            keep: false,
            secret: false,
            broad: false,
            why: String::new(),
            at,
            text,
        }
    }

    /// Where it sends what it fits.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Directories under a rule that drops are kept, without what is in them.
    pub fn keep_directories(&self) -> bool {
        self.keep_directories
    }

    /// Of what lower layers have, only changes of content are kept: a deletion, another owner or
    /// another mode is not.
    pub fn edits_only(&self) -> bool {
        self.edits_only
    }

    /// The user's copy wins over a newer one of the image.
    pub fn keep(&self) -> bool {
        self.keep
    }

    /// What it fits is private: never shown, never shared.
    pub fn secret(&self) -> bool {
        self.secret
    }

    /// Why it exists.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Where it is written.
    pub fn position(&self) -> &Position {
        &self.at
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn fits(&self, facts: &PathFacts) -> bool {
        self.owned_by.as_ref().is_none_or(|list| list.contains(&facts.owned_by))
            && self.states.as_ref().is_none_or(|list| list.contains(&facts.state))
            && self.kinds.as_ref().is_none_or(|list| list.contains(&facts.kind))
    }
}

/// Number of a rule in its [`RuleSet`], counted over all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId(pub u32);

/// What decided: a rule, or no rule at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RuleRef {
    /// No rule fits. Files of a user's package go to user-apps, all else to user-data: what nobody
    /// knows is the user's.
    Default,
    /// This one.
    Rule(RuleId),
}

/// A site's rules, as its administrator wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRules {
    /// What errors and explanations call the file.
    pub file: String,
    /// What it says.
    pub text: String,
}

impl SiteRules {
    /// Reads them.
    pub fn parse(&self) -> Result<RuleFile, RulesError> {
        RuleFile::site(&self.file, &self.text)
    }
}

/// A rules file that has been read.
#[derive(Debug, Clone)]
pub struct RuleFile {
    rules: Vec<Rule>,
}

impl RuleFile {
    /// Reads a file of the factory. `name` is what positions and explanations call it.
    pub fn factory(name: &str, text: &str) -> Result<Self, RulesError> {
        Ok(Self { rules: parse::parse(name, text)? })
    }

    /// Reads a file of the site, and refuses over-broad rules in it.
    pub fn site(name: &str, text: &str) -> Result<Self, RulesError> {
        let rules = parse::parse(name, text)?;
        lint::check(&rules)?;
        Ok(Self { rules })
    }

    /// The factory's file for Debian guests.
    pub fn debian() -> Result<Self, RulesError> {
        Self::factory(DEBIAN_NAME, DEBIAN)
    }
}

/// Compiled rules.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    index: Index,
}

impl RuleSet {
    /// Compiles files, the factory's first. `homes` are the home directories of the guest's human
    /// accounts, for `~/`; `/root` and all of `/home/*` are always among them.
    pub fn compile(files: &[RuleFile], homes: &[GuestPath]) -> Result<Self, RulesError> {
        let homes = pattern::homes(homes);
        let rules: Vec<Rule> = files.iter().flat_map(|file| file.rules.iter().cloned()).collect();
        let mut index = Index::new();
        for (number, rule) in rules.iter().enumerate() {
            for written in &rule.paths {
                for plain in compile_pattern(written, &homes)? {
                    index.add(plain, number as u32);
                }
            }
        }
        Ok(Self { rules, index })
    }

    /// The rule that decides about a path: the last that fits.
    pub fn evaluate(&self, path: &GuestPath, facts: &PathFacts) -> RuleRef {
        self.evaluate_with(path, facts, &mut Walk::default())
    }

    /// As [`RuleSet::evaluate`], with buffers that outlive the call.
    pub(crate) fn evaluate_with(
        &self,
        path: &GuestPath,
        facts: &PathFacts,
        walk: &mut Walk,
    ) -> RuleRef {
        self.index.walk(path.components(), walk);
        let decides = |&&number: &&u32| self.rules[number as usize].fits(facts);
        walk.found.iter().find(decides).map_or(RuleRef::Default, |&n| RuleRef::Rule(RuleId(n)))
    }

    /// A rule of this set; `None` for [`RuleRef::Default`] and for numbers of another set.
    pub fn rule(&self, rule: RuleRef) -> Option<&Rule> {
        match rule {
            RuleRef::Default => None,
            RuleRef::Rule(RuleId(number)) => self.rules.get(number as usize),
        }
    }

    /// Where a decision sends a path.
    pub fn target(&self, rule: RuleRef, facts: &PathFacts) -> &Target {
        const APPS: &Target = &Target::Keep(Kind::UserApps);
        const DATA: &Target = &Target::Keep(Kind::UserData);
        match self.rule(rule) {
            Some(rule) => &rule.target,
            None if facts.owned_by == OwnerClass::UserPackage => APPS,
            None => DATA,
        }
    }

    /// All rules in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}

fn compile_pattern(
    written: &Written,
    homes: &[String],
) -> Result<Vec<pattern::Pattern>, RulesError> {
    pattern::compile(&written.pattern, homes).map_err(|problem| RulesError::Pattern {
        at: written.at.clone(),
        pattern: written.pattern.clone(),
        problem,
    })
}

#[cfg(test)]
mod tests;
