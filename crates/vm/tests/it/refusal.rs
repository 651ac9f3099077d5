//! Starts that fail say why.

use std::path::Path;
use std::sync::Arc;

use goldleaf_host::RealClock;
use goldleaf_vm::{Launch, Qemu, VmError, version};

use crate::guest::{Guest, HANG, SOON};

fn refusal(launch: &Launch) -> VmError {
    Qemu::spawn(launch, Arc::new(RealClock::new()), SOON).map(drop).unwrap_err()
}

#[test]
fn a_missing_qemu_names_the_package() {
    let mut launch = Guest::new(HANG).launch();
    launch.binary = "no-such-qemu".into();
    let expected =
        "QEMU is not installed (no-such-qemu was not found): install the package qemu-system-x86";
    assert_eq!(refusal(&launch).to_string(), expected);
    assert_eq!(version(Path::new("no-such-qemu")).unwrap_err().to_string(), expected);
}

#[test]
fn another_program_is_no_qemu() {
    let error = version(Path::new("/bin/true")).unwrap_err();
    assert!(matches!(error, VmError::NotQemu { .. }), "{error}");
}

#[test]
fn a_missing_disk_is_named() {
    let guest = Guest::new(HANG);
    let launch = guest.launch();
    std::fs::remove_file(guest.disk()).unwrap();
    let error = refusal(&launch);
    assert!(matches!(error, VmError::DidNotStart { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("disk,1.raw") && text.contains("No such file"), "{text}");
}

#[test]
fn a_bad_option_is_named() {
    let mut launch = Guest::new(HANG).launch();
    launch.extra = vec!["-no-such-option".into()];
    let text = refusal(&launch).to_string();
    assert!(text.contains("exit status: 1") && text.contains("no-such-option"), "{text}");
}
