//! What is there after a crash, and what must not be there: by walking from the records, and by
//! listing directories.

use std::collections::BTreeSet;

use goldleaf_block::{ByteOffset, ReadBlocks};
use goldleaf_host::{Dir, Silent};
use goldleaf_layer::{Digest, EntryNode};
use goldleaf_player::desktop::{self, Desktop, Live};
use goldleaf_player::{Home, collect};
use goldleaf_store::Store;

use super::toy::{DESKTOP, DISK_LEN, IMAGE, versions};
use crate::Result;

/// Starts the desktop as the next `start` does: the session's number, and its disk.
pub fn start(home: &Home) -> Result<(u64, Vec<u8>)> {
    let mut desktop = Desktop::open(home, DESKTOP)?;
    let live = Live::open(home, &mut desktop, false, &Silent)?;
    let session = desktop.record.session.as_ref().ok_or("no session")?;
    Ok((session.number, read(live.device().as_ref())?))
}

/// All that a disk holds.
pub fn read(device: &dyn ReadBlocks) -> std::result::Result<Vec<u8>, goldleaf_block::BlockError> {
    let mut bytes = vec![0xEE; DISK_LEN];
    device.read_at(ByteOffset(0), &mut bytes)?;
    Ok(bytes)
}

/// The disks of all versions of the image.
pub fn images(home: &Home) -> Result<Vec<Vec<u8>>> {
    let images = home.images()?;
    let record = images.record(IMAGE)?;
    let disk = |number| Ok(read(&images.open(IMAGE, Some(number))?.device()?)?);
    record.versions.iter().map(|version| disk(version.number)).collect()
}

/// Reads everything that the versions of the desktop's layers name, and compares it with its name.
pub fn reachable(home: &Home) -> Result<()> {
    let (store, layers) = versions(home)?;
    for layer in &layers {
        let objects = layer.digest().into_iter().chain(layer.version().side_objects());
        for digest in objects {
            if Digest::of(&store.object(&digest)?) != digest {
                return Err(format!("object {digest} is another").into());
            }
        }
        for item in layer.walk(&store) {
            let EntryNode::Node { content, .. } = item?.1.node else { continue };
            for extent in content.extents {
                blob(&store, &extent.blob)?;
            }
        }
    }
    Ok(())
}

fn blob(store: &Store, digest: &Digest) -> Result<()> {
    let place = store.blob(digest).ok_or_else(|| format!("blob {digest} is missing"))?;
    let mut bytes = vec![0; place.blocks.bytes().0 as usize];
    store.pack_blocks(place.pack)?.read_at(place.at.offset(), &mut bytes)?;
    if Digest::of(&bytes) != *digest {
        return Err(format!("blob {digest} is another").into());
    }
    Ok(())
}

/// Collects, and looks for what nobody needs.
pub fn tidy(home: &Home) -> Result<()> {
    collect::apply(home)?;
    let left = collect::plan(home)?;
    if left != collect::CollectReport::default() {
        return Err(format!("a collection leaves {left:?}").into());
    }
    let expect = |what: &str, found: BTreeSet<String>, wanted: BTreeSet<String>| {
        let more: Vec<&String> = found.difference(&wanted).collect();
        if more.is_empty() { Ok(()) } else { Err(format!("{what} left over: {more:?}")) }
    };
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let desk = desktop::directory(home, DESKTOP)?;
    let record = desktop::peek(home, DESKTOP)?;
    let session = record.session.iter();
    expect("desktop", list(&desk)?, names(&["composed", "private", "record.json", "sessions"]))?;
    let current = session.clone().map(|session| session.number.to_string()).collect();
    expect("sessions", list(&desk.create_dir("sessions")?)?, current)?;
    let image = home.images()?.record(IMAGE)?;
    let maps = image.versions.iter().map(|version| format!("v{}.map", version.number));
    let data = image.versions.iter().flat_map(|version| version.data.clone());
    let own = maps.chain(data).chain(["image.json".into()]).collect();
    expect("image", list(&home.images()?.dir(IMAGE)?)?, own)?;
    let private = desk.dir("private")?;
    let store = Store::open(private.clone())?;
    let packs = store.packs().iter().map(|pack| format!("{}.pack", pack.id.0)).collect();
    let mut found = list(&private)?;
    found.remove("locks");
    Ok(expect("packs", found, packs)?)
}

fn list(dir: &std::sync::Arc<dyn Dir>) -> Result<BTreeSet<String>> {
    Ok(dir.list()?.into_iter().map(|item| item.name).collect())
}
