//! Lies of a worker, and the order against an oracle that goes block by block.

use proptest::prelude::*;

use super::*;

fn range(start: u64, count: u64) -> BlockRange {
    BlockRange::new(BlockNo(start), BlockCount(count))
}

fn run(file_block: u64, blocks: u64, disk_block: u64) -> DiskRun {
    DiskRun { file_block, blocks, disk_block: BlockNo(disk_block) }
}

/// A piece of a file whose length is given in blocks.
fn piece(path: &str, blocks: u64, runs: &[DiskRun]) -> FilePiece {
    let path = GuestPath::parse(path).expect("a path");
    FilePiece { path, len: BlockCount(blocks).bytes(), runs: runs.to_vec() }
}

/// What is made of a worker's words about a disk of 100 blocks.
fn heard(metadata: &[BlockRange], pieces: &[FilePiece]) -> Result<Layout, ImageError> {
    let mut answers = Answers::new(BlockCount(100));
    metadata.iter().try_for_each(|range| answers.metadata(*range))?;
    pieces.iter().try_for_each(|piece| answers.piece(piece.clone()))?;
    answers.finish()
}

#[test]
fn what_can_be_true_is_believed() {
    let pieces = [
        piece("/a", 9, &[run(0, 2, 20), run(5, 1, 10)]),
        piece("/a", 9, &[run(6, 3, 97)]),
        piece("/a.b", 0, &[]),
        piece("/a/b", 1, &[run(0, 1, 22)]),
    ];
    let layout = heard(&[range(0, 5), range(6, 4)], &pieces).expect("true");
    assert_eq!(layout.metadata, [range(0, 5), range(6, 4)]);
    assert_eq!(layout.files.len(), 3);
    let whole = [(0, range(20, 2)), (5, range(10, 1)), (6, range(97, 3))];
    assert_eq!(layout.files[0].extents, whole.map(|(block, range)| (BlockNo(block), range)));
    assert_eq!(layout.files[0].len, BlockCount(9).bytes());
}

/// What is wrong with an answer.
fn found(metadata: &[BlockRange], pieces: &[FilePiece]) -> String {
    match heard(metadata, pieces) {
        Err(error @ ImageError::Corrupt { .. }) => error.to_string(),
        other => panic!("{metadata:?} {pieces:?}: {other:?}"),
    }
}

#[test]
fn metadata_that_cannot_be_is_refused() {
    let cases: &[(&[BlockRange], &str)] = &[
        (&[range(99, 2)], "2 blocks at 99"),
        (&[range(100, 1)], "1 blocks at 100"),
        (&[range(u64::MAX, 2)], "blocks below 100"),
        (&[range(3, 0)], "0 blocks at 3"),
        (&[range(3, 2), range(3, 2)], "behind block 5"),
        (&[range(9, 2), range(3, 2)], "behind block 11"),
        (&[range(3, 2), range(5, 2)], "behind block 5"),
        (&[range(0, 60), range(5, 60)], "100 blocks, each once"),
    ];
    for (metadata, expected) in cases {
        let found = found(metadata, &[]);
        assert!(found.contains(expected), "{metadata:?}: {found}");
    }
}

#[test]
fn files_that_cannot_be_are_refused() {
    let one = |runs: &[DiskRun]| vec![piece("/a", 9, runs)];
    let two = |second: FilePiece| vec![piece("/b", 9, &[run(0, 1, 50)]), second];
    let cases: &[(Vec<FilePiece>, &str)] = &[
        (one(&[run(0, 2, 99)]), "2 blocks at 99"),
        (one(&[run(0, u64::MAX, 1)]), "blocks below 100"),
        (one(&[run(0, 0, 50)]), "0 blocks at 50"),
        (one(&[run(8, 2, 50)]), "blocks 0 to 9 of /a"),
        (one(&[run(u64::MAX, 1, 50)]), "blocks 0 to 9 of /a"),
        (one(&[run(3, 1, 50), run(1, 1, 60)]), "blocks 4 to 9 of /a"),
        (one(&[run(3, 2, 50), run(4, 1, 60)]), "blocks 5 to 9 of /a"),
        (one(&[run(0, 2, 50), run(4, 1, 51)]), "nothing else in 2 blocks at 50"),
        (one(&[run(0, 2, 4)]), "nothing else in 5 blocks at 0"),
        (two(piece("/c", 9, &[run(0, 1, 50)])), "nothing else in 1 blocks at 50"),
        (two(piece("/a", 9, &[])), "paths that ascend"),
        (two(piece("/", 9, &[])), "paths that ascend"),
        (two(piece("/b", 9, &[])), "more of /b"),
        (two(piece("/b", 8, &[run(1, 1, 60)])), "more of /b"),
        (two(piece("/b", 9, &[run(0, 1, 60)])), "blocks 1 to 9 of /b"),
        (vec![piece("/a/b", 0, &[]), piece("/a.b", 0, &[])], "paths that ascend"),
        (vec![piece("/", 1, &[run(0, 1, 60)])], "paths that ascend"),
    ];
    for (pieces, expected) in cases {
        let found = found(&[range(0, 5)], pieces);
        assert!(found.contains(expected), "{pieces:?}: {found}");
    }
}

