//! Wounds of inodes, extents and attributes.

use super::{Accepted, Case, On, Refused, case, inode, inode_of};
use crate::hostile::layout::{BLOCK, Disk, Spot};

const TEXT: &str = "home/ada/text";
const PIECES: &str = "home/ada/pieces";
const LONG: &str = "home/ada/long";
const SHORT: &str = "home/ada/short";
const BITMAP_BITS: usize = 8;

pub(super) const CASES: &[Case] = &[
    case("link of 2^41 bytes", On::Clean, [Refused; 2], |d| size(d, LONG, 1 << 41)),
    case("link of 5,000 bytes", On::Clean, [Refused; 2], |d| size(d, LONG, 5_000)),
    case("link of no bytes", On::Clean, [Refused; 2], |d| size(d, LONG, 0)),
    case("short link of 61 bytes", On::Clean, [Refused; 2], |d| size(d, SHORT, 61)),
    case("link with NUL", On::Clean, [Refused; 2], |d| {
        inode(d, SHORT, |d, at| d.bytes[at + 0x29] = 0);
    }),
    case("file of 2^63 bytes", On::Clean, [Refused; 2], |d| size(d, TEXT, 1 << 63)),
    case("file of 2^64 bytes less one", On::Clean, [Refused; 2], |d| size(d, TEXT, u64::MAX)),
    case("file of nearly 16 TiB, all hole", On::Clean, [Accepted; 2], |d| {
        size(d, TEXT, ((1 << 32) - 2) * 4096);
    }),
    case("file shorter than its blocks", On::Clean, [Accepted; 2], |d| size(d, PIECES, 1)),
    case("kind that is none", On::Clean, [Refused; 2], |d| {
        inode(d, TEXT, |d, at| d.put16(at, 0xF1A4));
    }),
    case("inode without a kind", On::Clean, [Refused, Accepted], |d| {
        inode(d, TEXT, |d, at| d.put16(at, 0));
    }),
    case("inode without links", On::Clean, [Refused, Accepted], |d| links(d, 0)),
    case("inode with 65,535 links", On::Clean, [Refused, Accepted], |d| links(d, 0xFFFF)),
    case("inode with one link too few", On::Clean, [Refused, Accepted], |d| links(d, 1)),
    case("extra fields behind the record", On::Clean, [Refused; 2], |d| {
        inode(d, TEXT, |d, at| d.put16(at + 0x80, 0xFFFC));
    }),
    case("inline data", On::Clean, [Refused; 2], |d| flag(d, 0x1000_0000)),
    case("encrypted file", On::Clean, [Refused; 2], |d| flag(d, 0x800)),
    case("file under fs-verity", On::Clean, [Refused; 2], |d| flag(d, 0x10_0000)),
    case("value of an attribute as a file", On::Clean, [Refused; 2], |d| flag(d, 0x20_0000)),
    case("case folding", On::Clean, [Refused; 2], |d| flag(d, 0x4000_0000)),
    case("blocks mapped as by ext3", On::Clean, [Refused; 2], |d| {
        inode(d, TEXT, |d, at| {
            let flags = d.u32(at + 0x20) & !0x8_0000;
            d.put32(at + 0x20, flags);
        });
    }),
    case("inode with a wrong sum", On::Clean, [Refused; 2], |d| {
        let at = d.inode(d.find(TEXT));
        d.bytes[at + 0x7C] ^= 1;
    }),
    case("extents 6 deep", On::Clean, [Refused; 2], |d| root(d, 6, 6)),
    case("extents 65,535 deep", On::Clean, [Refused; 2], |d| root(d, 6, 0xFFFF)),
    case("more extents than room", On::Clean, [Refused; 2], |d| root(d, 2, 5)),
    case("65,535 extents in 60 bytes", On::Clean, [Refused; 2], |d| {
        root(d, 2, 0xFFFF);
        root(d, 4, 0xFFFF);
    }),
    case("extents without their mark", On::Clean, [Refused; 2], |d| root(d, 0, 0)),
    case("65,535 extents in a node", On::Clean, [Refused; 2], |d| {
        node(d, |d, at| {
            d.put16(at + 2, 0xFFFF);
            d.put16(at + 4, 0xFFFF);
        })
    }),
    case("extents that overlap", On::Clean, [Refused; 2], |d| {
        node(d, |d, at| {
            let first = d.u32(at + 12);
            d.put32(at + 24, first);
        })
    }),
    case("extents in falling order", On::Clean, [Refused; 2], |d| {
        node(d, |d, at| {
            let (first, second) = (d.u32(at + 12), d.u32(at + 24));
            d.put32(at + 12, second);
            d.put32(at + 24, first);
        })
    }),
    case("extent of no blocks", On::Clean, [Refused; 2], |d| {
        node(d, |d, at| {
            d.put16(at + 16, 0);
        })
    }),
    case("extent on block 0", On::Clean, [Refused; 2], |d| node(d, |d, at| d.put32(at + 20, 0))),
    case("extent behind the volume", On::Clean, [Refused; 2], |d| {
        node(d, |d, at| {
            d.put32(at + 20, 4096);
        })
    }),
    case("extent at 2^47", On::Clean, [Refused; 2], |d| {
        node(d, |d, at| {
            d.put16(at + 18, 0x8000);
        })
    }),
    case("extent at the last file block", On::Clean, [Accepted; 2], |d| {
        node(d, |d, at| {
            let last = at + 12 * usize::from(d.u16(at + 2));
            d.put32(last, u32::MAX - 1);
        })
    }),
    case("extent on the inodes", On::Clean, [Refused, Accepted], |d| {
        let table = d.u32(d.group(0) + 8);
        node(d, |d, at| d.put32(at + 20, table));
    }),
    case("blocks of two files", On::Clean, [Refused, Accepted], |d| {
        let other = d.blocks_of(d.find("etc/passwd")).0[0] as u32;
        node(d, |d, at| d.put32(at + 20, other));
    }),
    case("blocks of one file twice", On::Clean, [Refused, Accepted], |d| {
        node(d, |d, at| {
            let first = d.u32(at + 20);
            d.put32(at + 32, first);
        })
    }),
    case("tree that is its own child", On::Clean, [Refused; 2], |d| {
        root_of(d, PIECES, 6, 2);
        node(d, |d, at| {
            let own = (at / BLOCK) as u32;
            d.put16(at + 2, 1);
            d.put16(at + 6, 1);
            d.put32(at + 16, own);
            d.put32(at + 20, 0);
        });
    }),
    case("tree whose node is block 0", On::Clean, [Refused; 2], |d| child(d, 0)),
    case("tree whose node is behind the volume", On::Clean, [Refused; 2], |d| child(d, u32::MAX)),
    case("tree whose node is another file's", On::Clean, [Refused; 2], |d| {
        let other = d.blocks_of(d.find("etc/passwd")).0[0] as u32;
        child(d, other);
    }),
    case("attribute's value behind its block", On::Clean, [Refused; 2], |d| {
        attributes(d, |d, at| d.put16(at + 32 + 2, 4090));
    }),
    case("attribute's value of 4 GiB", On::Clean, [Refused; 2], |d| {
        attributes(d, |d, at| d.put32(at + 32 + 8, u32::MAX));
    }),
    case("attribute's name behind its block", On::Clean, [Refused; 2], |d| {
        attributes(d, |d, at| {
            let all: Vec<u8> = [0xFF, 1, 0, 0, 0, 0, 0, 0].repeat(508);
            d.put(at + 32, &all);
        });
    }),
    case("attribute of no known space", On::Clean, [Refused; 2], |d| {
        attributes(d, |d, at| d.bytes[at + 33] = 99);
    }),
    case("attribute in an inode", On::Clean, [Refused; 2], |d| {
        attributes(d, |d, at| d.put32(at + 32 + 4, 2));
    }),
    case("attributes of two blocks", On::Clean, [Refused; 2], |d| {
        attributes(d, |d, at| d.put32(at + 8, 2));
    }),
    case("attributes of 2^32 owners", On::Clean, [Refused, Accepted], |d| {
        attributes(d, |d, at| d.put32(at + 4, u32::MAX));
    }),
    case("attributes behind the volume", On::Clean, [Refused; 2], |d| {
        inode(d, TEXT, |d, at| d.put32(at + 0x68, u32::MAX));
    }),
    case("attributes in the inode's own table", On::Clean, [Refused; 2], |d| {
        inode(d, TEXT, |d, at| d.put32(at + 0x68, (at / BLOCK) as u32));
    }),
    case("attribute in the record, out of it", On::Clean, [Refused; 2], |d| {
        inode(d, "etc/hostname", |d, at| {
            let first = at + 128 + usize::from(d.u16(at + 0x80)) + 4;
            d.put16(first + 2, 0xFFF0);
        });
    }),
    case("access list of another version", On::Clean, [Refused; 2], |d| {
        inode(d, "etc/hostname", |d, at| {
            let area = at + 128 + usize::from(d.u16(at + 0x80)) + 4;
            let value = area + usize::from(d.u16(area + 2));
            d.put32(value, 77);
        });
    }),
    case("inode that is free by its bitmap", On::Clean, [Refused, Accepted], |d| {
        let index = d.find(PIECES) as usize - 1;
        clear(d, Spot::Inodes(0), index);
    }),
    case("free inode that is in use by its bitmap", On::Clean, [Refused, Accepted], |d| {
        let at = d.range(Spot::Inodes(1)).start;
        d.bytes[at + 60] |= 1;
        d.seal(Spot::Inodes(1));
    }),
    case("block that is free by its bitmap", On::Clean, [Refused, Accepted], |d| {
        let block = d.blocks_of(d.find(PIECES)).0[0] as usize;
        clear(d, Spot::Blocks((block / 2048) as u32), block % 2048);
    }),
    // A block that is lost to everybody does no harm.
    case("block that nobody owns", On::Clean, [Accepted; 2], |d| {
        let at = d.range(Spot::Blocks(1)).start;
        d.bytes[at + 255] |= 0x80;
        d.seal(Spot::Blocks(1));
    }),
];

