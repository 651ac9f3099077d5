//! What may not be a golden image is refused by name.

use goldleaf_ext4::{Foreign, Limits, Refusal, gate, identify, validate};

use crate::support::*;

fn refused(args: &[&str]) -> String {
    let image = Image::make(64, args);
    gate(&image.device()).expect_err("refused").to_string()
}

#[test]
fn features_are_refused_by_name_with_a_cure() {
    assert!(refused(&["-O", "bigalloc"]).contains("bigalloc"));
    let quota = refused(&["-O", "quota"]);
    assert!(quota.contains("tune2fs -O ^quota"), "{quota}");
    assert!(refused(&["-O", "quota,project"]).contains("quota"));
    assert!(refused(&["-O", "fast_commit"]).contains("fast_commit"));
    assert!(refused(&["-O", "inline_data"]).contains("inline_data"));
    assert!(refused(&["-O", "mmp"]).contains("tune2fs -O ^mmp"));
    assert!(refused(&["-O", "ea_inode"]).contains("ea_inode"));
    assert!(refused(&["-b", "1024"]).contains("1024"));
    assert!(refused(&["-t", "ext3"]).contains("ext3"));
}

#[test]
fn usual_images_pass_and_live_ones_do_not() {
    let image = Image::make(64, &["-O", "encrypt,verity,casefold"]);
    gate(&image.device()).expect("passes until a file uses them");
    let image = Image::make(64, &["-O", "orphan_file"]);
    assert!(gate(&image.device()).expect("passes").metadata_csum);
    let mount = image.mount();
    mount.sh("echo x > y; sync -f .");
    let live = image.bytes();
    drop(mount);
    let error = gate(&memory(live)).expect_err("not clean");
    assert!(matches!(error, Refusal::NotClean { .. }), "{error}");
}

#[test]
fn a_directory_with_case_folding_is_refused_when_validated() {
    let image = Image::make(64, &["-O", "casefold"]);
    let script = "set_inode_field <2> flags 0x40080000";
    image.tool("debugfs", &["-w", "-R", script]);
    let error = validate(&image.volume(), Limits::default()).expect_err("refused");
    assert!(error.to_string().contains("casefold"), "{error}");
}

#[test]
fn others_are_told_apart() {
    let check = |at: usize, signature: &[u8], foreign| {
        let mut bytes = vec![0; 1 << 20];
        bytes[at..at + signature.len()].copy_from_slice(signature);
        assert_eq!(identify(&memory(bytes.clone())).expect("read"), Some(foreign));
        let error = gate(&memory(bytes)).expect_err("refused");
        assert!(matches!(error, Refusal::Foreign(found) if found == foreign), "{error}");
    };
    check(0, b"LUKS\xba\xbe\0\x02", Foreign::Luks);
    check(512, b"LABELONE................LVM2 001", Foreign::Lvm2);
    check(0, b"XFSB", Foreign::Xfs);
    check(0x10040, b"_BHRfS_M", Foreign::Btrfs);
    check(3, b"NTFS    ", Foreign::Ntfs);
    check(4086, b"SWAPSPACE2", Foreign::Swap);
    check(0, b"hsqs", Foreign::Squashfs);
    assert_eq!(identify(&memory(vec![0; 512])).expect("read"), None);
    assert!(matches!(gate(&memory(vec![0; 512])), Err(Refusal::NotExt4)));
    let image = Image::of(&vec![0; 8 << 20]);
    image.tool("mkfs.fat", &[]);
    assert_eq!(identify(&image.device()).expect("read"), Some(Foreign::Fat));
    let image = Image::of(&vec![0; 8 << 20]);
    image.tool("mkswap", &[]);
    assert_eq!(identify(&image.device()).expect("read"), Some(Foreign::Swap));
}
