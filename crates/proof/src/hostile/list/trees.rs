//! Wounds of names and directories.

use super::{Accepted, Case, HOME, On, Refused, case, inode, record, rename_last};
use crate::hostile::layout::{BLOCK, Disk, Spot};

pub(super) const CASES: &[Case] = &[
    case("name with a slash", On::Clean, [Refused; 2], |d| rename_last(d, b"a/b")),
    case("name with NUL", On::Clean, [Refused; 2], |d| rename_last(d, b"a\0b")),
    case("name `..`", On::Clean, [Refused; 2], |d| rename_last(d, b"..")),
    case("name `.`", On::Clean, [Refused; 2], |d| rename_last(d, b".")),
    case("name of no bytes", On::Clean, [Refused; 2], |d| rename_last(d, b"")),
    case("name that writes to terminals", On::Clean, [Accepted; 2], |d| {
        rename_last(d, b"\x1b]0;owned\x07\x1b[2J\r\nroot# ");
    }),
    case("name that turns the line around", On::Clean, [Accepted; 2], |d| {
        rename_last(d, "\u{202e}fdp.exe".as_bytes());
    }),
    case("name that is no UTF-8", On::Clean, [Accepted; 2], |d| rename_last(d, b"\xff\xfe\xc3")),
    case("name with a backslash", On::Clean, [Accepted; 2], |d| rename_last(d, b"..\\..\\x")),
    case("name of 255 bytes", On::Clean, [Accepted; 2], |d| rename_last(d, &[b'n'; 255])),
    case("name twice", On::Clean, [Refused, Accepted], |d| rename_last(d, b"text")),
    case("name behind its record", On::Clean, [Refused; 2], |d| {
        record(d, HOME, b"text", |d, at| d.bytes[at + 6] = 200);
    }),
    case("record of no length", On::Clean, [Refused; 2], |d| record_len(d, 0)),
    case("record of an odd length", On::Clean, [Refused; 2], |d| record_len(d, 13)),
    case("record shorter than its head", On::Clean, [Refused; 2], |d| record_len(d, 4)),
    case("record behind its block", On::Clean, [Refused; 2], |d| record_len(d, 4096)),
    case("record as long as can be", On::Clean, [Refused; 2], |d| record_len(d, 0xFFFC)),
    case("entry behind all inodes", On::Clean, [Refused; 2], |d| names(d, u32::MAX)),
    case("entry of a free inode", On::Clean, [Refused; 2], |d| names(d, 1020)),
    // What a session shows of its own volume was its own before.
    case("entry of the journal", On::Clean, [Refused, Accepted], |d| names(d, 8)),
    case("entry of another kind", On::Clean, [Refused, Accepted], |d| {
        record(d, HOME, b"text", |d, at| d.bytes[at + 7] = 7);
    }),
    case("second name of a directory", On::Clean, [Refused; 2], |d| {
        let other = d.find("etc");
        names(d, other);
        record(d, HOME, b"text", |d, at| d.bytes[at + 7] = 2);
    }),
    case("directory in itself", On::Clean, [Refused; 2], |d| cycle(d, "home/ada/a/b")),
    case("directory in its child", On::Clean, [Refused; 2], |d| cycle(d, "home/ada/a")),
    case("root in its child", On::Clean, [Refused; 2], |d| cycle(d, "")),
    case("parent of itself", On::Clean, [Refused, Accepted], |d| {
        let own = d.find("home/ada/a/b");
        record(d, "home/ada/a/b", b"..", |d, at| d.put32(at, own));
    }),
    case("`.` of another", On::Clean, [Refused; 2], |d| {
        record(d, "home/ada/a/b", b".", |d, at| d.put32(at, 2));
    }),
    case("no `.`", On::Clean, [Refused; 2], |d| {
        record(d, "home/ada/a/b", b".", |d, at| d.bytes[at + 8] = b'x');
    }),
    case("root's `..` elsewhere", On::Clean, [Refused, Accepted], |d| {
        let other = d.find("etc");
        record(d, "", b"..", |d, at| d.put32(at, other));
    }),
    case("directory of no bytes", On::Clean, [Refused; 2], |d| size(d, 0)),
    case("directory of half a block", On::Clean, [Refused; 2], |d| size(d, 2048)),
    case("directory of 4 GiB", On::Clean, [Refused; 2], |d| size(d, 0xFFFF_F000)),
    case("directory with a hole", On::Clean, [Refused; 2], |d| {
        inode(d, HOME, |d, at| d.put32(at + 0x28 + 12, 1));
    }),
    case("hash tree without room", On::Clean, [Refused; 2], |d| {
        root_of_hashes(d, |d, at| {
            d.put16(at + 32, 0);
        })
    }),
    case("hash tree fuller than full", On::Clean, [Refused; 2], |d| {
        root_of_hashes(d, |d, at| {
            d.put16(at + 34, 0xFFFF);
        })
    }),
    // A session's names are read in a line.
    case("hash tree 255 deep", On::Clean, [Refused, Accepted], |d| {
        root_of_hashes(d, |d, at| {
            d.bytes[at + 30] = 255;
        })
    }),
    case("hash tree in a loop", On::Clean, [Refused, Accepted], |d| {
        root_of_hashes(d, |d, at| {
            d.put32(at + 36, 0);
        })
    }),
    case("hash tree behind its directory", On::Clean, [Refused, Accepted], |d| {
        root_of_hashes(d, |d, at| d.put32(at + 36, 0x0FFF_FFFF));
    }),
];

fn record_len(disk: &mut Disk, len: u16) {
    record(disk, HOME, b"text", |disk, at| disk.put16(at + 4, len));
}

/// Lets a name stand for another inode.
fn names(disk: &mut Disk, ino: u32) {
    record(disk, HOME, b"text", |disk, at| disk.put32(at, ino));
}

/// Lets the directory `c` in `a/b` be one that is above it.
fn cycle(disk: &mut Disk, above: &str) {
    let above = disk.find(above);
    record(disk, "home/ada/a/b", b"c", |disk, at| disk.put32(at, above));
}

fn size(disk: &mut Disk, bytes: u32) {
    inode(disk, HOME, |disk, at| disk.put32(at + 4, bytes));
}

fn root_of_hashes(disk: &mut Disk, change: impl FnOnce(&mut Disk, usize)) {
    let directory = disk.find("home/ada/many");
    let block = disk.blocks_of(directory).0[0];
    change(disk, block as usize * BLOCK);
    disk.seal(Spot::Names(directory, block));
}
