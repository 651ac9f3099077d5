//! The list of cases by hand: a sound disk, one wound each, and what is to come of it.

mod journals;
mod nodes;
mod supers;
pub mod tables;
mod trees;

use super::ground::Ground;
use super::layout::{BLOCK, Disk, Spot};

/// What must become of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is taken: the wound does no harm, or is none.
    Accepted,
    /// It is refused, and why.
    Refused,
}

use Expected::{Accepted, Refused};

/// What a case is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A volume.
    Clean,
    /// A volume whose journal is not empty.
    Dirty,
    /// A disk with a GPT.
    Gpt,
    /// A disk with an MBR.
    Mbr,
}

/// One case.
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What it is made from.
    pub on: On,
    /// What becomes of it as an image.
    pub image: Expected,
    /// What becomes of it as what a session left.
    pub session: Expected,
    wound: fn(&mut Disk),
}

impl Case {
    /// The disk.
    pub fn disk(&self, ground: &Ground) -> Disk {
        let mut disk = match self.on {
            On::Clean => &ground.clean,
            On::Dirty => &ground.dirty,
            On::Gpt => &ground.gpt,
            On::Mbr => &ground.mbr,
        }
        .clone();
        (self.wound)(&mut disk);
        disk
    }
}

const fn case(name: &'static str, on: On, expected: [Expected; 2], wound: fn(&mut Disk)) -> Case {
    Case { name, on, image: expected[0], session: expected[1], wound }
}

/// All cases.
pub fn all() -> Vec<&'static Case> {
    let sound = std::iter::once(&SOUND);
    let lists = [trees::CASES, nodes::CASES, supers::CASES, journals::CASES, tables::CASES];
    sound.chain(lists.into_iter().flatten()).collect()
}

/// So that a refusal means something.
const SOUND: Case = case("no wound", On::Clean, [Accepted; 2], |_| ());

/// The directory that most wounds are in.
const HOME: &str = "home/ada";

/// Changes an inode, and gives it its sum.
fn inode(disk: &mut Disk, path: &str, change: impl FnOnce(&mut Disk, usize)) {
    let ino = disk.find(path);
    inode_of(disk, ino, change);
}

fn inode_of(disk: &mut Disk, ino: u32, change: impl FnOnce(&mut Disk, usize)) {
    let at = disk.inode(ino);
    change(disk, at);
    disk.seal(Spot::Inode(ino));
}

/// Changes a record of a directory by its name.
fn record(disk: &mut Disk, path: &str, name: &[u8], change: impl FnOnce(&mut Disk, usize)) {
    let directory = disk.find(path);
    let (at, _) = disk.record(directory, name);
    change(disk, at);
    disk.seal(Spot::Names(directory, (at / BLOCK) as u64));
}

/// Gives the last file of the home, which has room behind it, another name.
fn rename_last(disk: &mut Disk, name: &[u8]) {
    let directory = disk.find(HOME);
    let block = disk.blocks_of(directory).0[0];
    let at = *disk.records(block).last().expect("a record");
    disk.bytes[at + 6] = name.len() as u8;
    disk.put(at + 8, name);
    disk.seal(Spot::Names(directory, block));
}

/// Changes the superblock.
fn superblock(disk: &mut Disk, change: impl FnOnce(&mut Disk)) {
    change(disk);
    disk.seal(Spot::Super);
}
