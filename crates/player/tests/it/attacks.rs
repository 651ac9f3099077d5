//! The attacks on what a feed carries and on what an endpoint has of it, by their row in the threat
//! table. After each, what is believed and what runs is what it was, and the next honest version
//! arrives. Rows about signed metadata alone are in `trust`, about a web server's ways in `fetch` and
//! in `web`, about the form of what travels in `wire`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockError, ByteLen, ByteOffset, ReadBlocks};
use goldleaf_feed::{FeedError, LivePcVersion, Object, PublishedVolume};
use goldleaf_fetch::FetchError;
use goldleaf_image::ImageError;
use goldleaf_player::PlayerError;
use goldleaf_store::Digest;
use goldleaf_trust::{Role, Targets, TrustError};
use goldleaf_wire::{PackIndex, PackRef, WireMap};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::world::{Blocks, FEED, QCOW2, World, blocks, content, copy_tree, read};

/// What an attack comes to, when the second version was carried and then attacked. What runs is what
/// ran; what is believed may be newer where only content was attacked.
fn refused(attack: impl FnOnce(&mut World)) -> PlayerError {
    let mut world = World::new();
    world.author.publish(2);
    world.carry();
    let before = world.runs();
    attack(&mut world);
    let error = world.update().expect_err("it was taken");
    assert!(world.runs() == before, "what runs has changed");
    world.still_updates();
    error
}

/// Files of a directory that only the second version brought.
fn new_files(world: &World, shelf: &str) -> Vec<PathBuf> {
    let old = World::unfollowed();
    let names = |root: &Path| {
        let items = fs::read_dir(root.join(shelf)).unwrap();
        items.map(|item| item.unwrap().file_name()).collect::<Vec<_>>()
    };
    let known = names(&old.carried);
    let new = names(&world.carried).into_iter().filter(|name| !known.contains(name));
    new.map(|name| world.carried.join(shelf).join(name)).collect()
}