#[test]
fn paths_without_end_are_refused() {
    let mut answers = Answers::new(BlockCount(100));
    answers.path_bytes = PATH_BYTES_MAX - 1;
    answers.piece(piece("/a", 0, &[])).expect("one byte is left");
    let error = answers.piece(piece("/b", 0, &[])).expect_err("one too many");
    assert!(error.to_string().contains("bytes of paths"), "{error}");
}

#[test]
fn metadata_comes_before_the_boot_sector() {
    let pieces = [piece("/a", 9, &[run(1, 2, 20)]), piece("/b", 1, &[run(0, 1, 22)])];
    let layout = heard(&[range(5, 5)], &pieces).expect("true");
    let order = order(&layout, BlockCount(100));
    assert_eq!(order, [range(5, 5), range(0, 5), range(10, 10), range(23, 77), range(20, 3)]);
}

/// Who owns a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Metadata,
    Nobody,
    File(usize),
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![Just(Owner::Metadata), Just(Owner::Nobody), (0..5_usize).prop_map(Owner::File),]
}

/// Runs of a few blocks, each of one owner.
fn disk() -> impl Strategy<Value = Vec<Owner>> {
    let runs = proptest::collection::vec((owner(), 1..6_usize), 0..40);
    runs.prop_map(|runs| {
        runs.into_iter().flat_map(|(owner, count)| std::iter::repeat_n(owner, count)).collect()
    })
}

/// The runs of an owner's blocks.
fn owned(disk: &[Owner], owner: Owner) -> Vec<BlockRange> {
    let mut runs: Vec<BlockRange> = Vec::new();
    for block in (0..disk.len()).filter(|&block| disk[block] == owner) {
        match runs.last_mut() {
            Some(last) if last.end().0 == block as u64 => last.count.0 += 1,
            _ => runs.push(range(block as u64, 1)),
        }
    }
    runs
}

/// A layout in which `shuffle` decides in which order a file's runs follow one another.
fn laid_out(disk: &[Owner], shuffle: u64) -> Layout {
    let mut answers = Answers::new(BlockCount(disk.len() as u64));
    let metadata = owned(disk, Owner::Metadata);
    metadata.into_iter().try_for_each(|range| answers.metadata(range)).expect("true");
    for file in 0..5 {
        let mut runs = owned(disk, Owner::File(file));
        let turn = shuffle as usize % runs.len().max(1);
        runs.rotate_left(turn);
        let blocks = runs.iter().map(|range| range.count.0).sum();
        let mut next = 0;
        let runs: Vec<DiskRun> = runs
            .iter()
            .map(|range| {
                next += range.count.0;
                run(next - range.count.0, range.count.0, range.start.0)
            })
            .collect();
        answers.piece(piece(&format!("/{file}"), blocks, &runs)).expect("true");
    }
    answers.finish().expect("true")
}

proptest! {
    #[test]
    fn every_block_travels_once_and_in_turn(disk in disk(), shuffle in any::<u64>()) {
        let layout = laid_out(&disk, shuffle);
        let order = order(&layout, BlockCount(disk.len() as u64));
        prop_assert!(order.iter().all(|range| range.count.0 > 0));
        let blocks: Vec<u64> = order.iter().flat_map(|r| r.start.0..r.end().0).collect();
        let mut oracle = Vec::new();
        for owner in [Owner::Metadata, Owner::Nobody] {
            oracle.extend((0..disk.len()).filter(|&b| disk[b] == owner).map(|b| b as u64));
        }
        for file in &layout.files {
            oracle.extend(file.extents.iter().flat_map(|(_, r)| r.start.0..r.end().0));
        }
        prop_assert_eq!(&blocks, &oracle);
        let mut sorted = blocks;
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..disk.len() as u64).collect::<Vec<_>>());
    }
}
