//! Three versions of a published image over the simulated machine.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, BlockNo, ByteOffset, FileBlocks, MapExtent, ReadBlocks, SourceIndex,
    Target,
};
use goldleaf_cache::{Carried, Supply, SupplyError, Take};
use goldleaf_host::Dir;
use goldleaf_host::sim::SimDir;
use goldleaf_wire::{Effort, Known, WireMap, publish};
use proptest::prelude::*;

use super::*;
use crate::VersionRecord;

/// Blocks of each version's disk: some packs' frames.
const BLOCKS: u64 = 640;
const NAME: &str = "followed";

/// Packs by name.
struct Server(Vec<(Carried, Vec<u8>)>);

impl Supply for Server {
    fn stream(
        &self,
        object: Carried,
        range: Range<u64>,
        take: &mut Take<'_>,
    ) -> Result<(), SupplyError> {
        let found = self.0.iter().find(|(known, _)| *known == object).ok_or("no such pack")?;
        let _ = take(&found.1[range.start as usize..range.end as usize]);
        Ok(())
    }

    fn distrust(&self, _object: Carried) -> bool {
        false
    }
}

/// An author's three versions: each has another content in a part of the one before.
struct Author {
    disks: Vec<Vec<u8>>,
    maps: Vec<WireMap>,
    server: Arc<Server>,
}

fn author() -> &'static Author {
    static AUTHOR: std::sync::OnceLock<Author> = std::sync::OnceLock::new();
    AUTHOR.get_or_init(|| {
        let (mut known, packs) = (Known::default(), Mutex::new(Vec::new()));
        let (mut disks, mut maps) = (Vec::new(), Vec::new());
        // Version 2 replaces the first three frames of version 1, version 3 two of those.
        for (version, changed) in [(1, 0..BLOCKS), (2, 0..192), (3, 0..128)] {
            let mut disk: Vec<u8> = disks.last().cloned().unwrap_or_default();
            disk.resize((BLOCKS * BLOCK_SIZE) as usize, 0);
            for block in changed {
                let text = format!("block {block} of version {version} ");
                let bytes = text.bytes().cycle().take(BLOCK_SIZE as usize).collect::<Vec<u8>>();
                disk[(block * BLOCK_SIZE) as usize..][..BLOCK_SIZE as usize]
                    .copy_from_slice(&bytes);
            }
            let file = SimDir::new().create("disk").unwrap();
            file.write_all_at(&disk, 0).unwrap();
            let order = [BlockRange::new(BlockNo(0), BlockCount(BLOCKS))];
            let effort = Effort { level: 1, threads: 1, frame: BlockCount(64) };
            let device = FileBlocks::new(file).unwrap();
            let map = publish(&device, &order, &mut known, effort, &mut |pack, bytes| {
                packs.lock().unwrap().push((Carried::Pack(pack.name), bytes));
                Ok(())
            });
            disks.push(disk);
            maps.push(map.unwrap());
        }
        Author { disks, maps, server: Arc::new(Server(packs.into_inner().unwrap())) }
    })
}

fn images(dir: &SimDir, is_online: bool) -> Images {
    let images = Images::new(Arc::new(dir.clone()));
    let server: Arc<dyn Supply> = author().server.clone();
    if is_online { images.supplied(Arc::new(move |_| Some(server.clone()))) } else { images }
}

/// All versions, received and filled.
fn received() -> SimDir {
    let dir = SimDir::new();
    let images = images(&dir, true);
    for (number, map) in (1..).zip(&author().maps) {
        receive(&images, number, map);
    }
    dir
}

fn receive(images: &Images, number: u32, map: &WireMap) {
    let version = VersionRecord {
        number,
        digest: format!("digest {number}"),
        blocks: BlockCount(BLOCKS),
        created_unix_secs: 1,
        cause: "a test".into(),
        os: "none".into(),
        data: Vec::new(),
        identity: Vec::new(),
        volumes: Vec::new(),
    };
    images.add_published(NAME, version, map).unwrap();
    let opened = images.open(NAME, Some(number)).unwrap();
    for data in opened.published() {
        assert!(data.fill(1, &|_| ControlFlow::Continue(())).unwrap());
    }
    assert!(images.open(NAME, Some(number)).unwrap().is_whole());
}

fn disk(images: &Images, number: u32) -> Vec<u8> {
    let device = images.open(NAME, Some(number)).unwrap().device().unwrap();
    let mut bytes = vec![0; (BLOCKS * BLOCK_SIZE) as usize];
    device.read_at(ByteOffset(0), &mut bytes).unwrap();
    bytes
}

fn needs(versions: &[u32], newest: bool) -> Needs {
    Needs { versions: versions.iter().copied().collect(), newest, is_read: false }
}

fn occupied(images: &Images) -> u64 {
    let dir = images.dir(NAME).unwrap();
    let files = dir.list().unwrap().into_iter().map(|item| item.name);
    let files = files.filter(|name| name != "image.json" && name != "lock");
    files.map(|name| data_bytes(dir.open(&name).unwrap().as_ref()).unwrap()).sum()
}

