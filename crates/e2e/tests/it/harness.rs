//! The harness on a real guest: an image from nothing, booted, used, and powered off.

use std::time::Duration;

use goldleaf_e2e::repo::{Package, Repository};
use goldleaf_e2e::{Guest, images};
use goldleaf_vm::SessionEnd;

#[test]
fn a_made_image_boots_and_obeys() {
    let image = images::kept(&images::recipe()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.raw");
    images::copy(&image, &disk).unwrap();
    let mut guest = Guest::boot(&disk).unwrap();
    eprintln!("booted to a shell in {:.1} s", guest.boot_time.as_secs_f64());

    assert_eq!(guest.run("findmnt -no SOURCE,FSTYPE /").unwrap(), "/dev/vda2 ext4");
    assert_eq!(guest.run("stat -c %U:%G:%a /etc/shadow").unwrap(), "root:shadow:640");
    assert_eq!(guest.run("systemctl --failed --no-legend").unwrap(), "");

    let odd = guest.console.try_run("echo \"$0 'x'\" >&2; exit 7", Duration::from_secs(60));
    let odd = odd.unwrap();
    assert_eq!((odd.status, odd.text.as_str()), (7, "/run/console/command 'x'\n"));
    let bytes: Vec<u8> = (0..20_000_u32).map(|n| ((n * n) >> 3) as u8).collect();
    guest.console.upload("/root/it's bytes", &bytes).unwrap();
    assert_eq!(guest.console.download("/root/it's bytes").unwrap(), bytes);

    let package = Package::new("hello-goldleaf", "1.0").with_file("/usr/share/hello", "world\n");
    let repository = Repository::serve(&[package]).unwrap();
    let line = repository.sources_line();
    guest.run(&format!("echo '{line}' >/etc/apt/sources.list && apt-get -q update")).unwrap();
    guest.run("apt-get -qy install hello-goldleaf").unwrap();
    assert_eq!(guest.run("cat /usr/share/hello").unwrap(), "world");

    assert_eq!(guest.power_off().unwrap(), SessionEnd::GuestShutdown);
}
