//! Which packages of a layer need one of its packages.

use super::super::Record;
use super::super::items::text_field;
use super::packages::package_name;

/// The packages among the `status` records that depend on the package `tag` (`name` or
/// `name:arch`), by name, sorted. A dependency with alternatives counts only if it names no other.
pub fn dependents(records: &[Record], tag: &str) -> Vec<String> {
    let wanted = tag.split(':').next().unwrap_or(tag);
    let mut found = Vec::new();
    for record in records.iter().filter(|record| record.key.starts_with("status:")) {
        let Some(stanza) = record.value.as_deref() else { continue };
        let Some(package) = package_name(stanza).filter(|package| package.name != wanted) else {
            continue;
        };
        let needs = ["Depends", "Pre-Depends"].iter().any(|field| {
            let text = text_field(stanza, field).unwrap_or_default();
            text.split(',').any(|clause| {
                let name = clause.split(['(', ':']).next().unwrap_or_default().trim();
                !clause.contains('|') && name == wanted
            })
        });
        if needs {
            found.push(package.name);
        }
    }
    found.sort();
    found.dedup();
    found
}
