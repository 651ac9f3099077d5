//! QEMU driven for real. The guests are boot sectors of a few instructions, so that a whole life of
//! a guest takes a fraction of a second under the translator.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod guest;
mod lifecycle;
mod orphan;
mod probing;
mod refusal;
