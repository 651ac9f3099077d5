//! Why a path goes where it goes, as data that commands and consoles render.

use goldleaf_tree::GuestPath;
use serde::{Deserialize, Serialize};

use super::{PathFacts, RuleId, RuleRef, RuleSet, Target, Walk};

/// A rule as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText {
    /// The file that holds it.
    pub file: String,
    /// Its first line there, from 1.
    pub line: usize,
    /// As written.
    pub text: String,
    /// Why it exists.
    pub why: String,
    /// Where it sends what it fits.
    pub target: Target,
}

/// Why a path goes where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The path.
    pub path: GuestPath,
    /// What was known about it.
    pub facts: PathFacts,
    /// Where it goes by the rules; classification may still see that nothing changed at all.
    pub target: Target,
    /// The rule that decided; `None` when no rule fits and the default holds.
    pub decided: Option<RuleText>,
    /// Rules before it that fit too, nearest first: what would hold without it.
    pub overridden: Vec<RuleText>,
    /// Later rules whose pattern fits but whose conditions do not, last first.
    pub unmet: Vec<RuleText>,
}

impl RuleSet {
    /// Explains the decision about a path.
    pub fn explain(&self, path: &GuestPath, facts: &PathFacts) -> Explanation {
        let mut walk = Walk::default();
        let decided = self.evaluate_with(path, facts, &mut walk);
        let mut overridden = Vec::new();
        let mut unmet = Vec::new();
        for &number in &walk.found {
            let (Some(rule), Some(text)) = (self.rules.get(number as usize), self.text(number))
            else {
                continue;
            };
            let later = !matches!(decided, RuleRef::Rule(RuleId(by)) if number <= by);
            match (rule.fits(facts), later) {
                (true, false) if decided != RuleRef::Rule(RuleId(number)) => overridden.push(text),
                (false, true) => unmet.push(text),
                _ => {}
            }
        }
        Explanation {
            path: path.clone(),
            facts: *facts,
            target: self.target(decided, facts).clone(),
            decided: match decided {
                RuleRef::Default => None,
                RuleRef::Rule(RuleId(number)) => self.text(number),
            },
            overridden,
            unmet,
        }
    }

    fn text(&self, number: u32) -> Option<RuleText> {
        self.rules.get(number as usize).map(|rule| RuleText {
            file: rule.at.file.clone(),
            line: rule.at.line,
            text: rule.text.clone(),
            why: rule.why.clone(),
            target: rule.target.clone(),
        })
    }
}
