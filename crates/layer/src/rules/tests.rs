use goldleaf_tree::GuestPath;
use proptest::prelude::*;

use super::*;

const NEW: PathFacts =
    PathFacts { owned_by: OwnerClass::Nobody, state: State::New, kind: KindClass::File };

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).expect("a path")
}

fn set(text: &str) -> RuleSet {
    let file = RuleFile::factory("test", text).expect("rules");
    RuleSet::compile(&[file], &[]).expect("patterns")
}

#[track_caller]
fn check_pattern(pattern: &str, text: &str, expected: bool) {
    let rules = set(&format!("[[rule]]\npath = '{pattern}'\nto = 'drop'"));
    let got = rules.evaluate(&path(text), &NEW) != RuleRef::Default;
    assert_eq!(got, expected, "{pattern} for {text}");
}

#[test]
fn patterns() {
    check_pattern("/", "/", true);
    check_pattern("/", "/a", false);
    check_pattern("/**", "/", false);
    check_pattern("/**", "/a/b/c", true);
    check_pattern("/var/cache/**", "/var/cache", false);
    check_pattern("/var/cache/**", "/var/cache/apt/x", true);
    check_pattern("/var/cache{,/**}", "/var/cache", true);
    check_pattern("/var/cache/*", "/var/cache/apt/x", false);
    check_pattern("/usr/share/**/mimeinfo.cache", "/usr/share/mimeinfo.cache", true);
    check_pattern("/usr/share/**/mimeinfo.cache", "/usr/share/a/b/mimeinfo.cache", true);
    check_pattern("/usr/share/**/mimeinfo.cache", "/usr/share/mimeinfo.cache/x", false);
    check_pattern("/**/a/**/b/**", "/x/a/y/z/b/q", true);
    check_pattern("/**/a/**/b/**", "/a/b/q", true);
    check_pattern("/**/a/**/b/**", "/a/b", false);
    check_pattern("~/.ssh/**", "/home/ann/.ssh/id", true);
    check_pattern("~/.ssh/**", "/root/.ssh/id", true);
    check_pattern("~/.ssh/**", "/srv/ann/.ssh/id", false);
    check_pattern("~", "/home/ann", true);
    check_pattern("/etc/rc?.d/**", "/etc/rc2.d/S01x", true);
}

#[test]
fn homes_of_accounts() {
    let file = RuleFile::factory("t", "[[rule]]\npath = '~/x'\nto = 'drop'").expect("rules");
    let rules = RuleSet::compile(&[file], &[path("/srv/homes/[ann]")]).expect("patterns");
    assert_ne!(rules.evaluate(&path("/srv/homes/[ann]/x"), &NEW), RuleRef::Default);
    assert_eq!(rules.evaluate(&path("/srv/homes/a/x"), &NEW), RuleRef::Default);
}

#[test]
fn last_rule_that_fits_decides() {
    let text = "[[rule]]\npath = '/a/**'\nto = 'drop'\n\n# note\n[[rule]]\npath = '/a/b'\n\
                owned-by = ['image', 'apps']\nto = 'local'\nwhy = 'because'\n# end\n";
    let rules = set(text);
    let image = PathFacts { owned_by: OwnerClass::Image, ..NEW };
    assert_eq!(rules.evaluate(&path("/a/b"), &NEW), RuleRef::Rule(RuleId(0)));
    assert_eq!(rules.evaluate(&path("/a/b"), &image), RuleRef::Rule(RuleId(1)));

    let explained = rules.explain(&path("/a/b"), &image);
    let decided = explained.decided.expect("a rule decides");
    assert_eq!((decided.file.as_str(), decided.line, decided.why.as_str()), ("test", 6, "because"));
    assert!(decided.text.starts_with("[[rule]]\npath = '/a/b'"), "{}", decided.text);
    assert!(decided.text.ends_with("why = 'because'"), "{}", decided.text);
    assert_eq!(explained.overridden.len(), 1);
    assert_eq!(explained.overridden[0].text, "[[rule]]\npath = '/a/**'\nto = 'drop'");

    let explained = rules.explain(&path("/a/b"), &NEW);
    assert_eq!(explained.target, Target::Drop);
    assert_eq!((explained.overridden.len(), explained.unmet.len()), (0, 1));
    let explained = rules.explain(&path("/z"), &NEW);
    assert_eq!((explained.decided, explained.target), (None, Target::Keep(Kind::UserData)));
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = RuleFile::site("site.toml", text).and_then(|file| RuleSet::compile(&[file], &[]));
    assert_eq!(error.err().map(|error| error.to_string()).as_deref(), Some(expected));
}