fn size(disk: &mut Disk, path: &str, bytes: u64) {
    inode(disk, path, |disk, at| {
        disk.put32(at + 4, bytes as u32);
        disk.put32(at + 0x6C, (bytes >> 32) as u32);
    });
}

fn links(disk: &mut Disk, count: u16) {
    inode(disk, TEXT, |disk, at| disk.put16(at + 0x1A, count));
}

fn flag(disk: &mut Disk, flag: u32) {
    inode(disk, TEXT, |disk, at| {
        let flags = disk.u32(at + 0x20) | flag;
        disk.put32(at + 0x20, flags);
    });
}

/// Changes a field of the head of a file's extents.
fn root(disk: &mut Disk, field: usize, value: u16) {
    root_of(disk, TEXT, field, value);
}

fn root_of(disk: &mut Disk, path: &str, field: usize, value: u16) {
    inode(disk, path, |disk, at| disk.put16(at + 0x28 + field, value));
}

/// Changes the node of the tree of the file with many extents.
fn node(disk: &mut Disk, change: impl FnOnce(&mut Disk, usize)) {
    let ino = disk.find(PIECES);
    let block = disk.blocks_of(ino).1[0];
    change(disk, block as usize * BLOCK);
    disk.seal(Spot::Extents(ino, block));
}

fn child(disk: &mut Disk, block: u32) {
    inode(disk, PIECES, |disk, at| disk.put32(at + 0x28 + 16, block));
}

fn attributes(disk: &mut Disk, change: impl FnOnce(&mut Disk, usize)) {
    let ino = disk.find(TEXT);
    let block = disk.u32(disk.inode(ino) + 0x68);
    change(disk, block as usize * BLOCK);
    disk.seal(Spot::Attributes(block.into()));
    inode_of(disk, ino, |_, _| ());
}

/// Clears the bit of the file with many extents in a bitmap.
fn clear(disk: &mut Disk, bitmap: Spot, index: usize) {
    let at = disk.range(bitmap).start + index / BITMAP_BITS;
    disk.bytes[at] &= !(1 << (index % BITMAP_BITS));
    disk.seal(bitmap);
}