/// Changes a byte of a file.
fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn set_len(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// What is damaged on its way: versions, maps, packs of the image and of a layer.
const SHELVES: [&str; 3] = ["versions", "maps", "packs"];

/// Whether somebody found that these are other bytes than were signed.
fn is_mismatch(error: &PlayerError) -> bool {
    match error {
        PlayerError::Block(BlockError::Corrupt { .. }) => true,
        PlayerError::Feed(FeedError::Malformed { why, .. }) => why == "another digest",
        PlayerError::Feed(FeedError::Trust(TrustError::HashMismatch { .. })) => true,
        _ => false,
    }
}

fn is_length(error: &PlayerError) -> bool {
    match error {
        PlayerError::Feed(
            FeedError::Length { .. } | FeedError::Trust(TrustError::Length { .. }),
        ) => true,
        // The player's word for what came of a disk's supply.
        PlayerError::Block(BlockError::Io { what: "bringing content", message, .. }) => {
            message.contains("bytes where there must be") || message.contains("bytes instead of")
        }
        _ => false,
    }
}

/// A payload that is longer than 31 or 32 bits can count: what is behind the end is not taken for
/// what is signed.
#[test]
fn a13_payloads_beyond_2_and_4_gib() {
    for len in [(1 << 31) - 1, (1 << 31) + 1, (1 << 32) - 1, (1u64 << 32) + 1] {
        for shelf in ["versions", "maps"] {
            let error = refused(|world| set_len(&new_files(world, shelf)[0], len));
            assert!(is_length(&error), "{shelf}: {error:?}");
        }
        // Nobody reads a pack behind the length that its map has signed for it.
        let mut world = World::new();
        world.author.publish(2);
        world.carry();
        for path in new_files(&world, "packs") {
            set_len(&path, len);
            flip(&path, len - 1);
        }
        world.update().unwrap();
        assert_eq!(world.runs().version, 2);
        world.still_updates();
    }
    // A signed length that is the right one but for what is above 32 bits.
    let error = refused(|world| {
        let mut target = world.author.offered[&2].clone();
        target.length += 1 << 32;
        world.author.offer_target(target);
        world.carry();
    });
    assert!(is_length(&error), "{error:?}");
}

/// A disk that is longer: its tail arrives, and is verified like all else.
#[test]
fn a13_a_disk_beyond_4_gib() {
    let ends = [1 << 31, 1 << 32].map(|end: u64| end / BLOCK_SIZE);
    let len = BlockCount(ends[1] + 2);
    let near = ends.iter().flat_map(|end| [end - 1, *end, end + 1]);
    let mut all: Blocks = near.map(|block| (block, 1)).collect();
    let mut world = World::unfollowed();
    for version in [2, 3] {
        all.insert(ends[1] + 1, version);
        let next = world.author.version(&all, len, 1);
        world.author.offer(&next);
        world.carry();
        match version {
            2 => world.subscribe(&[&world.root()]).unwrap(),
            _ => {
                for path in new_files(&world, "packs") {
                    let end = fs::metadata(&path).unwrap().len();
                    flip(&path, end - 1);
                }
                let error = world.update().expect_err("it was taken");
                assert!(is_mismatch(&error), "{error:?}");
                world.carry();
            }
        }
        world.update().unwrap();
        let image = world.home.images_here().unwrap().open(FEED, None).unwrap();
        let device = image.device().unwrap();
        assert_eq!(device.len().0, len.bytes().0);
        for (block, fill) in &all {
            let found = read(&device, block * BLOCK_SIZE, BLOCK_SIZE as usize);
            assert!(found == content(*block, *fill), "block {block}");
        }
    }
}

/// A mirror that is behind what was seen, or only behind what there is, is left for another.
#[test]
fn a23_a_stale_mirror() {
    let mut world = World::new();
    let stale = world.scratch.path().join("stale");
    copy_tree(&world.carried, &stale);
    world.author.publish(2);
    world.carry();
    world.update().unwrap();
    world.author.publish(3);
    world.carry();
    let (before, stale) = (world.seen(), stale.to_str().unwrap().to_string());
    world.follow(&[&stale]);
    let error = world.update().expect_err("it was taken");
    let is_it =
        matches!(error, PlayerError::Trust(TrustError::Rollback { role: Role::Timestamp, .. }));
    assert!(is_it, "{error:?}");
    assert!(world.seen() == before);
    world.follow(&[&stale, &world.root()]);
    for version in 3..6 {
        world.update().unwrap();
        assert_eq!(world.runs().version, version);
        // From now on it has what was seen, and nothing newer.
        fs::remove_dir_all(&stale).unwrap();
        copy_tree(&world.carried, stale.as_ref());
        world.author.publish(version as u8 + 1);
        world.carry();
    }
}

/// A mirror whose metadata are damaged, in each file of them.
#[test]
fn a23_a_mirror_with_damaged_metadata() {
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let mut world = World::new();
        world.author.publish(2);
        world.carry();
        let bad = world.scratch.path().join("bad");
        copy_tree(&world.carried, &bad);
        flip(&bad.join("feeds").join(FEED).join("stable/metadata").join(name), 100);
        let bad = bad.to_str().unwrap().to_string();
        world.follow(&[&bad]);
        let before = world.runs();
        assert!(matches!(world.update(), Err(PlayerError::Trust(_))), "{name}");
        assert!(world.runs() == before);
        world.follow(&[&bad, &world.root()]);
        world.update().unwrap();
        assert_eq!(world.runs().version, 2, "{name}");
        world.still_updates();
    }
}

/// What is right by its digest, under a length that is not its own.
#[test]
fn a35_another_length() {
    for add in [-1, 1] {
        let error = refused(|world| {
            let mut target = world.author.offered[&2].clone();
            target.length = target.length.wrapping_add_signed(add);
            world.author.offer_target(target);
            world.carry();
        });
        assert!(is_length(&error), "{error:?}");
        let changed =
            |change: &dyn Fn(&mut LivePcVersion)| refused(|world| offer_changed(world, change));
        let error = changed(&|version| {
            version.image.map.len = version.image.map.len.wrapping_add_signed(add);
            version.image.digest = "another".into();
        });
        assert!(is_length(&error), "{error:?}");
        let error = changed(&|version| {
            version.layers[0].map.len = version.layers[0].map.len.wrapping_add_signed(add);
        });
        assert!(is_length(&error), "{error:?}");
    }
}