#[test]
fn errors_say_where_and_what() {
    let owners = "`image`, `apps`, `user-package`, `nobody`";
    check_error(
        "[[rule]]\npath = '/a'\nto = 'nowhere'",
        "site.toml:3:6: expected `user-apps`, `user-data`, `local`, `identity`, `os`, `drop`, \
         `shred`, `ignore` or `merge:HANDLER`, found `nowhere`",
    );
    check_error(
        "[[rule]]\npath = '/a'\nto = 'drop'\nowned-by = ['image', 'me']",
        &format!("site.toml:4:22: expected one of {owners}, found `me`"),
    );
    check_error(
        "[[rule]]\npath = '/a'\nto = 'drop'\nkeep-directories = 'yes'",
        "site.toml:4:20: expected `true` or `false`, found `yes`",
    );
    check_error(
        "\n[[rule]]\npath = 7\nto = 'drop'",
        "site.toml:3:8: expected a pattern, or a list of patterns, \
         found a value of type integer",
    );
    check_error("[rules]\n", "site.toml:1:2: expected `[[rule]]`, found `rules`");
    check_error(
        "[[rule]]\npath = ['/ü', '/a{b']\nto = 'drop'",
        "site.toml:2:15: the pattern `/a{b` has a `{` without its `}`",
    );
    check_error(
        "[[rule]]\nto = 'drop'",
        "site.toml:1:1: expected `path`, one pattern or a list of them, found a rule without it",
    );
    let error = RuleFile::site("s", "[[rule]]\npath = \n").expect_err("no TOML");
    assert!(matches!(&error, RulesError::Syntax { at, .. } if at.line == 2), "{error}");
    let error =
        RuleFile::site("s", "[[rule]]\npath='/a'\nto='drop'\npat='/b'").expect_err("a typo");
    assert!(error.to_string().starts_with("s:4:1: expected one of `path`"), "{error}");
    let error =
        RuleFile::site("s", "[[rule]]\npath='/a'\nto='os'\nkeep=true").expect_err("no layer");
    assert!(error.to_string().contains("with a layer in `to`"), "{error}");
    assert!(RuleFile::site("s", "[[rule]]\npath='/a'\nto='apps'").is_err());
}

#[track_caller]
fn check_lint(rule: &str, refused: bool) {
    let result = RuleFile::site("site", &format!("[[rule]]\n{rule}"));
    assert_eq!(matches!(result, Err(RulesError::TooBroad { .. })), refused, "{rule}: {result:?}");
    assert!(RuleFile::site("site", &format!("[[rule]]\n{rule}\nbroad = true")).is_ok());
}

#[test]
fn linter_refuses_what_names_too_much() {
    check_lint("path = '/**'\nto = 'drop'", true);
    check_lint("path = '/*/**'\nto = 'drop'", true);
    check_lint("path = ['/x', '/home/**']\nto = 'drop'", true);
    check_lint("path = '~/**'\nto = 'local'", true);
    check_lint("path = '/home/*/**'\nto = 'shred'", true);
    check_lint("path = '/{usr,opt}/**'\nto = 'user-data'", true);
    check_lint("path = '/var/**'\nto = 'ignore'", true);
    check_lint("path = '/var/lib{,/**}'\nto = 'identity'", true);
    check_lint("path = '/opt/**'\nto = 'user-data'", false);
    check_lint("path = '/home/*/Videos/**'\nto = 'local'", false);
    check_lint("path = '/**/*.iso'\nto = 'drop'", false);
    check_lint("path = '/usr/**'\nowned-by = 'image'\nto = 'os'", false);
    check_lint("path = '/usr/**'\nowned-by = ['image', 'nobody']\nto = 'os'", true);
    check_lint("path = '/usr/lib/vendor/**'\nto = 'identity'", false);
}

