//! Refuses rules of a site that name too much: one line that drops `/home`, or that lets all of
//! `/usr` be shadowed, undoes what layers are for, and is hardly ever meant.

use goldleaf_tree::GuestPath;

use super::index::{Index, Walk};
use super::{OwnerClass, Rule, RulesError, Target, Written, compile_pattern, pattern};
use crate::Kind;

/// Directories whose whole content no single rule may claim, wherever it sends it.
const SYSTEM: &[&str] = &["/", "/usr", "/etc", "/var", "/var/lib"];
/// Directories whose whole content no single rule may lose or keep from backup.
const PRECIOUS: &[&str] = &["/home", "/home/ANY", "/root", "/opt", "/srv", "/usr/local"];
/// Names that no pattern names on purpose: what covers these covers anything.
const PROBES: &[&str] = &["\u{1}a/\u{2}b", "\u{1}a", "\u{1}a/\u{2}b/\u{3}c/\u{4}d"];

/// Refuses the first over-broad rule.
pub(super) fn check(rules: &[Rule]) -> Result<(), RulesError> {
    let homes = pattern::homes(&[]);
    for rule in rules.iter().filter(|rule| !rule.broad) {
        for written in &rule.paths {
            let mut index = Index::new();
            for plain in compile_pattern(written, &homes)? {
                index.add(plain, 0);
            }
            if let Some(covered) = protected(rule).find(|root| covers(&index, root)) {
                return Err(too_broad(rule, written, covered));
            }
        }
    }
    Ok(())
}

fn protected(rule: &Rule) -> impl Iterator<Item = &'static str> {
    let loses = match rule.target {
        Target::Keep(kind) => kind == Kind::Local,
        Target::Merge(_) => false,
        Target::Os | Target::Drop | Target::Shred | Target::Ignore => true,
    };
    let theirs = [OwnerClass::Nobody, OwnerClass::UserPackage];
    let touches = rule.owned_by.as_ref().is_none_or(|l| theirs.iter().any(|one| l.contains(one)));
    let system: &[&str] = if touches || !loses { SYSTEM } else { &[] };
    let precious: &[&str] = if touches && loses { PRECIOUS } else { &[] };
    system.iter().chain(precious).copied()
}

fn covers(index: &Index, root: &str) -> bool {
    let root = root.replace("ANY", "\u{5}e");
    let mut walk = Walk::default();
    PROBES.iter().all(|probe| {
        let Ok(path) = GuestPath::parse(format!("{root}/{probe}")) else { return false };
        index.walk(path.components(), &mut walk);
        !walk.found.is_empty()
    })
}

fn too_broad(rule: &Rule, written: &Written, covered: &str) -> RulesError {
    RulesError::TooBroad {
        at: written.at.clone(),
        pattern: written.pattern.clone(),
        covered: covered.replace("/home/ANY", "a home directory"),
        target: rule.target.to_string(),
    }
}
