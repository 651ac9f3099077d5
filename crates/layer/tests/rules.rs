//! Rules, classification and the compose plan, from outside.

#[path = "rules/classify.rs"]
mod classify;
#[path = "rules/figures.rs"]
mod figures;
#[path = "rules/plan.rs"]
mod plan;
#[path = "rules/tree.rs"]
mod tree;

use goldleaf_tree::GuestPath;

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).expect("a path")
}
