//! The rules that a task goes by: the factory's and the site's.

use goldleaf_layer::merge::FileSet;
use goldleaf_layer::rules::{RuleFile, RuleSet, SiteRules};
use goldleaf_tree::GuestPath;

use crate::WorkerError;
use crate::serve::refused;

/// The factory's rules and the site's, for the homes of this guest's people.
pub fn compile(site: Option<&SiteRules>, shared: &FileSet) -> Result<RuleSet, WorkerError> {
    let mut files = vec![RuleFile::debian().map_err(refused)?];
    if let Some(site) = site {
        files.push(site.parse().map_err(refused)?);
    }
    RuleSet::compile(&files, &homes(shared)).map_err(refused)
}

/// Home directories of people (uid 1000 to 59999, as Debian's adduser has it).
fn homes(shared: &FileSet) -> Vec<GuestPath> {
    let passwd = GuestPath::parse("/etc/passwd").unwrap_or_default();
    let text = shared.get(&passwd).map_or(&[][..], |state| &state.bytes);
    let home = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b':');
        let uid: u32 = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
        let path = GuestPath::parse(fields.nth(2)?).ok()?;
        ((1000..60000).contains(&uid) && !path.is_root()).then_some(path)
    };
    text.split(|&byte| byte == b'\n').filter_map(home).collect()
}
