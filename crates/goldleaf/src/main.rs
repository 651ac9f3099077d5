//! The `goldleaf` program.
fn main() {}
