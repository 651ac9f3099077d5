//! Pairing against block by block.

use std::collections::BTreeSet;

use goldleaf_block::{MapBuilder, MapExtent};
use proptest::prelude::*;

use super::share::without;
use super::*;

fn pack_run((pack, start, count): (u32, u64, u64)) -> PackRun {
    let blocks = BlockRange::new(BlockNo(start), BlockCount(count));
    PackRun { pack: SourceIndex(pack), blocks }
}

fn some_run() -> impl Strategy<Value = PackRun> {
    (0..3u32, 0..60u64, 1..20u64).prop_map(pack_run)
}

fn blocks(run: &PackRun) -> impl Iterator<Item = (u32, u64)> + use<> {
    let pack = run.pack.0;
    (run.blocks.start.0..run.blocks.end().0).map(move |block| (pack, block))
}

proptest! {
    #[test]
    fn runs_are_told_apart(runs in prop::collection::vec(some_run(), 0..12)) {
        let mut seen = BTreeSet::new();
        let expected: Vec<_> = runs.iter().flat_map(blocks).filter(|block| seen.insert(*block)).collect();
        let found: Vec<_> = apart(runs).iter().flat_map(blocks).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn what_is_kept_is_left_out(
        runs in prop::collection::vec(some_run(), 0..8),
        kept in prop::collection::vec(some_run(), 0..8),
    ) {
        let gone: BTreeSet<_> = kept.iter().flat_map(blocks).collect();
        let mut at = 0;
        let all: Vec<(u64, PackRun)> = runs
            .into_iter()
            .map(|run| {
                at += run.blocks.count.0 + 1;
                (at - run.blocks.count.0 - 1, run)
            })
            .collect();
        let places = |(within, run): &(u64, PackRun)| -> Vec<_> { (*within..).zip(blocks(run)).collect() };
        let expected: Vec<_> =
            all.iter().flat_map(places).filter(|(_, block)| !gone.contains(block)).collect();
        let found: Vec<_> = without(&all, kept).iter().flat_map(places).collect();
        prop_assert_eq!(found, expected);
    }

    /// Ancestors get what they want, or their share; never more than there is, and nothing twice.
    #[test]
    fn shares_keep_to_the_budget(
        files in prop::collection::vec((1..400u64, 1..400u64, 0..400u64, 1..50u64), 1..9),
        budget in 0..900u64,
    ) {
        let mut start = 0;
        let wanted: Vec<Wanted> = files
            .iter()
            .map(|(old, new, within, blocks)| {
                let mut one = Wanted::new(vec![(0, pack_run((0, start, *old)))], vec![], *new, *old);
                start += old;
                one.want((*within).min(new - 1), *blocks);
                one
            })
            .collect();
        let runs = share(&wanted, BlockCount(budget));
        let found: Vec<_> = runs.iter().flat_map(blocks).collect();
        prop_assert!(found.len() as u64 <= budget);
        prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
        if start <= budget {
            prop_assert_eq!(found.len() as u64, start);
        }
    }
}

/// A disk of runs of packs, one behind the other.
fn map(packs: &[u8], runs: &[(u32, u64, u64)]) -> WireMap {
    let total = runs.iter().map(|run| run.2).sum();
    let mut builder = MapBuilder::new(BlockCount(total));
    let mut next = BlockNo(0);
    for (pack, at, count) in runs {
        let range = BlockRange::new(next, BlockCount(*count));
        let target = Target::Source { source: SourceIndex(*pack), at: BlockNo(*at) };
        builder.push(MapExtent { range, target }).expect("runs in their order");
        next = range.end();
    }
    let pack = |number: &u8| PackRef {
        name: Digest([*number; 32]),
        len: 1 << 20,
        head_len: 100,
        blocks: BlockCount(4096),
    };
    WireMap { packs: packs.iter().map(pack).collect(), map: builder.finish() }
}

fn extents(start: u64, count: u64) -> [(BlockNo, BlockRange); 1] {
    [(BlockNo(0), BlockRange::new(BlockNo(start), BlockCount(count)))]
}

/// Two files that changed, one of which has a new version in its path; and one that is new.
#[test]
fn references_are_the_ancestors() {
    let old = map(&[1, 2], &[(0, 0, 100), (1, 0, 50)]);
    let new = map(&[2, 3], &[(1, 0, 80), (1, 80, 60), (0, 0, 10), (1, 140, 30)]);
    let (one, two) = (extents(0, 100), extents(100, 50));
    let old_files = [
        DiskFile { path: b"lib/6.1-30/one.ko", extents: &one },
        DiskFile { path: b"two", extents: &two },
    ];
    let (one, two, three) = (extents(0, 80), extents(80, 70), extents(150, 30));
    let new_files = [
        DiskFile { path: b"lib/6.1-31/one.ko", extents: &one },
        DiskFile { path: b"two", extents: &two },
        DiskFile { path: b"three", extents: &three },
    ];
    let pairing =
        Pairing::new(Side { map: &old, files: &old_files }, Side { map: &new, files: &new_files });
    assert_eq!(pairing.new_packs(), &new.packs[1..]);
    let reference = |start, count| pairing.reference(pack_run((0, start, count)));
    assert_eq!(reference(0, 80), [pack_run((0, 0, 100))]);
    assert_eq!(reference(70, 20), [pack_run((0, 0, 100)), pack_run((1, 0, 50))]);
    assert_eq!(reference(90, 50), [pack_run((1, 0, 50))]);
    assert_eq!(reference(140, 30), []);
    assert_eq!(reference(4000, 30), []);
    assert_eq!(pairing.reference(pack_run((1, 0, 30))), []);
}

/// A database of which some pages changed: they are what is looked at, not what stayed.
#[test]
fn of_a_large_file_what_is_gone_counts() {
    let most = REFERENCE_MAX / goldleaf_block::BLOCK_SIZE;
    let old = map(&[1, 2, 3], &[(0, 0, 4096), (1, 0, 4096), (2, 0, 4096)]);
    let new =
        map(&[1, 2, 3, 4], &[(0, 0, 4000), (3, 0, 96), (1, 0, 4096), (3, 96, 7), (2, 7, 4089)]);
    let whole = extents(0, 3 * 4096);
    assert!(whole[0].1.count.0 > most);
    let files = [DiskFile { path: b"database", extents: &whole }];
    let pairing =
        Pairing::new(Side { map: &old, files: &files }, Side { map: &new, files: &files });
    let reference = pairing.reference(pack_run((0, 0, 103)));
    assert_eq!(reference, [pack_run((0, 4000, 96)), pack_run((2, 0, 7))]);
}
