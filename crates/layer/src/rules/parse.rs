//! From a rules file's text to rules. Every complaint names file, line and column.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Position, RulesError};
use super::{KindClass, OwnerClass, Rule, State, Target, Written};
use crate::Kind;

const TARGETS: &str = "`user-apps`, `user-data`, `local`, `identity`, `os`, `drop`, `shred`, \
                       `ignore` or `merge:HANDLER`";

/// A rules file's text with its name, to make positions.
struct Source<'t> {
    file: &'t str,
    text: &'t str,
}

impl Source<'_> {
    fn at(&self, span: &Range<usize>) -> Position {
        Position::of(self.file, self.text, span.start)
    }

    fn expected<T>(&self, value: &Value<'_>, expected: &str) -> Result<T, RulesError> {
        Err(RulesError::Expected {
            at: self.at(&value.span()),
            expected: expected.to_owned(),
            found: describe(value.get_ref()),
        })
    }
}

type Value<'i> = Spanned<DeValue<'i>>;

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("`{text}`"),
        other => format!("a value of type {}", other.type_str()),
    }
}

/// Reads a rules file.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Rule>, RulesError> {
    let source = Source { file, text };
    let table = DeTable::parse(text).map_err(|error| RulesError::Syntax {
        at: source.at(&error.span().unwrap_or(0..0)),
        message: error.message().to_owned(),
    })?;
    let mut rules = Vec::new();
    for (key, value) in table.get_ref() {
        if key.get_ref() != "rule" {
            return Err(RulesError::Expected {
                at: source.at(&key.span()),
                expected: "`[[rule]]`".to_owned(),
                found: format!("`{}`", key.get_ref()),
            });
        }
        let DeValue::Array(items) = value.get_ref() else {
            return source.expected(value, "`[[rule]]`, with two brackets");
        };
        let starts: Vec<usize> = items.iter().map(|item| item.span().start).collect();
        for (number, item) in items.iter().enumerate() {
            let end = starts.get(number + 1).copied().unwrap_or(text.len());
            rules.push(rule(&source, item, end)?);
        }
    }
    Ok(rules)
}

fn rule(source: &Source<'_>, item: &Value<'_>, end: usize) -> Result<Rule, RulesError> {
    let DeValue::Table(table) = item.get_ref() else {
        return source.expected(item, "a table with `path` and `to`");
    };
    let span = item.span();
    let mut rule = Rule::empty(source.at(&span), written(source.text, span.start..end));
    let mut target = None;
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "path" => rule.paths = paths(source, value)?,
            "to" => target = Some(self::target(source, value)?),
            "owned-by" => rule.owned_by = Some(names(source, value, OwnerClass::NAMES)?),
            "state" => rule.states = Some(names(source, value, State::NAMES)?),
            "kind" => rule.kinds = Some(names(source, value, KindClass::NAMES)?),
            "keep-directories" => rule.keep_directories = flag(source, value)?,
            "edits-only" => rule.edits_only = flag(source, value)?,
            "keep" => rule.keep = flag(source, value)?,
            "secret" => rule.secret = flag(source, value)?,
            "broad" => rule.broad = flag(source, value)?,
            "why" => string(source, value, "a text")?.clone_into(&mut rule.why),
            other => {
                return Err(RulesError::Expected {
                    at: source.at(&key.span()),
                    expected: "one of `path`, `to`, `owned-by`, `state`, `kind`, \
                               `keep-directories`, `edits-only`, `keep`, `secret`, `broad`, `why`"
                        .to_owned(),
                    found: format!("`{other}`"),
                });
            }
        }
    }
    complete(source, item, rule, target)
}

fn complete(
    source: &Source<'_>,
    item: &Value<'_>,
    mut rule: Rule,
    target: Option<Target>,
) -> Result<Rule, RulesError> {
    let missing = |expected: &str| RulesError::Expected {
        at: source.at(&item.span()),
        expected: expected.to_owned(),
        found: "a rule without it".to_owned(),
    };
    if rule.paths.is_empty() {
        return Err(missing("`path`, one pattern or a list of them"));
    }
    rule.target = target.ok_or_else(|| missing(&format!("`to`: {TARGETS}")))?;
    let kept = matches!(rule.target, Target::Keep(_));
    if (rule.edits_only || rule.keep || rule.secret) && !kept {
        return Err(RulesError::Expected {
            at: source.at(&item.span()),
            expected: "`edits-only`, `keep` and `secret` with a layer in `to`".to_owned(),
            found: format!("`to = \"{}\"`", rule.target),
        });
    }
    Ok(rule)
}

/// The rule's own lines, without what stands between it and the next rule.
fn written(text: &str, span: Range<usize>) -> String {
    let start = text.get(..span.start).and_then(|t| t.rfind('\n')).map_or(0, |at| at + 1);
    let end = text
        .get(start..span.end)
        .and_then(|t| t.rfind('\n'))
        .filter(|_| span.end < text.len())
        .map_or(span.end, |at| start + at);
    let lines: Vec<&str> = text.get(start..end).unwrap_or_default().lines().collect();
    let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let kept = lines.iter().rposition(|line| !blank(line)).map_or(0, |last| last + 1);
    lines.get(..kept).unwrap_or_default().join("\n")
}

fn string<'v>(
    source: &Source<'_>,
    value: &'v Value<'_>,
    what: &str,
) -> Result<&'v str, RulesError> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.as_ref()),
        _ => source.expected(value, what),
    }
}

fn flag(source: &Source<'_>, value: &Value<'_>) -> Result<bool, RulesError> {
    match value.get_ref() {
        &DeValue::Boolean(flag) => Ok(flag),
        _ => source.expected(value, "`true` or `false`"),
    }
}

/// The values of a list, or the one value that stands for a list of one.
fn list<'v, 'i>(value: &'v Value<'i>) -> Vec<&'v Value<'i>> {
    match value.get_ref() {
        DeValue::Array(values) => values.iter().collect(),
        _ => vec![value],
    }
}

fn paths(source: &Source<'_>, value: &Value<'_>) -> Result<Vec<Written>, RulesError> {
    list(value)
        .into_iter()
        .map(|value| {
            let pattern = string(source, value, "a pattern, or a list of patterns")?.to_owned();
            Ok(Written { pattern, at: source.at(&value.span()) })
        })
        .collect()
}

fn names<T: Copy>(
    source: &Source<'_>,
    value: &Value<'_>,
    known: &[(&str, T)],
) -> Result<Vec<T>, RulesError> {
    let all: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
    let expected = format!("one of {}", all.join(", "));
    list(value)
        .into_iter()
        .map(|value| {
            let name = string(source, value, &expected)?;
            match known.iter().find(|(known, _)| *known == name) {
                Some((_, meant)) => Ok(*meant),
                None => source.expected(value, &expected),
            }
        })
        .collect()
}

fn target(source: &Source<'_>, value: &Value<'_>) -> Result<Target, RulesError> {
    let name = string(source, value, TARGETS)?;
    Ok(match name {
        "os" => Target::Os,
        "drop" => Target::Drop,
        "shred" => Target::Shred,
        "ignore" => Target::Ignore,
        _ => match (name.strip_prefix("merge:"), Kind::parse(name)) {
            (Some(handler), _) if !handler.is_empty() => Target::Merge(handler.to_owned()),
            (None, Some(kind)) if kind != Kind::Apps => Target::Keep(kind),
            _ => return source.expected(value, TARGETS),
        },
    })
}
