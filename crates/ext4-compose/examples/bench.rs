//! How long composing small files takes, and how much metadata it makes, against `cp -a` of the same
//! files into a mounted image. Arguments: number of files (20000), and `cp` to run the comparison,
//! which needs root. Scratch files go to the system's directory for them.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use goldleaf_block::{BlockNo, FileBlocks, SourceIndex};
use goldleaf_ext4_compose::{Composed, Composer, Content, ContentRun, Op, Options, PutNode};
use goldleaf_host::RealDir;
use goldleaf_tree::{Attrs, GuestPath, NodeKind, Timestamp};

/// Files a directory, about what a Debian root has.
const FILES_PER_DIRECTORY: u64 = 50;
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let files: u64 = args.next().map_or(Ok(20_000), |files| files.parse())?;
    let scratch = tempfile::tempdir()?;
    make_image(&scratch.path().join("base"), files)?;
    let mut times = Vec::new();
    let mut composed = None;
    for _ in 0..RUNS {
        let ops = ops(files)?;
        let start = Instant::now();
        composed = Some(compose(scratch.path(), ops)?);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let Some(composed) = composed else { return Err("no runs".into()) };
    let bytes = composed.slots_used * 4096;
    println!(
        "{files} files: median {:.3} s (of {times:.3?}), {:.1} MB of metadata, {} bytes a file, \
         {} extents",
        times[RUNS / 2],
        bytes as f64 / 1e6,
        bytes / files,
        composed.extents.len()
    );
    if args.next().as_deref() == Some("cp") {
        copy(scratch.path(), files)?;
    }
    Ok(())
}

fn make_image(image: &Path, files: u64) -> Result<(), Box<dyn Error>> {
    let megabytes = 256 + files / 64;
    let inodes = (files * 5 / 4 + 10_000).to_string();
    let status = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-N", &inodes])
        .arg(image)
        .arg(format!("{megabytes}M"))
        .status()?;
    if status.success() { Ok(()) } else { Err("mkfs.ext4 fails".into()) }
}

fn ops(files: u64) -> Result<Vec<Op>, Box<dyn Error>> {
    let mut ops = vec![put("/files", NodeKind::Directory, 0)?];
    for number in 0..files {
        if number % FILES_PER_DIRECTORY == 0 {
            let dir = number / FILES_PER_DIRECTORY;
            ops.push(put(&format!("/files/directory-{dir:06}"), NodeKind::Directory, 0)?);
        }
        ops.push(put(&name(number), NodeKind::File, number)?);
    }
    Ok(ops)
}

fn name(number: u64) -> String {
    format!("/files/directory-{:06}/file-{number:08}.txt", number / FILES_PER_DIRECTORY)
}

fn put(path: &str, kind: NodeKind, block: u64) -> Result<Op, Box<dyn Error>> {
    let time = Timestamp { secs: 1_700_000_000, nanos: 5 };
    let run = ContentRun { file_block: 0, blocks: 1, source: SourceIndex(2), at: BlockNo(block) };
    let attrs =
        Attrs { mode: 0o644, uid: 0, gid: 0, mtime: time, ctime: time, crtime: time, flags: 0 };
    let node = PutNode {
        kind,
        attrs,
        xattrs: Vec::new(),
        content: Content::Runs { size: 1000, runs: vec![run] },
        target: Vec::new(),
        link: None,
    };
    Ok(Op::Put { path: GuestPath::parse(path)?, node })
}

fn compose(scratch: &Path, ops: Vec<Op>) -> Result<Composed, Box<dyn Error>> {
    let dir = RealDir::open(scratch)?;
    let _ = fs::remove_file(scratch.join("metadata"));
    let base = Arc::new(FileBlocks::new(dir.open("base")?)?);
    let now = Timestamp { secs: 1_790_000_000, nanos: 0 };
    let options = Options { now, zero_unused_inode_tables: true };
    let metadata = dir.create("metadata")?;
    let mut composer = Composer::open(base, metadata, BlockNo(0), SourceIndex(1), options)?;
    ops.into_iter().try_for_each(|op| composer.apply(op))?;
    Ok(composer.finish()?)
}

fn copy(scratch: &Path, files: u64) -> Result<(), Box<dyn Error>> {
    let tree = scratch.join("tree");
    for number in 0..files {
        let path = tree.join(&name(number)[1..]);
        if number % FILES_PER_DIRECTORY == 0 {
            fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        }
        fs::write(path, [b'x'; 1000])?;
    }
    let mount = scratch.join("mount");
    fs::create_dir(&mount)?;
    let script = "mount -o loop \"$1\" \"$2\" && cp -a \"$3\" \"$2\" && umount \"$2\"";
    let start = Instant::now();
    let status = Command::new("sh")
        .args(["-ec", script, "sh"])
        .args([scratch.join("base"), mount, tree.join("files")])
        .status()?;
    println!(
        "cp -a into a mounted image, with umount: {:.2} s ({status})",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
