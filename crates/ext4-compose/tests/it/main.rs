//! Composed volumes, judged by implementations that are not ours: e2fsck and the kernel. Needs
//! root, loop devices and e2fsprogs.

mod features;
mod layout;
mod random;
mod refusal;
mod scale;
mod shortage;
mod single;
mod support;
