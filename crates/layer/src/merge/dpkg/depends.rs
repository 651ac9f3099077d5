//! Whether the installed packages have what they need, without running anything.
//!
//! Checked: `Pre-Depends` and `Depends` (alternatives, versions, virtual packages, architecture
//! qualifiers), `Conflicts` and `Breaks`. Rules: Debian policy 7, dpkg's multi-arch specification.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::super::items::{field, stanzas};
use super::compare_versions;
use super::packages::{InstallState, PackageName, install_state, package_name};

/// Comparisons that one check may cost. A real desktop needs about 100,000; a hostile status file
/// could ask for billions.
const BUDGET: usize = 20_000_000;

struct Package<'a> {
    name: PackageName,
    version: &'a str,
    /// `Multi-Arch: foreign`: good for packages of any architecture.
    foreign: bool,
    /// `Multi-Arch: allowed`: the same, if asked for with `:any`.
    allowed: bool,
    stanza: &'a [u8],
}

/// Something that provides a name.
struct Offer<'a> {
    package: usize,
    /// `None` for a virtual package without a version.
    version: Option<&'a str>,
    real: bool,
}

struct Relation<'a> {
    name: &'a str,
    qualifier: Option<&'a str>,
    version: Option<(&'a str, &'a str)>,
}

struct Universe<'a> {
    packages: Vec<Package<'a>>,
    offers: BTreeMap<&'a str, Vec<Offer<'a>>>,
    left: usize,
}

/// A package and what is wrong with it.
pub(super) type Problem = (String, String);

/// All problems of a status file; `None` when it is too intricate to check.
pub(super) fn problems(status: &[u8]) -> Option<BTreeSet<Problem>> {
    let mut universe = Universe::new(status);
    let mut found = BTreeSet::new();
    for at in 0..universe.packages.len() {
        let package = &universe.packages[at];
        let (stanza, name) = (package.stanza, package.name.to_string());
        for tag in ["Pre-Depends", "Depends"] {
            for clause in clauses(stanza, tag) {
                if !universe.satisfied(at, clause)? {
                    found.insert((name.clone(), format!("needs {clause}")));
                }
            }
        }
        for tag in ["Conflicts", "Breaks"] {
            for clause in clauses(stanza, tag) {
                if universe.clashes(at, clause)? {
                    found.insert((name.clone(), format!("cannot stand {clause}")));
                }
            }
        }
    }
    Some(found)
}

fn clauses<'a>(stanza: &'a [u8], tag: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let text = field(stanza, tag).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.unwrap_or_default().split(',').map(str::trim).filter(|clause| !clause.is_empty())
}

fn relation(text: &str) -> Relation<'_> {
    let (name, version) = match text.split_once('(') {
        Some((name, version)) => (name, Some(version.trim_end().trim_end_matches(')'))),
        None => (text, None),
    };
    let (name, qualifier) = match name.trim().split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name.trim(), None),
    };
    let version = version.map(|version| {
        let version = version.trim();
        let end = version.find(|c| !"<>=".contains(c)).unwrap_or(version.len());
        let (operator, version) = version.split_at(end);
        (operator, version.trim())
    });
    Relation { name, qualifier, version }
}

impl Relation<'_> {
    fn accepts(&self, version: Option<&str>) -> bool {
        let Some((operator, wanted)) = self.version else { return true };
        let Some(version) = version else { return false };
        let order = compare_versions(version, wanted);
        match operator {
            "<<" => order == Ordering::Less,
            "<=" | "<" => order != Ordering::Greater,
            "=" => order == Ordering::Equal,
            ">>" => order == Ordering::Greater,
            _ => order != Ordering::Less,
        }
    }
}

impl<'a> Universe<'a> {
    fn new(status: &'a [u8]) -> Self {
        let text = |stanza, name| field(stanza, name).and_then(|b| std::str::from_utf8(b).ok());
        let mut packages = Vec::new();
        for stanza in stanzas(status) {
            let Some(name) = package_name(stanza) else { continue };
            if install_state(stanza) != InstallState::Installed {
                continue;
            }
            let multi = text(stanza, "Multi-Arch").unwrap_or_default();
            let (foreign, allowed) = (multi == "foreign", multi == "allowed");
            let version = text(stanza, "Version").unwrap_or_default();
            packages.push(Package { name, version, foreign, allowed, stanza });
        }
        let mut offers: BTreeMap<&str, Vec<Offer<'_>>> = BTreeMap::new();
        for (at, package) in packages.iter().enumerate() {
            let version = Some(package.version);
            let real = text(package.stanza, "Package").unwrap_or_default();
            offers.entry(real).or_default().push(Offer { package: at, version, real: true });
            for clause in clauses(package.stanza, "Provides") {
                let relation = relation(clause);
                let version = relation.version.map(|(_, version)| version);
                let offer = Offer { package: at, version, real: false };
                offers.entry(relation.name).or_default().push(offer);
            }
        }
        Self { packages, offers, left: BUDGET }
    }

    /// The packages, other than `asker`, that answer a relation.
    fn answers(&mut self, asker: usize, relation: &Relation<'_>) -> Option<Vec<(usize, bool)>> {
        let offers = self.offers.get(relation.name).map_or(&[][..], Vec::as_slice);
        self.left = self.left.checked_sub(offers.len() + 1)?;
        let right = offers.iter().filter(|offer| relation.accepts(offer.version));
        let right = right.filter(|offer| offer.package != asker || offer.real);
        Some(right.map(|offer| (offer.package, offer.real)).collect())
    }

    fn satisfied(&mut self, asker: usize, clause: &str) -> Option<bool> {
        for text in clause.split('|') {
            let relation = relation(text.trim());
            for (at, _) in self.answers(asker, &relation)? {
                if self.arch_fits(asker, at, relation.qualifier) {
                    return Some(true);
                }
            }
        }
        Some(false)
    }

    fn arch_fits(&self, asker: usize, at: usize, qualifier: Option<&str>) -> bool {
        let (asker, package) = (&self.packages[asker], &self.packages[at]);
        match qualifier {
            Some("any") if package.allowed => true,
            Some("any" | "native") | None => {
                let all = |arch: &str| arch == "all";
                package.foreign
                    || all(&package.name.arch)
                    || all(&asker.name.arch)
                    || package.name.arch == asker.name.arch
            }
            Some(arch) => package.name.arch == arch,
        }
    }

    /// A package never clashes with itself or with what itself provides.
    fn clashes(&mut self, asker: usize, clause: &str) -> Option<bool> {
        let relation = relation(clause);
        let same = |at: usize| self.packages[at].name.name == self.packages[asker].name.name;
        let offers = self.offers.get(relation.name).map_or(&[][..], Vec::as_slice);
        let left = self.left.checked_sub(offers.len() + 1)?;
        let arch = |at: usize| relation.qualifier.is_none_or(|q| self.packages[at].name.arch == q);
        let clash = offers.iter().any(|offer| {
            !same(offer.package) && relation.accepts(offer.version) && arch(offer.package)
        });
        self.left = left;
        Some(clash)
    }
}
