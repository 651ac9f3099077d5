//! A guest with `/home` on a partition of its own.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use goldleaf_block::{FileBlocks, Partition, read_partitions};
use goldleaf_e2e::{Site, images};
use goldleaf_host::RealDir;
use goldleaf_worker::protocol::HarvestMode;

use crate::bench::{Bench, IMAGE};

const HOME_BYTES: u64 = 256 << 20;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

fn partitions(dir: &Path, name: &str) -> Vec<Partition> {
    let file = RealDir::open(dir).unwrap().open(name).unwrap();
    read_partitions(&FileBlocks::new(file).unwrap()).unwrap().partitions
}

/// Works on a partition while the kernel has it mounted.
fn mounted(disk: &str, partition: &Partition, at: &Path, work: impl FnOnce(&Path)) {
    let options = format!("loop,offset={},sizelimit={}", partition.start.0, partition.len.0);
    fs::create_dir_all(at).unwrap();
    run("mount", &["-o", &options, disk, at.to_str().unwrap()]);
    work(at);
    run("umount", &[at.to_str().unwrap()]);
}

/// The suite's image with a third partition for people.
fn with_home(dir: &Path) -> PathBuf {
    let path = dir.join("disk.raw");
    images::copy(&images::kept(&images::recipe()).unwrap(), &path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() + HOME_BYTES).unwrap();
    let disk = path.to_str().unwrap();
    // The backup table goes to the new end; a partition takes what is free behind the others.
    run(
        "sh",
        &[
            "-c",
            &format!(
                "sfdisk -q --relocate gpt-bak-std {disk} && echo ',,L' | sfdisk -q --append {disk}"
            ),
        ],
    );
    let parts = partitions(dir, "disk.raw");
    let (root, home) = (&parts[parts.len() - 2], &parts[parts.len() - 1]);
    let offset = format!("offset={}", home.start.0);
    let blocks = format!("{}", home.len.0 / 4096);
    run(
        "mke2fs",
        &["-q", "-t", "ext4", "-b", "4096", "-L", "people", "-E", &offset, disk, &blocks],
    );
    mounted(disk, root, &dir.join("mnt"), |at| {
        let fstab = fs::read_to_string(at.join("etc/fstab")).unwrap();
        fs::write(at.join("etc/fstab"), fstab + "LABEL=people /home ext4 defaults 0 2\n").unwrap();
    });
    mounted(disk, home, &dir.join("mnt"), |at| {
        fs::write(at.join("readme"), "from the image\n").unwrap();
    });
    path
}

#[test]
fn a_home_on_its_own_partition_is_kept_by_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::with_disk(&with_home(dir.path())).unwrap();
    let desk = site.desktop("parted", &[]).unwrap();
    desk.session(|console| {
        assert_eq!(
            console.run("findmnt -no SOURCE /home; cat /home/readme")?,
            "/dev/vda3\nfrom the image"
        );
        console.run(
            "useradd -m bea && echo dear >/home/bea/diary && chown bea /home/bea/diary && \
                     mkdir /home/bea/.cache && echo c >/home/bea/.cache/c && rm /usr/bin/wall",
        )?;
        // Over the boundary of the volumes.
        console.run("mv /etc/issue.net /home/bea/ && cp -a /usr/bin/script /home/bea/tool")?;
        console.send("systemctl reboot")?;
        console.login("root", "root", Duration::from_secs(400))?;
        assert_eq!(
            console.run("findmnt -no SOURCE /home; cat /home/readme /home/bea/diary")?,
            "/dev/vda3\nfrom the image\ndear"
        );
        assert_eq!(console.run("stat -c %U /home/bea/diary /home/bea")?, "bea\nbea");
        console
            .run(
                "test -x /usr/bin/wall && test -s /etc/issue.net && test -x /home/bea/tool && \
                     rm /home/readme",
            )
            .map(drop)
    })
    .unwrap();
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("/home/bea/diary").unwrap().unwrap(), "dear\n");
    assert!(tree.has("/home/bea/.cache/c").unwrap());
    assert!(!tree.has("/home/readme").unwrap());
    assert_eq!(tree.tree.volumes().len(), 2);
}

/// The suite's image with swap space at its end; where that begins.
fn with_swap(dir: &Path) -> (PathBuf, u64) {
    let path = dir.join("swap.raw");
    images::copy(&images::kept(&images::recipe()).unwrap(), &path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() + (64 << 20)).unwrap();
    let disk = path.to_str().unwrap();
    let append = "sfdisk -q --relocate gpt-bak-std DISK && echo ',,S' | sfdisk -q --append DISK";
    run("sh", &["-c", &append.replace("DISK", disk)]);
    let start = partitions(dir, "swap.raw").last().unwrap().start.0;
    let swap = dir.join("swap");
    File::create(&swap).unwrap().set_len(32 << 20).unwrap();
    run("mkswap", &["-q", swap.to_str().unwrap()]);
    let header = fs::read(&swap).unwrap()[..4096].to_vec();
    file.write_all_at(&header, start).unwrap();
    (path, start)
}

#[test]
fn a_guest_that_hibernated_is_not_filed_and_lost_swap_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, swap) = with_swap(dir.path());
    let mut bench = Bench::new(&disk);
    let (stack, composed) = bench.compose(IMAGE);
    let session = bench.composed_file(&stack, &composed);
    let write = |at: u64, bytes: &[u8]| {
        let file = OpenOptions::new().write(true).open(&session).unwrap();
        file.write_all_at(bytes, at).unwrap();
    };
    // The kernel's `kernel/power/swap.c`: the signature of a hibernated system, at the page's end.
    write(swap + 4086, b"S1SUSPEND\0");
    let (_, _, harvested) = bench.harvest(&stack, &composed, &session, HarvestMode::Desktop);
    assert!(harvested.reply.hibernated);

    write(swap + 4086, b"SWAPSPACE2");
    write(swap + 8192, &[1; 4096]);
    let (_, _, harvested) = bench.harvest(&stack, &composed, &session, HarvestMode::Desktop);
    assert!(!harvested.reply.hibernated);
    let said = &harvested.reply.notes;
    assert!(said.iter().any(|note| note.text.contains("swap space")), "{said:?}");
}
