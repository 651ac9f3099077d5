//! Other people's stores on the same images: what the first version takes, and what each of the
//! next ones adds to it. Who is not installed is left out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use goldleaf_figures::{Row, Table};

use super::ground::{Ground, PAIR, V1, V2, V2R};
use super::pair::text;
use crate::Result;

/// How somebody keeps disks.
struct Peer {
    /// As figures call it.
    name: &'static str,
    program: &'static str,
    /// How it was asked to.
    how: &'static str,
    /// Shell commands: once, and for each disk. `$1` is the disk, `$2` the store, `$3` a name.
    begin: &'static str,
    add: &'static str,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "casync",
        program: "casync",
        how: "casync, 64 KiB, zstd",
        begin: "mkdir \"$2\"",
        add: "casync make --digest=sha512-256 --compression=zstd --store=\"$2/chunks.castr\" \
              \"$2/$3.caibx\" \"$1\"",
    },
    Peer {
        name: "borg",
        program: "borg",
        how: "borg, 2 MiB, zstd 3",
        begin: "borg init -e none \"$2\"",
        add: "borg create -C zstd,3 \"$2::$3\" \"$1\"",
    },
    Peer {
        name: "restic",
        program: "restic",
        how: "restic, compressed",
        begin: "restic -q -r \"$2\" init --repository-version 2",
        add: "restic -q -r \"$2\" backup --no-cache --compression auto \"$1\"",
    },
    Peer {
        name: "xdelta3",
        program: "xdelta3",
        how: "xdelta3, the whole disk as its window, lzma",
        begin: "mkdir \"$2\"",
        // It makes differences only, and wants as much memory as the window is long.
        add: "test \"$3\" = v1 || xdelta3 -e -f -S lzma -B 2147483648 -s \"${1%/*/*}/v1/${1##*/}\" \
              \"$1\" \"$2/$3\"",
    },
];

/// Measures. `ours` is what an endpoint of ours fetches of each, in MiB.
pub fn run(ground: &Ground, ours: [f64; 3], table: &mut Table) -> Result<()> {
    for peer in &PEERS {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$1\"", "sh", peer.program])
            .stdout(Stdio::null())
            .status()?;
        if found.success() {
            eprintln!("asking {}", peer.program);
            measure(ground, ours, peer, table)?;
        } else {
            eprintln!("{} is not installed", peer.program);
        }
    }
    Ok(())
}

/// Both of the next versions are added to a store of the first one alone.
fn measure(ground: &Ground, ours: [f64; 3], peer: &Peer, table: &mut Table) -> Result<()> {
    let store = ground.fresh("peer")?.join("store");
    shell(peer.begin, ground, &store, V1)?;
    shell(peer.add, ground, &store, V1)?;
    let first = bytes(&store)?;
    let keep = store.with_extension("first");
    for (name, ours) in PAIR.into_iter().zip(ours) {
        let (theirs, what) = match name {
            V1 => (first, "full_mib".to_owned()),
            V2 | V2R => {
                copy(&store, &keep)?;
                shell(peer.add, ground, &store, name)?;
                let grown = bytes(&store)? - first;
                fs::remove_dir_all(&store)?;
                fs::rename(&keep, &store)?;
                // What it remembers of the store beside it is of the later one.
                let own = store.with_extension("own");
                if own.exists() {
                    fs::remove_dir_all(own)?;
                }
                (grown, format!("delta_v1_{name}_mib"))
            }
            other => return Err(format!("no version: {other}").into()),
        };
        if theirs > 0 {
            let row = Row::new(format!("peers.{}.{what}", peer.name), ours, "MiB");
            table.push(row.beside(peer.how, theirs as f64 / (1 << 20) as f64));
        }
    }
    Ok(fs::remove_dir_all(ground.place.join("peer"))?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    crate::disks::sh("cp", &["-a", text(from)?, text(to)?])
}

fn shell(script: &str, ground: &Ground, store: &Path, name: &str) -> Result<()> {
    let own = store.with_extension("own");
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([&ground.raw(name), store])
        .arg(name)
        .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
        .env("BORG_BASE_DIR", &own)
        .env("XDG_CACHE_HOME", &own)
        .env("RESTIC_PASSWORD", "bench")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Length of all files below a directory.
fn bytes(path: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        sum += if kind.is_dir() { bytes(&entry.path())? } else { kind.len() };
    }
    Ok(sum)
}
