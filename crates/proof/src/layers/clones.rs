//! Desktops of one golden image: what makes a machine itself differs from all its sisters' and from
//! the image's, and what must never be shared is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use goldleaf_player::desktop;

use super::ground::Ground;
use super::life;
use crate::Result;
use crate::dice::Dice;
use crate::replay::tools;

/// What is each desktop's own.
const OWN: &[&str] = &[
    "etc/machine-id",
    "etc/hostname",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
];
/// What no two machines may begin with.
const NEVER: &[&str] = &["var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"];

/// Makes so many desktops; how many times something of one is something of another's.
pub fn run(count: usize, bug: Option<&str>) -> Result<u64> {
    tools::need(&["ssh-keygen"])?;
    let ground = Ground::new(bug)?;
    let mut seen: BTreeSet<(String, Vec<u8>)> = BTreeSet::new();
    ground.image("golden", |root| {
        life::settle(root, &mut Dice::new(1, 2))?;
        for path in OWN.iter().chain(NEVER) {
            fs::write(root.join(path), format!("the image's {path}\n"))?;
            seen.insert(((*path).into(), fs::read(root.join(path))?));
        }
        Ok(())
    })?;
    ground.livepc("golden", "golden", None)?;
    let mut equal = 0;
    for number in 0..count {
        let name = format!("clone{number}");
        let hardware = desktop::create(&ground.home, &name, "golden")?.hardware;
        let mut own: Vec<(String, Vec<u8>)> =
            [("uuid", hardware.uuid), ("mac", hardware.mac), ("serial", hardware.disk_serial)]
                .map(|(what, value)| (what.to_owned(), value.into_bytes()))
                .into();
        ground.session(&name, |root| {
            own.extend(identity(root)?);
            equal += NEVER.iter().filter(|path| root.join(path).exists()).count() as u64;
            Ok(())
        })?;
        equal += own.into_iter().filter(|one| !seen.insert(one.clone())).count() as u64;
        ground.forget(&name)?;
    }
    Ok(equal)
}

fn identity(root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &&str| Ok(((*path).to_owned(), fs::read(root.join(path))?));
    OWN.iter().map(read).collect()
}