/// The same of packs, in a map: of one that is here, and of one that is not.
#[test]
fn a35_a_pack_of_another_length() {
    let change: [fn(&mut PackRef); 3] =
        [|pack| pack.len += 1, |pack| pack.head_len += 1, |pack| pack.blocks.0 += 1];
    for change in change {
        for which in [0, 1] {
            let error = refused(|world| {
                let version = world.author.newest();
                let map = version.image.map.name().unwrap().to_string();
                let bytes = fs::read(world.author.path.join("maps").join(map)).unwrap();
                let mut wire = WireMap::from_bytes(&bytes).unwrap();
                assert_eq!(wire.packs.len(), 2, "an old one and a new one");
                change(&mut wire.packs[which]);
                let bytes = wire.to_bytes().unwrap();
                let digest = Digest::of(&bytes).to_string();
                fs::write(world.author.path.join("maps").join(&digest), &bytes).unwrap();
                offer_changed(world, &|version| {
                    let len = bytes.len() as u64;
                    version.image.map = Object { digest: digest.clone(), len };
                    version.image.digest = digest.clone();
                });
            });
            let is_known = matches!(
                &error,
                PlayerError::Image(ImageError::Corrupt { found, .. }) if found.contains("length")
            );
            assert!(is_known || is_length(&error) || is_mismatch(&error), "{which}: {error:?}");
        }
    }
}

/// Offers what the second version was, after a change that its author signs.
fn offer_changed(world: &mut World, change: &dyn Fn(&mut LivePcVersion)) {
    let mut version = world.author.newest();
    change(&mut version);
    world.author.offer(&version);
    world.carry();
}

#[test]
fn a36_one_pack_in_the_place_of_another() {
    let error = refused(|world| {
        let packs = new_files(world, "packs");
        let [one, two] = &packs[..] else { panic!("{packs:?}") };
        let bytes = fs::read(one).unwrap();
        fs::copy(two, one).unwrap();
        fs::write(two, bytes).unwrap();
    });
    assert!(is_mismatch(&error) || is_length(&error), "{error:?}");
}

#[test]
fn a37_a_bit() {
    for shelf in SHELVES {
        for number in 0..if shelf == "versions" { 1 } else { 2 } {
            for part in [0.1, 0.5, 0.99] {
                let error = refused(|world| {
                    let path = &new_files(world, shelf)[number];
                    flip(path, (fs::metadata(path).unwrap().len() as f64 * part) as u64);
                });
                assert!(is_mismatch(&error), "{shelf}, {part}: {error:?}");
            }
        }
    }
}

#[test]
fn a38_cut_short() {
    for shelf in SHELVES {
        for part in [0.0, 0.5, 0.99] {
            let error = refused(|world| {
                for path in new_files(world, shelf) {
                    let len = fs::metadata(&path).unwrap().len() as f64 * part;
                    set_len(&path, len as u64);
                }
            });
            assert!(is_length(&error), "{shelf}, {part}: {error:?}");
        }
    }
}

/// A frame in the place of the next one of its pack.
#[test]
fn a39_a_frame_twice() {
    let error = refused(|world| {
        let many: Blocks = (100..300).map(|block| (block, 1)).collect();
        let version = world.author.version(&many, BlockCount(300), 2);
        world.author.offer(&version);
        world.carry();
        let largest = |path: &PathBuf| fs::metadata(path).unwrap().len();
        let path = new_files(world, "packs").into_iter().max_by_key(largest).unwrap();
        let mut pack = fs::read(&path).unwrap();
        let name = Digest::parse(path.file_name().unwrap().to_str().unwrap()).unwrap();
        let index = PackIndex::parse(&pack[..PackIndex::head_len(&pack).unwrap()], &name).unwrap();
        let [one, two] = [0, 1].map(|number| index.frames()[number]);
        assert_eq!(one.stored_len, two.stored_len);
        pack.copy_within(one.at as usize..two.at as usize, two.at as usize);
        fs::write(path, pack).unwrap();
    });
    assert!(is_mismatch(&error), "{error:?}");
}

/// What one mirror has damaged or not at all, another has.
#[test]
fn a37_a38_a39_another_mirror_is_asked() {
    for shelf in SHELVES {
        let damages: [fn(&Path); 3] = [
            |path| flip(path, fs::metadata(path).unwrap().len() / 2),
            |path| set_len(path, 100),
            |path| fs::remove_file(path).unwrap(),
        ];
        for damage in damages {
            let mut world = World::new();
            world.author.publish(2);
            world.carry();
            let good = world.scratch.path().join("good");
            copy_tree(&world.carried, &good);
            new_files(&world, shelf).iter().for_each(|path| damage(path));
            world.follow(&[&world.root(), good.to_str().unwrap()]);
            world.update().unwrap();
            assert_eq!(world.runs().version, 2, "{shelf}");
            world.still_updates();
        }
    }
}

