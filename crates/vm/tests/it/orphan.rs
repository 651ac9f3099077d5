//! A hypervisor does not outlive the process that owns it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::guest::{Guest, HANG};

/// The owner: run by the test below, in a process of its own, and killed there.
#[test]
#[ignore = "a part of `killing_the_owner_kills_the_guest`"]
fn owner() {
    let guest = Guest::new(HANG);
    // Started from a thread that ends at once: the guest belongs to the process, not to it.
    let qemu = std::thread::scope(|scope| scope.spawn(|| guest.start()).join()).unwrap();
    println!("\nguest {}", qemu.pid());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn killing_the_owner_kills_the_guest() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "orphan::owner", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pid = lines.filter_map(|line| line.strip_prefix("guest ").map(str::to_owned)).next();
    let process = PathBuf::from("/proc").join(pid.expect("the owner's guest"));
    std::thread::sleep(Duration::from_millis(300));
    let is_qemu =
        || std::fs::read_to_string(process.join("comm")).is_ok_and(|c| c.contains("qemu"));
    assert!(is_qemu(), "the guest must be running while its owner lives");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !is_qemu()
    });
    assert!(gone, "{} survived its owner", process.display());
}
