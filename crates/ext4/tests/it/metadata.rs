//! Where metadata lies, against dumpe2fs and debugfs, in many formats.

use std::collections::BTreeSet;

use goldleaf_ext4::{canonical, metadata};

use crate::support::*;

/// A volume with something of everything, and all that dumpe2fs and debugfs say of it.
fn check(megabytes: u64, args: &[&str]) {
    let image = Image::make(megabytes, args);
    let mount = image.mount();
    mount.sh(FILL);
    let listed = run("find", &[mount.at.to_str().expect("text"), "-printf", "%i %y\n"]);
    drop(mount);
    let nodes: BTreeSet<(u64, char)> = listed.lines().map(node).collect();
    let dumped = image.tool("dumpe2fs", &[]);
    let mut expected = fixed(&dumped);
    let mut own = vec![(7, '7'), (8, 'j')];
    own.extend(value(&dumped, "Orphan file inode:").map(|ino| (ino, 'o')));
    let requests = image.path().with_extension("requests");
    let all: Vec<(u64, char)> = nodes.into_iter().chain(own).collect();
    let lines: Vec<String> = all.iter().map(|(ino, _)| format!("stat <{ino}>\n")).collect();
    std::fs::write(&requests, lines.concat()).expect("requests");
    let said = image.tool("debugfs", &["-f", requests.to_str().expect("text")]);
    let answers: Vec<&str> = said.split("debugfs: stat ").skip(1).collect();
    assert_eq!(answers.len(), all.len());
    let with_block = answers.iter().filter(|answer| !answer.contains("File ACL: 0\n")).count();
    assert!(said.contains("(ETB") && with_block > 0, "trees and attributes in blocks of their own");
    for ((_, kind), answer) in all.iter().zip(answers) {
        expected.extend(of_inode(*kind, answer));
    }
    let ranges = metadata(&image.volume()).expect("metadata");
    assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start), "sorted and joined");
    let found: BTreeSet<u64> = ranges.iter().flat_map(|r| r.start.0..r.end().0).collect();
    assert_eq!(found, expected, "{args:?}");
    zeroes_are_no_metadata(&image, &found);
}

/// What is not there in the canonical form is not looked for.
fn zeroes_are_no_metadata(image: &Image, found: &BTreeSet<u64>) {
    for range in canonical(&image.volume()).expect("canonical").zeroes {
        assert!(found.range(range.start.0..range.end().0).next().is_none(), "{range:?}");
    }
}

fn node(line: &str) -> (u64, char) {
    let (ino, kind) = line.split_once(' ').expect("two words");
    (ino.parse().expect("a number"), kind.chars().next().expect("a kind"))
}

/// The number behind a heading.
fn value(text: &str, heading: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(heading))?;
    line[heading.len()..].trim().parse().ok()
}

/// `5`, or `7-1030`, at the beginning of a text.
fn span(text: &str) -> std::ops::RangeInclusive<u64> {
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        (text[..end].parse::<u64>().expect("a number"), end)
    };
    let (first, end) = digits(text);
    match text[end..].strip_prefix('-') {
        Some(rest) => first..=digits(rest).0,
        None => first..=first,
    }
}

/// The groups' structures, by dumpe2fs.
fn fixed(dumped: &str) -> BTreeSet<u64> {
    let per_block = 4096 / value(dumped, "Inode size:").expect("an inode size");
    let mut found = BTreeSet::new();
    let numbered = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
    for group in dumped.split("\nGroup ").filter(numbered) {
        for heading in ["superblock at ", "descriptors at ", "descriptor at ", "GDT blocks at "] {
            found.extend(group.split(heading).skip(1).flat_map(span));
        }
        found.extend(group.split("bitmap at ").skip(1).flat_map(span));
        let table = span(group.split("Inode table at ").nth(1).expect("a table"));
        let unused = group.split(" unused inodes").next().filter(|text| text.len() < group.len());
        let unused = unused
            .and_then(|text| text.rsplit(' ').next())
            .map_or(0, |word| word.parse::<u64>().expect("a number of unused inodes"));
        found.extend(table.clone().take(table.count() - (unused / per_block) as usize));
    }
    found
}

/// What of an inode's blocks is metadata, by debugfs' `stat`.
fn of_inode(kind: char, answer: &str) -> Vec<u64> {
    let list = answer.split("File ACL: ").nth(1).expect("attributes");
    let mut found: Vec<u64> = span(list).filter(|&block| block != 0).collect();
    let runs = answer.split("EXTENTS:\n").nth(1).or(answer.split("BLOCKS:\n").nth(1));
    for run in runs.unwrap_or("").lines().next().unwrap_or("").split(", ") {
        let Some((label, place)) = run.trim_start_matches('(').split_once("):") else { continue };
        let counts = match kind {
            'f' => label.starts_with("ETB"),
            'j' => label.starts_with("ETB") || label == "0" || label.starts_with("0-"),
            '7' => label == "DIND",
            _ => true,
        };
        let blocks = if kind == 'j' && label.starts_with('0') { 1 } else { usize::MAX };
        found.extend(span(place).filter(|_| counts).take(blocks));
    }
    found
}

#[test]
fn default_format() {
    check(128, &[]);
}

#[test]
fn without_64bit_and_checksums() {
    check(64, &["-O", "^64bit,^metadata_csum,uninit_bg"]);
}

#[test]
fn without_any_checksums_or_flex_bg() {
    check(64, &["-O", "^64bit,^metadata_csum,^flex_bg,^uninit_bg,^dir_index"]);
}

#[test]
fn meta_bg_and_small_groups() {
    check(128, &["-O", "meta_bg,^resize_inode", "-g", "2048"]);
}

#[test]
fn sparse_super2_seed_and_large_inodes() {
    check(64, &["-O", "sparse_super2,metadata_csum_seed,orphan_file", "-I", "512"]);
}

#[test]
fn lazily_initialised_tables_and_other_group_sizes() {
    check(200, &["-E", "lazy_itable_init=1", "-g", "8192", "-N", "20000", "-G", "4"]);
}