#[test]
fn a42_names_that_are_none() {
    let long = "x".repeat(4096);
    let names = [
        "",
        ".",
        "..",
        "../../x",
        "/etc/passwd",
        "a/b",
        "a\0b",
        "C:",
        "a\\b",
        "\u{e9}",
        "e\u{301}",
        "a b",
        "-x",
        &long,
    ];
    let mut world = World::new();
    world.author.publish(2);
    let (before, version) = (world.runs(), world.author.newest());
    let mut refused = |attack: &dyn Fn(&mut World)| {
        attack(&mut world);
        world.carry();
        let error = world.update().expect_err("it was taken");
        assert!(world.runs() == before, "what runs has changed");
        error
    };
    for name in names {
        let mut offered = |change: fn(&mut LivePcVersion, &str)| {
            let mut version = version.clone();
            version.image.digest = "another".into();
            change(&mut version, name);
            refused(&|world| world.author.offer(&version))
        };
        // A layer's name is that of a directory.
        let error = offered(|version, name| version.layers[0].name = name.into());
        assert!(matches!(error, PlayerError::Image(ImageError::BadName(_))), "{name:?}: {error:?}");
        // Names of content are digests.
        let changes: [fn(&mut LivePcVersion, &str); 4] = [
            |version, name| version.image.map.digest = name.into(),
            |version, name| version.layers[0].map.digest = name.into(),
            |version, name| version.layers[0].pack = name.into(),
            |version, name| version.layers[0].digest = name.into(),
        ];
        for change in changes {
            let error = offered(change);
            let is_it = matches!(
                error,
                PlayerError::Feed(FeedError::Malformed { .. }) | PlayerError::Corrupt { .. }
            );
            assert!(is_it, "{name:?}: {error:?}");
        }
        // A version has the name of its number.
        let error = refused(&|world| {
            let target = world.author.offered[&2].clone();
            world.author.sign_targets(&Targets { targets: [(name.into(), target)].into() });
        });
        let is_it = matches!(error, PlayerError::Feed(FeedError::Malformed { .. }));
        assert!(is_it, "{name:?}: {error:?}");
    }
    world.still_updates();
}

/// A mount point that leads out of the volumes, and a volume that is not on the disk: whoever ran
/// that version could not start any more.
#[test]
fn a42_volumes_that_are_none() {
    let volume = |mount: &str, start, len| PublishedVolume {
        mount: mount.into(),
        start: ByteOffset(start),
        len: ByteLen(len),
    };
    let volumes = [
        volume("../etc", 0, 4096),
        volume("a/../../etc", 0, 4096),
        volume("a\0b", 0, 4096),
        volume("", 0, 65 * BLOCK_SIZE),
        volume("", 1 << 63, 1 << 63),
        volume("", u64::MAX, 1),
    ];
    for volume in volumes {
        let error = refused(|world| {
            offer_changed(world, &|version| {
                version.image.digest = "another".into();
                version.image.volumes = vec![volume.clone()];
            });
        });
        assert!(matches!(error, PlayerError::Corrupt { .. }), "{volume:?}: {error:?}");
    }
}

#[test]
fn a47_a_layer_of_another_image() {
    let error = refused(|world| {
        offer_changed(world, &|version| version.layers[0].line = "another".into());
    });
    assert!(matches!(error, PlayerError::Feed(FeedError::Incompatible { .. })), "{error:?}");
}

/// Each part of a version withheld: none of it runs.
#[test]
fn a48_a_part_is_withheld() {
    for shelf in SHELVES {
        for number in 0..if shelf == "versions" { 1 } else { 2 } {
            let error = refused(|world| {
                fs::remove_file(&new_files(world, shelf)[number]).unwrap();
            });
            let is_it = match &error {
                PlayerError::Feed(FeedError::Missing(_)) => true,
                PlayerError::Block(BlockError::Io { message, .. }) => message.contains("missing"),
                _ => false,
            };
            assert!(is_it, "{shelf}: {error:?}");
        }
    }
}