#[test]
fn factory_rules_compile_and_explain_themselves() {
    let rules = RuleSet::compile(&[RuleFile::debian().expect("rules")], &[]).expect("patterns");
    assert!(rules.rules().count() > 40);
    for rule in rules.rules() {
        assert!(!rule.why().is_empty(), "{}", rule.position());
        if let Target::Merge(handler) = rule.target() {
            assert!(["accounts", "dpkg", "derived"].contains(&handler.as_str()), "{handler}");
        }
    }
}

/// Matches one plain pattern the obvious way, on whole texts.
fn naive(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((&"**", [])), rest) => rest.is_some(),
        (Some((&"**", more)), Some((_, rest))) => naive(more, path) || naive(pattern, rest),
        (Some((&"**", more)), None) => naive(more, path),
        (Some((part, more)), Some((name, rest))) => {
            naive_name(part.as_bytes(), name.as_bytes()) && naive(more, rest)
        }
        (Some(_), None) => false,
    }
}

fn naive_name(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((b'*', more)), rest) => {
            naive_name(more, name) || rest.is_some_and(|(_, rest)| naive_name(pattern, rest))
        }
        (Some((b'?', more)), Some((_, rest))) => naive_name(more, rest),
        (Some((a, more)), Some((b, rest))) => a == b && naive_name(more, rest),
        (Some(_), None) => false,
    }
}

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{1,2}",
        1 => Just("**".to_owned()),
        1 => Just("*".to_owned()),
        1 => "[ab?]\\*[ab]?",
    ]
}

type RawRule = (Vec<Vec<String>>, Option<usize>, Option<usize>);

fn raw_rule() -> impl Strategy<Value = RawRule> {
    let pattern = prop::collection::vec(component(), 1..5);
    let patterns = prop::collection::vec(pattern, 1..3);
    (patterns, prop::option::of(0..4_usize), prop::option::of(0..3_usize))
}

fn render((patterns, owner, state): &RawRule) -> String {
    let patterns: Vec<String> = patterns.iter().map(|p| format!("'/{}'", p.join("/"))).collect();
    let mut text = format!("[[rule]]\npath = [{}]\nto = 'drop'\n", patterns.join(", "));
    if let Some(owner) = owner {
        text += &format!("owned-by = '{}'\n", OwnerClass::NAMES[*owner].0);
    }
    if let Some(state) = state {
        text += &format!("state = '{}'\n", State::NAMES[*state].0);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn evaluation_is_naive_last_match(
        rules in prop::collection::vec(raw_rule(), 0..12),
        names in prop::collection::vec("[ab]{1,3}", 0..6),
        owner in 0..4_usize,
        state in 0..3_usize,
    ) {
        let text: String = rules.iter().map(render).collect();
        let facts = PathFacts {
            owned_by: OwnerClass::NAMES[owner].1,
            state: State::NAMES[state].1,
            kind: KindClass::File,
        };
        let parts: Vec<&str> = names.iter().map(String::as_str).collect();
        let expected = rules.iter().rposition(|(patterns, by, when)| {
            by.is_none_or(|by| by == owner)
                && when.is_none_or(|when| when == state)
                && patterns.iter().any(|pattern| {
                    let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
                    naive(&pattern, &parts)
                })
        });
        let expected = expected.map_or(RuleRef::Default, |n| RuleRef::Rule(RuleId(n as u32)));
        prop_assert_eq!(set(&text).evaluate(&path(&names.join("/")), &facts), expected);
    }

    #[test]
    fn any_text_parses_or_errs(text in "\\PC{0,80}", pattern in "[/a*?\\[\\]{},~!\\\\-]{0,20}") {
        let _ = RuleFile::site("s", &text);
        if let Ok(patterns) = pattern::compile(&pattern, &pattern::homes(&[])) {
            let mut index = Index::new();
            for plain in patterns {
                index.add(plain, 0);
            }
            index.walk(path("/a/b/-").components(), &mut Walk::default());
        }
    }
}
