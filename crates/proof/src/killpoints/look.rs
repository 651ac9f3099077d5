//! What a home holds, as those see it whose home it is: names and versions, content by content.
//! Two homes that look alike are alike for everybody.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use goldleaf_host::Silent;
use goldleaf_layer::{Digest, Kind, Layer};
use goldleaf_player::check::check;
use goldleaf_player::livepc::{self, LivePc};
use goldleaf_player::{Home, apps, collect, desktop};
use goldleaf_store::Store;

use crate::Result;

/// Directories whose entries are things that there are or are not.
const SHELVES: [&str; 6] = ["images", "layers", "livepcs", "desktops", "subscriptions", "workshop"];

/// Collects, and looks: a line for everything that is there. Damage, or something that a
/// collection leaves, is an error.
pub fn look(home: &Home) -> Result<BTreeSet<String>> {
    let report = check(home, &Silent)?;
    if !report.damage.is_empty() {
        return Err(format!("damaged: {}", report.damage.join("; ")).into());
    }
    collect::apply(home)?;
    let left = collect::plan(home)?;
    if left != collect::CollectReport::default() {
        return Err(format!("a collection leaves {left:?}").into());
    }
    let mut seen = BTreeSet::new();
    for name in home.images()?.list()?.into_iter().map(|image| image.name) {
        for version in home.images()?.record(&name)?.versions {
            seen.insert(format!("image {name} {}: {}", version.number, version.digest));
        }
    }
    for layer in apps::list(home)? {
        let store = home.public()?;
        for version in &layer.versions {
            let content = content(&store, &version.digest.0)?;
            seen.insert(format!("layer {} {}: {content}", layer.name, version.number));
        }
    }
    for livepc in livepc::list(home)? {
        let (edition, on_trial) = (livepc.version(), livepc.trial.is_some());
        let LivePc { name, image, layers, failed, .. } = &livepc;
        seen.insert(format!("livepc {name}: {image} {layers:?} {edition:?} {on_trial} {failed:?}"));
    }
    for record in desktop::list(home)? {
        look_at_desktop(home, &record, &mut seen)?;
    }
    shelves(home.dir.path().ok_or("a home without a path")?, &mut seen)?;
    Ok(seen)
}

/// A desktop's layers: what they hold now, and what they held before, in no order: something may
/// have been done twice to the same end.
fn look_at_desktop(
    home: &Home,
    record: &desktop::DesktopRecord,
    seen: &mut BTreeSet<String>,
) -> Result<()> {
    let dir = desktop::directory(home, &record.name)?;
    let store = Store::open(dir.create_dir("private")?)?;
    let name = &record.name;
    seen.insert(format!("desktop {name}: {:?} {:?}", record.pinned_image, record.pinned_apps));
    seen.insert(format!("session of {name}: {}", record.session.is_some()));
    for (kind, history) in &record.layers {
        // What is drawn at random differs from run to run.
        let contents = history.versions.iter().filter(|_| *kind != Kind::Identity);
        let contents = contents.map(|version| content(&store, &version.digest.0));
        let contents = contents.collect::<Result<Vec<String>>>()?;
        seen.insert(format!("{kind} of {name}: {:?}", contents.last()));
        seen.extend(contents.iter().map(|content| format!("{kind} of {name} once: {content}")));
    }
    Ok(())
}

/// The content of a version, as one word.
fn content(store: &Store, version: &Digest) -> Result<String> {
    let mut all = String::new();
    for item in Layer::open(store, version)?.walk(store) {
        let (path, entry) = item?;
        writeln!(all, "{path} {entry:?}")?;
    }
    Ok(format!("{:08x} ({} lines)", crc32c::crc32c(all.as_bytes()), all.lines().count()))
}

/// What lies around.
fn shelves(home: &Path, seen: &mut BTreeSet<String>) -> Result<()> {
    for shelf in SHELVES {
        let Ok(entries) = fs::read_dir(home.join(shelf)) else { continue };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".lock") {
                seen.insert(format!("{shelf}/{name}"));
            }
        }
    }
    Ok(())
}