#[test]
fn what_nobody_needs_goes_and_the_plan_knows_how_much() {
    let dir = received();
    let images = images(&dir, false);
    // Version 1 alone refers to its first three frames; 2 is used for the last of its own.
    let needs = needs(&[3], true);
    let plan = images.plan_forget(NAME, &needs).unwrap();
    assert_eq!(plan, images.plan_forget(NAME, &needs).unwrap(), "a plan writes nothing");
    assert_eq!(
        (&plan.versions[..], &plan.files[..]),
        (&[1, 2][..], &["v1.map", "v2.map"].map(String::from)[..])
    );
    let block = |start, count| BlockRange::new(BlockNo(start), BlockCount(count));
    let holes =
        [("0001.data".into(), vec![block(0, 192)]), ("0002.data".into(), vec![block(0, 128)])];
    assert_eq!(plan.holes, holes);
    let before = occupied(&images);
    assert_eq!(images.forget(NAME, &needs).unwrap(), plan);
    assert_eq!(before - occupied(&images), plan.bytes);
    assert!(images.plan_forget(NAME, &needs).unwrap().is_empty());
    assert!(images.unnamed(NAME).unwrap().is_empty());
    let opened = images.open(NAME, Some(3)).unwrap();
    assert!(opened.is_whole());
    opened.published().iter().for_each(|data| data.check().unwrap());
    assert_eq!(disk(&images, 3), author().disks[2]);
    assert!(matches!(images.open(NAME, Some(1)), Err(ImageError::Unknown(_))));
}

#[test]
fn a_data_file_without_a_version_goes_as_a_whole() {
    let dir = received();
    let images = images(&dir, false);
    let forgotten = images.forget(NAME, &needs(&[1], true)).unwrap();
    assert_eq!(forgotten.versions, [2]);
    assert_eq!(
        [1, 3].map(|number| disk(&images, number)),
        [0, 2].map(|at| author().disks[at].clone())
    );
    // The newest is not needed, and its content is to go: its place stays, for its number's sake.
    let needs = needs(&[1], false);
    let plan = images.plan_forget(NAME, &needs).unwrap();
    assert!(plan.versions.is_empty() && plan.files.is_empty());
    assert_eq!(plan.bytes, 192 * BLOCK_SIZE, "a frame of version 2's and two of version 3's");
    images.forget(NAME, &needs).unwrap();
    assert_eq!(disk(&images, 1), author().disks[0]);
    let newest = images.open(NAME, None).unwrap();
    assert_eq!((newest.record.number, newest.is_whole()), (3, false));
    // It comes back.
    let online = super::tests::images(&dir, true);
    assert_eq!(disk(&online, 3), author().disks[2]);
}

#[test]
fn what_was_made_here_stays_and_so_does_what_it_stands_on() {
    let dir = received();
    let images = images(&dir, false);
    // An edit of version 1: a block of its own.
    let opened = images.open(NAME, Some(1)).unwrap();
    let own = images.dir(NAME).unwrap().create("0009.data").unwrap();
    own.write_all_at(&[7; BLOCK_SIZE as usize], 0).unwrap();
    let target = Target::Source { source: SourceIndex(1), at: BlockNo(0) };
    let range = BlockRange::new(BlockNo(5), BlockCount(1));
    let map = opened.map.overlaid(&[MapExtent { range, target }]).unwrap();
    let data = vec!["0001.data".into(), "0009.data".into()];
    let edit = VersionRecord { number: 4, data, ..opened.record };
    images.add_version(NAME, edit, &map).unwrap();
    receive(&super::tests::images(&dir, true), 5, &author().maps[2]);
    let forgotten = images.forget(NAME, &needs(&[5], true)).unwrap();
    assert_eq!(forgotten.versions, [1, 2, 3]);
    let mut edited = author().disks[0].clone();
    edited[5 * BLOCK_SIZE as usize..][..BLOCK_SIZE as usize].fill(7);
    assert!(disk(&images, 4) == edited && disk(&images, 5) == author().disks[2]);
}

#[test]
fn while_it_is_read_files_go_and_nothing_of_files() {
    let dir = received();
    let images = images(&dir, false);
    let needs = Needs { is_read: true, ..needs(&[3], true) };
    let forgotten = images.forget(NAME, &needs).unwrap();
    assert_eq!((forgotten.versions.len(), forgotten.holes.len()), (2, 0));
    let spare = super::tests::needs(&[3], true);
    assert_eq!(images.plan_forget(NAME, &spare).unwrap().holes.len(), 2);
}

#[test]
fn what_is_forgotten_can_be_received_again() {
    let dir = received();
    let images = images(&dir, true);
    images.forget(NAME, &needs(&[3], true)).unwrap();
    receive(&images, 4, &author().maps[0]);
    assert_eq!(disk(&images, 4), author().disks[0]);
    let opened = images.open(NAME, Some(4)).unwrap();
    assert_eq!(opened.record.data, ["0001.data"], "the packs that were there are used");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Wherever power goes, what is needed is whole offline, and forgetting again comes to the same.
    #[test]
    fn a_power_cut_costs_nothing_that_is_needed(seed in any::<u64>(), stop in 0u64..60) {
        let dir = received();
        let needs = needs(&[2], true);
        dir.stop_after(stop, std::io::ErrorKind::Other);
        let _ = images(&dir, false).forget(NAME, &needs);
        let after = dir.crash(seed);
        let images = images(&after, false);
        for number in [2, 3] {
            let opened = images.open(NAME, Some(number)).unwrap();
            prop_assert!(opened.is_whole());
            opened.published().iter().for_each(|data| data.check().unwrap());
            prop_assert_eq!(&disk(&images, number), &author().disks[number as usize - 1]);
        }
        images.forget(NAME, &needs).unwrap();
        let own = images.dir(NAME).unwrap();
        for file in images.unnamed(NAME).unwrap() {
            own.remove(&file).unwrap();
        }
        prop_assert!(images.plan_forget(NAME, &needs).unwrap().is_empty());
        let content = own.open("0001.data").unwrap().allocated().unwrap();
        prop_assert_eq!(content, (BLOCKS - 192) * BLOCK_SIZE);
    }
}
