//! What of an image it is that travels: new content by what it belongs to, before and after
//! compression. A frame is shared out by how much of its content is whose.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use goldleaf_block::{BLOCK_SIZE, BlockRange, Target};
use goldleaf_feed::names;
use goldleaf_figures::{Row, Table};
use goldleaf_image::Layout;
use goldleaf_store::Digest;
use goldleaf_wire::{PackIndex, WireMap};

use super::ground::Ground;
use super::publishing::{Made, read_map};
use crate::Result;

/// What a path belongs to: the first that matches. What begins with a dot, and does not
/// end with one, is an ending; all else is part of a path.
const KINDS: &[(&str, &[&str])] = &[
    ("boot", &["boot/"]),
    ("caches", &["var/cache/"]),
    ("packages_database", &["var/lib/dpkg/", "var/lib/apt/"]),
    ("kernel_modules", &["lib/modules/"]),
    (
        "compressed",
        &[".gz", ".xz", ".zip", ".jar", ".ja", ".png", ".jpg", ".svgz", ".woff2", ".zst"],
    ),
    ("compressed", &[".oxt", ".xpi", ".bz2", ".webp", ".ogg", ".oga", ".whl"]),
    ("documents", &["share/doc/", "share/man/", "share/help/", "share/info/"]),
    ("translations", &["share/locale/", "share/i18n/", "lib/locale/", ".mo"]),
    ("fonts_icons_themes", &["share/fonts/", "share/icons/", "share/themes/"]),
    ("python", &[".py", ".pyc"]),
    ("libraries", &[".so", ".so.", "/bin/", "/sbin/", "lib/git-core/", "libexec/"]),
];
const METADATA: &str = "metadata";
const UNEXPLAINED: &str = "outside_of_files";
const REST: &str = "rest";

/// Bytes before and after compression.
#[derive(Default, Clone, Copy)]
struct Share {
    content: f64,
    stored: f64,
}

/// Adds a row for each kind, `PREFIX.of.KIND`.
pub fn add(
    prefix: &str,
    ground: &Ground,
    feed: &Path,
    image: &str,
    made: &Made,
    known: &[&Made],
    table: &mut Table,
) -> Result<()> {
    let mut old = HashSet::new();
    for made in known {
        old.extend(read_map(feed, &made.map)?.packs.into_iter().map(|pack| pack.name));
    }
    let (_, layout) = ground.image(image)?;
    let mut count = Count::new(feed, read_map(feed, &made.map)?, &old)?;
    count.all(&layout);
    let mib = |bytes: f64| bytes / (1 << 20) as f64;
    for (kind, share) in count.shares {
        eprintln!("  {prefix}, {kind}: {:.1} MiB of content", mib(share.content));
        table.push(Row::new(format!("{prefix}.of.{kind}"), mib(share.stored), "MiB"));
    }
    Ok(())
}

fn kind_of(path: &str) -> &'static str {
    let has = |part: &str| match part.starts_with('.') && !part.ends_with('.') {
        true => path.ends_with(part),
        false => path.contains(part),
    };
    KINDS
        .iter()
        .find(|(_, parts)| parts.iter().any(|part| has(part)))
        .map_or(REST, |(kind, _)| kind)
}

struct Count {
    map: WireMap,
    /// The indexes of the new packs, by their number in the map.
    packs: Vec<Option<PackIndex>>,
    /// Blocks of packs that were counted: content that is there twice travels once.
    seen: HashSet<(u32, u64)>,
    shares: BTreeMap<&'static str, Share>,
}

impl Count {
    fn new(feed: &Path, map: WireMap, old: &HashSet<Digest>) -> Result<Self> {
        let mut packs = Vec::new();
        for pack in &map.packs {
            let index = if old.contains(&pack.name) {
                None
            } else {
                let bytes = fs::read(feed.join(names::pack(&pack.name)))?;
                Some(PackIndex::parse(&bytes[..pack.head_len as usize], &pack.name)?)
            };
            packs.push(index);
        }
        Ok(Self { map, packs, seen: HashSet::new(), shares: BTreeMap::new() })
    }

    /// In the order in which blocks travel, but for what nothing explains, which is what is left.
    fn all(&mut self, layout: &Layout) {
        for range in &layout.metadata {
            self.range(METADATA, *range);
        }
        for file in &layout.files {
            let kind = kind_of(&String::from_utf8_lossy(file.path.as_bytes()));
            for (_, range) in &file.extents {
                self.range(kind, *range);
            }
        }
        let whole: Vec<BlockRange> =
            self.map.map.extents().iter().map(|extent| extent.range).collect();
        whole.into_iter().for_each(|range| self.range(UNEXPLAINED, range));
    }

    fn range(&mut self, kind: &'static str, range: BlockRange) {
        for extent in self.map.map.slice(range) {
            let Target::Source { source, at } = extent.target else { continue };
            let Some(index) = &self.packs[source.0 as usize] else { continue };
            for block in at.0..at.0 + extent.range.count.0 {
                if !self.seen.insert((source.0, block)) {
                    continue;
                }
                let Some(frame) = index.frame_at(block * BLOCK_SIZE) else { continue };
                let share = self.shares.entry(kind).or_default();
                share.content += BLOCK_SIZE as f64;
                share.stored +=
                    f64::from(frame.stored_len) * BLOCK_SIZE as f64 / f64::from(frame.len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_path() {
        for (path, kind) in [
            ("boot/initrd.img-6", "boot"),
            ("usr/lib/modules/6/x.ko", "kernel_modules"),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", "libraries"),
            ("usr/lib/x/libxul.so", "libraries"),
            ("usr/share/doc/x/changelog.gz", "compressed"),
            ("usr/share/doc/x/copyright", "documents"),
            ("usr/lib/python3/a.py", "python"),
            ("etc/passwd", REST),
        ] {
            assert_eq!(kind_of(path), kind, "{path}");
        }
    }
}
