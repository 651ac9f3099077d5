//! Clients that are not ours: QEMU's and libnbd's.

use std::path::Path;
use std::process::Command;

use crate::device::{Memory, Served};

const LEN: u64 = 24 << 20;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}{error}");
    said + &error
}

/// A raw image with data, zeroes and holes.
fn image(path: &Path) {
    let bytes: Vec<u8> = (0..LEN)
        .map(|at| match at >> 20 {
            3..9 => 0,
            _ if (at >> 14) % 3 == 0 => 0,
            _ => (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8,
        })
        .collect();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn qemu_io_reads_back_what_it_wrote() {
    let served = Served::new(Memory::new(LEN));
    let uri = served.uri();
    let said = run(
        "qemu-io",
        &[
            "-f",
            "raw",
            &uri,
            "-c",
            "write -P 1 0 1M",
            "-c",
            "write -f -P 2 512k 64k",
            "-c",
            "write -z 64k 64k",
            "-c",
            "write -z -u 256k 32k",
            "-c",
            "discard 768k 128k",
            "-c",
            "write -P 3 3000001 5",
            "-c",
            "aio_write -P 4 8M 4M",
            "-c",
            "aio_write -P 5 12M 64k",
            "-c",
            "aio_flush",
            "-c",
            "flush",
            "-c",
            "read -P 1 0 64k",
            "-c",
            "read -P 0 64k 64k",
            "-c",
            "read -P 1 128k 128k",
            "-c",
            "read -P 0 256k 32k",
            "-c",
            "read -P 2 512k 64k",
            "-c",
            "read -P 0 768k 128k",
            "-c",
            "read -P 0 3000000 1",
            "-c",
            "read -P 3 3000001 5",
            "-c",
            "read -P 4 8M 4M",
            "-c",
            "read -P 5 12M 64k",
            "-c",
            "read -P 0 16M 8M",
        ],
    );
    assert!(!said.contains("verification failed"), "{said}");
    let status = run("qemu-io", &["-f", "raw", &uri, "-c", "map"]);
    assert!(status.contains("not allocated") || status.contains("allocated"), "{status}");
    assert_eq!(served.server().stats().violations, 0);
}

#[test]
fn qemu_img_converts_and_compares() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, back) = (dir.path().join("raw"), dir.path().join("back"));
    image(&raw);
    let (raw, back) = (raw.to_str().unwrap(), back.to_str().unwrap());
    let served = Served::new(Memory::new(LEN));
    let uri = served.uri();
    run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", raw, &uri]);
    assert!(
        run("qemu-img", &["compare", "-f", "raw", "-F", "raw", raw, &uri]).contains("identical")
    );
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, back]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", raw, back]);
    let map = run("qemu-img", &["map", "--output=json", "-f", "raw", &uri]);
    assert!(map.contains("\"zero\": true") && map.contains("\"zero\": false"), "{map}");
}

#[test]
fn libnbd_asks_and_copies_over_several_connections() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, back) = (dir.path().join("raw"), dir.path().join("back"));
    image(&raw);
    let served = Served::new(Memory::new(LEN));
    let uri = served.uri();
    let info = run("nbdinfo", &[&uri]);
    for line in
        ["using structured packets", "base:allocation", "can_multi_conn: true", "can_df: true"]
    {
        assert!(info.contains(line), "{info}");
    }
    let list = run("nbdinfo", &["--list", &uri]);
    assert!(list.contains("disk"), "{list}");
    let connections = served.server().stats().connections;
    run("nbdcopy", &["--connections=4", "--threads=4", "--flush", raw.to_str().unwrap(), &uri]);
    let opened = served.server().stats().connections - connections;
    assert!(opened >= 4, "{opened}");
    run("nbdcopy", &["--connections=4", "--threads=4", &uri, back.to_str().unwrap()]);
    assert!(std::fs::read(&raw).unwrap() == std::fs::read(&back).unwrap());
    let map = run("nbdinfo", &["--map", &uri]);
    assert!(map.contains("data") && map.contains("zero"), "{map}");
    assert_eq!(served.server().stats().violations, 0);
}