/// The image's version that runs, read as a desktop reads it.
fn read_running(world: &World, can_ask: bool) -> Result<Vec<u8>, BlockError> {
    let home = &world.home;
    let images = if can_ask { home.images() } else { home.images_here() }.unwrap();
    let device = images.open(FEED, None).unwrap().device().unwrap();
    let mut bytes = vec![0; device.len().0 as usize];
    device.read_at(ByteOffset(0), &mut bytes).map(|()| bytes)
}

/// A49, and A50: somebody changes a byte of what is here of an image, or puts something else in its
/// place. It is never read: it is brought anew, or where that cannot be, an error.
#[test]
fn a49_a50_what_is_here_is_changed() {
    let changes: [fn(&Path); 4] = [
        |path| flip(path, 20 * BLOCK_SIZE + 9),
        |path| fs::write(path, vec![0; fs::metadata(path).unwrap().len() as usize]).unwrap(),
        |path| set_len(path, 5 * BLOCK_SIZE),
        |path| fs::write(path, b"").unwrap(),
    ];
    for change in changes {
        let mut world = World::new();
        let expected = read_running(&world, false).unwrap();
        change(&world.path.join("images").join(FEED).join("0001.data"));
        let error = read_running(&world, false).expect_err("it was read");
        assert!(matches!(error, BlockError::Corrupt { .. }), "{error:?}");
        assert!(read_running(&world, true).unwrap() == expected);
        assert!(read_running(&world, false).unwrap() == expected, "it is here again");
        world.still_updates();
    }
}

/// What is planted in the place of a file: a link to what would do, a pipe, a directory.
fn plant(path: &Path, what: usize) {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).unwrap();
    match what {
        0 => std::os::unix::fs::symlink(&aside, path).unwrap(),
        1 => mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
        _ => fs::create_dir(path).unwrap(),
    }
}

fn take_away(path: &Path) {
    match fs::symlink_metadata(path).unwrap().is_dir() {
        true => fs::remove_dir(path).unwrap(),
        false => fs::remove_file(path).unwrap(),
    }
    fs::rename(path.with_extension("aside"), path).unwrap();
}

/// A pipe is not waited for, and a link is not followed.
#[test]
fn a51_something_else_in_our_directories() {
    let world = World::new();
    let before = world.runs();
    let files = [
        format!("subscriptions/{FEED}/subscription.json"),
        format!("subscriptions/{FEED}/believed"),
        format!("subscriptions/{FEED}/believed.copy"),
        format!("images/{FEED}/image.json"),
        format!("images/{FEED}/v1.map"),
        format!("images/{FEED}/0001.data"),
        format!("livepcs/{FEED}/livepc.json"),
    ];
    for what in 0..3 {
        for file in &files {
            let path = world.path.join(file);
            plant(&path, what);
            let error = world.update().expect_err("it was followed");
            let is_it = matches!(
                error,
                PlayerError::Io { .. }
                    | PlayerError::Trust(TrustError::Io { .. })
                    | PlayerError::Image(ImageError::Io { .. } | ImageError::Cache(_))
            );
            assert!(is_it, "{what}, {file}: {error:?}");
            take_away(&path);
            world.update().unwrap();
            assert!(world.runs() == before, "{what}, {file}");
        }
    }
}

/// The same in a directory that carries the feed.
#[test]
fn a51_something_else_on_a_stick() {
    for what in 0..3 {
        for shelf in SHELVES {
            let error = refused(|world| {
                new_files(world, shelf).iter().for_each(|path| plant(path, what));
            });
            let is_it = matches!(
                &error,
                PlayerError::Feed(FeedError::Fetch(FetchError::Io { .. }))
                    | PlayerError::Block(BlockError::Io { what: "bringing content", .. })
            );
            assert!(is_it, "{what}, {shelf}: {error:?}");
        }
    }
}

/// A disk whose first sector says that it is another kind of disk, over a file of the host: it is
/// what its map says, byte by byte.
#[test]
fn a52_a_disk_that_says_it_is_another_kind() {
    let mut world = World::new();
    let mut all = blocks(2);
    all.insert(0, QCOW2);
    let version = world.author.version(&all, BlockCount(64), 2);
    world.author.offer(&version);
    world.carry();
    world.update().unwrap();
    let found = read_running(&world, false).unwrap();
    assert_eq!(found.len(), 64 * BLOCK_SIZE as usize);
    assert!(found[..BLOCK_SIZE as usize] == content(0, QCOW2));
    assert!(found.starts_with(b"QFI\xfb"));
    world.still_updates();
}
