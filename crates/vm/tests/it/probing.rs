//! Formats are named, never guessed; accelerators are tried, never believed.

use std::path::Path;
use std::time::{Duration, Instant};

use goldleaf_vm::{Accel, Probe, QEMU_BINARY, probe, version};

use crate::guest::{Guest, HANG};

/// A guest that writes another format's magic into its first sector has the same disk afterwards.
#[test]
fn a_disk_is_never_retyped() {
    for magic in [&b"QFI\xfb\0\0\0\x03"[..], b"KDMV\x01\0\0\0", b"LUKS\xba\xbe\0\x02"] {
        let guest = Guest::new(magic);
        let qemu = guest.start();
        let nodes = qemu.monitor().query_block_nodes().unwrap();
        let disk = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "disk0");
        let disk = disk.expect("the disk's node");
        assert_eq!(disk["drv"], "raw");
        assert_eq!(disk["image"]["virtual-size"], 1 << 20);
        qemu.kill();
    }
}

/// Whatever the trial says must hold: a guest is run by what it chose.
#[test]
fn the_trial_is_quick_and_right() {
    let start = Instant::now();
    let found = probe(Path::new(QEMU_BINARY), &goldleaf_host::RealClock::new()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    if let Probe::Tcg { why } = &found {
        assert!(!why.is_empty());
        println!("{why}");
    }
    let guest = Guest::new(HANG);
    let mut launch = guest.launch();
    launch.accel = found.accel();
    let qemu = crate::guest::start(&launch);
    assert_eq!(qemu.monitor().query_kvm().unwrap(), found.accel() == Accel::Kvm);
}

#[test]
fn the_installed_version_is_read() {
    assert!(version(Path::new(QEMU_BINARY)).unwrap().major >= 7);
}
