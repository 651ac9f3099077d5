//! All patterns of a rule set in one tree over path components, so that a path meets each of them
//! in one walk.
//!
//! A walk keeps the set of tree nodes that the components so far can stand for. A pattern's final
//! `**` is no node: it marks its parent, whose mark then holds for every deeper path.

use super::glob::Glob;
use super::pattern::{Part, Pattern};

/// Number of a rule in its set.
type RuleNumber = u32;
type NodeNumber = u32;

#[derive(Debug, Default)]
struct Node {
    /// Children by name, sorted.
    literals: Vec<(Box<[u8]>, NodeNumber)>,
    /// Children by glob; the text tells equal ones.
    globs: Vec<(String, Glob, NodeNumber)>,
    /// The child that stands for any number of components, none included.
    any: Option<NodeNumber>,
    /// This node is such a child: it stays when a component is consumed.
    stays: bool,
    /// Rules that hold for a path that ends here.
    here: Vec<RuleNumber>,
    /// Rules that hold for every path that goes on from here.
    below: Vec<RuleNumber>,
}

/// The compiled patterns of a rule set.
#[derive(Debug)]
pub(super) struct Index {
    nodes: Vec<Node>,
}

/// Buffers of a walk, kept so that classifying many paths does not allocate for each.
#[derive(Debug)]
pub(crate) struct Walk {
    now: Vec<NodeNumber>,
    next: Vec<NodeNumber>,
    /// The rules whose patterns fit, highest first, once each.
    pub(super) found: Vec<RuleNumber>,
}

impl Default for Walk {
    fn default() -> Self {
        // Room for what a path usually meets, so that a single walk does not grow its buffers.
        let room = 16;
        let (now, next) = (Vec::with_capacity(room), Vec::with_capacity(room));
        Self { now, next, found: Vec::with_capacity(room) }
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()] }
    }

    /// Adds a pattern of rule `rule`.
    pub(super) fn add(&mut self, pattern: Pattern, rule: RuleNumber) {
        let mut at = 0;
        for part in pattern.parts {
            at = self.child(at, part);
        }
        let node = self.node_mut(at);
        if pattern.below { node.below.push(rule) } else { node.here.push(rule) }
    }

    fn node(&self, number: NodeNumber) -> &Node {
        &self.nodes[number as usize]
    }

    fn node_mut(&mut self, number: NodeNumber) -> &mut Node {
        &mut self.nodes[number as usize]
    }

    fn child(&mut self, at: NodeNumber, part: Part) -> NodeNumber {
        let fresh = self.nodes.len() as NodeNumber;
        let node = self.node_mut(at);
        let (found, stays) = match part {
            Part::Literal(name) => {
                match node.literals.binary_search_by(|(known, _)| known.as_ref().cmp(&name[..])) {
                    Ok(place) => (node.literals[place].1, false),
                    Err(place) => {
                        node.literals.insert(place, (name.into_boxed_slice(), fresh));
                        (fresh, false)
                    }
                }
            }
            Part::Glob(text, glob) => match node.globs.iter().find(|(known, ..)| *known == text) {
                Some(&(.., known)) => (known, false),
                None => {
                    node.globs.push((text, glob, fresh));
                    (fresh, false)
                }
            },
            Part::Any => (*node.any.get_or_insert(fresh), true),
        };
        if found == fresh {
            self.nodes.push(Node { stays, ..Node::default() });
        }
        found
    }

    /// Finds the rules that have a pattern for the path of these components.
    pub(super) fn walk<'p>(&self, path: impl Iterator<Item = &'p [u8]>, walk: &mut Walk) {
        let Walk { now, next, found } = walk;
        now.clear();
        found.clear();
        self.enter(0, now);
        for name in path {
            next.clear();
            for &number in now.iter() {
                let node = self.node(number);
                found.extend_from_slice(&node.below);
                self.step(number, node, name, next);
            }
            std::mem::swap(now, next);
            if now.is_empty() {
                break;
            }
        }
        for &number in now.iter() {
            found.extend_from_slice(&self.node(number).here);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
    }

    fn step(&self, number: NodeNumber, node: &Node, name: &[u8], next: &mut Vec<NodeNumber>) {
        if node.stays {
            self.enter(number, next);
        }
        let literal = node.literals.binary_search_by(|(known, _)| known.as_ref().cmp(name));
        if let Some((_, child)) = literal.ok().and_then(|place| node.literals.get(place)) {
            self.enter(*child, next);
        }
        for (_, glob, child) in &node.globs {
            if glob.matches(name) {
                self.enter(*child, next);
            }
        }
    }

    /// Adds a node, and what it can stand for without consuming a component.
    fn enter(&self, number: NodeNumber, set: &mut Vec<NodeNumber>) {
        let mut at = Some(number);
        while let Some(number) = at {
            if set.contains(&number) {
                return;
            }
            set.push(number);
            at = self.node(number).any;
        }
    }
}
