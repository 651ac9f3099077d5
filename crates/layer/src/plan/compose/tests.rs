//! The table: what the user did, what upstream did, what holds.

use goldleaf_tree::Timestamp;

use super::*;
use crate::{Content, EntryAttrs, Owner};

/// Contents, told apart by a letter; lower case for files and links, as digests.
fn digest(letter: char) -> Digest {
    Digest::of(letter.to_string().as_bytes())
}

fn node(kind: NodeKind) -> EntryNode {
    let attrs = EntryAttrs {
        mode: 0o644,
        user: Owner::Id(0),
        group: Owner::Id(0),
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        crtime: Timestamp::default(),
        flags: 0,
    };
    let (xattrs, acl_names, content) = (Vec::new(), Vec::new(), Content::default());
    EntryNode::Node { kind, attrs, xattrs, acl_names, content, target: Vec::new(), link: None }
}

const FIFO: NodeKind = NodeKind::Fifo;
const NULL: NodeKind = NodeKind::CharDevice { major: 1, minor: 3 };
const ZERO: NodeKind = NodeKind::CharDevice { major: 1, minor: 5 };

/// `fX` a file with content X, `lX` a link, `d` a directory, `p` a fifo, `n`/`z` devices, `w` a
/// whiteout, `-` nothing.
fn kind(text: &str) -> Option<NodeKind> {
    Some(match text.chars().next() {
        Some('f') => NodeKind::File,
        Some('l') => NodeKind::Symlink,
        Some('d') => NodeKind::Directory,
        Some('p') => FIFO,
        Some('n') => NULL,
        Some('z') => ZERO,
        _ => return None,
    })
}

fn letter(text: &str) -> Option<Digest> {
    text.chars().nth(1).map(digest)
}

/// layer[+keep|+edit|+higher|+superseded|+absent|+conffile], origin, entry, below, parent: outcome.
#[track_caller]
fn check(row: &str) {
    let (given, expected) = row.split_once("=>").expect("an arrow");
    let parts: Vec<&str> = given.split_whitespace().collect();
    let [layer, origin, entry_text, below, parent] = parts.as_slice() else { panic!("{row}") };
    let mut flags = layer.split('+');
    let layer = flags.next().and_then(Kind::parse).expect("a layer");
    let flags: Vec<&str> = flags.collect();
    let has = |flag| flags.contains(&flag);
    let entry = Entry {
        edit: has("edit"),
        digest: None,
        node: kind(entry_text).map_or(EntryNode::Whiteout, node),
        package: None,
        origin: origin.chars().next().filter(|&c| c != '-').map(digest),
    };
    let case = Case {
        layer,
        entry: &entry,
        keep: has("keep"),
        content: letter(entry_text),
        lower: kind(below).map(|kind| Lower { kind, digest: letter(below) }),
        package: match () {
            () if has("higher") => PackageState::Higher,
            () if has("superseded") => PackageState::Superseded,
            () if has("absent") => PackageState::Absent,
            () => PackageState::None,
        },
        conffile: if has("conffile") { Conffile::Edited } else { Conffile::No },
        parent: match *parent {
            "dir" => Parent::Directory,
            "gone" => Parent::Gone,
            "merged" => Parent::MergedUsr,
            "link" => Parent::Link,
            "file" => Parent::Other,
            "aside" => Parent::KeptAside,
            other => panic!("{other}"),
        },
    };
    let decision = decide(&case);
    assert_eq!(word(&decision), expected.trim(), "{row}\n{decision:?}");
}

fn word(decision: &Decision) -> String {
    let outcome = |report: Option<(Outcome, Reason)>| match report {
        None => String::new(),
        Some((Outcome::Kept, reason)) => format!(", kept {reason:?}"),
        Some((_, reason)) => format!(", over {reason:?}"),
    };
    match *decision {
        Decision::Apply(report) => format!("apply{}", outcome(report)),
        Decision::ApplyInNewParent(report) => format!("apply, new parent{}", outcome(report)),
        Decision::ApplyContent => "content".to_owned(),
        Decision::ApplyAttributes => "attributes".to_owned(),
        Decision::ApplyAndKeepUpstream { suffix, content_only } => {
            format!("{} beside {suffix}", if content_only { "content" } else { "apply" })
        }
        Decision::RemoveIfEmpty => "remove if empty".to_owned(),
        Decision::FollowSymlinkParent => "follow".to_owned(),
        Decision::KeepAside { reason } => format!("aside: {reason:?}"),
        Decision::Skip { reason } => format!("skip: {reason:?}"),
    }
}

#[test]
fn table() {
    // layer, what was below when the entry was made, the entry, what is below now, its parent
    for row in TABLE.lines().map(str::trim).filter(|r| !r.is_empty() && !r.starts_with('#')) {
        check(row);
    }
    assert!(TABLE.matches("=>").count() >= 60);
}

const TABLE: &str = "
    # user only: new, changed, deleted, renamed (a whiteout and a new entry), type changed
    user-data   - fU -  dir => apply
    user-data   a fU fa dir => apply
    user-apps   - fU -  dir => apply
    user-apps   a fU fa dir => apply
    apps        a fU fa dir => apply
    local       - fU -  dir => apply
    identity    a fU fa dir => apply
    user-data   a w  fa dir => apply
    user-apps   a w  fa dir => apply
    user-data   a w  la dir => apply
    user-apps   a fa -  dir => apply
    user-data   a fU la dir => apply
    user-data   a lU fa dir => apply
    user-apps   a lU fa dir => apply
    user-apps   a d  fa dir => apply
    user-data   a d  fa dir => apply
    user-data   - p  -  dir => apply
    user-apps   - n  -  dir => apply
    # user only, edits of configuration; attributes, ACLs and xattrs of an unchanged file
    user-data+edit a fU fa dir => content
    user-data+edit a lU la dir => content
    user-data   a fa fa dir => apply
    user-apps   a fa fa dir => apply
    # both changed
    user-data   a fU fb dir => apply, over ChangedUpstream
    user-apps   a fU fb dir => aside: ChangedUpstream
    apps        a fU fb dir => aside: ChangedUpstream
    user-apps+keep a fU fb dir => apply, over ChangedUpstream
    user-apps+higher a fU fb dir => apply, over ChangedUpstream
    apps+higher a fU fb dir => apply, over ChangedUpstream
    local       a fU fb dir => skip: ChangedUpstream
    identity    a fU fb dir => apply
    user-data+edit a fU fb dir => content beside .dpkg-dist
    user-data+edit+keep a fU fb dir => apply, over ChangedUpstream
    user-data   a lU lb dir => apply, over ChangedUpstream
    user-apps   a lU fb dir => aside: ChangedUpstream
    # both changed, to the same
    user-apps   a fU fU dir => skip: SameBelow
    user-data   a fU fU dir => apply
    user-data+edit a fU fU dir => skip: SameBelow
    user-apps   - fU fU dir => skip: SameBelow
    user-apps   - lU lU dir => skip: SameBelow
    user-apps   - n  n  dir => skip: SameBelow
    user-apps   - p  p  dir => skip: SameBelow
    # both new, with another content
    user-data   - fU fb dir => apply, over BothNew
    user-apps   - fU fb dir => aside: BothNew
    user-apps   - n  z  dir => aside: BothNew
    user-apps+higher - fU fb dir => apply, over BothNew
    local       - fU fb dir => skip: BothNew
    identity    - fU fb dir => apply
    # only upstream changed; what differs are attributes, ACLs, xattrs or the grouping of hard links
    user-data   a fa fb dir => attributes
    user-apps   a fa fb dir => skip: UnchangedByUser
    user-data   a la lb dir => skip: UnchangedByUser
    user-data   a fa lb dir => skip: UnchangedByUser
    user-data+edit a fa fb dir => skip: UnchangedByUser
    # gone upstream
    user-data   a fU -  dir => apply, kept GoneUpstream
    user-apps   a fU -  dir => apply, kept GoneUpstream
    user-data+edit a fU - dir => apply, kept GoneUpstream
    local       a fU -  dir => apply
    user-data   a w  -  dir => skip: AlreadyGone
    user-apps   - w  -  dir => skip: AlreadyGone
    # deleted by the user, changed upstream
    user-data   a w  fb dir => apply, over ChangedUpstream
    user-apps   a w  fb dir => aside: ChangedUpstream
    user-apps+keep a w fb dir => apply, over ChangedUpstream
    user-apps+higher a w fb dir => apply, over ChangedUpstream
    user-apps   a w  d  dir => aside: KindConflict
    user-apps   - w  fb dir => aside: KindConflict
    user-apps   - w  d  dir => remove if empty
    user-data   - w  d  dir => apply
    # a directory against none, upstream moved
    user-data   - fU d  dir => apply, over KindConflict
    user-apps   - fU d  dir => aside: KindConflict
    user-apps   a d  fb dir => aside: KindConflict
    user-data   a d  fb dir => apply, over KindConflict
    user-apps   - d  fb dir => aside: KindConflict
    user-apps+higher - lU d dir => apply, over KindConflict
    local       - fU d  dir => aside: KindConflict
    identity    - d  lb dir => aside: KindConflict
    # two directories
    user-data   - d  d  dir => apply
    user-apps   - d  d  dir => skip: SameBelow
    user-apps+keep - d d dir => apply
    identity    - d  d  dir => apply
    # parents
    user-data   - fU -  gone => apply, new parent
    user-apps   a fU -  gone => apply, new parent, kept GoneUpstream
    user-apps   a w  -  gone => skip: AlreadyGone
    user-apps   - fU -  merged => follow
    user-apps   a w  -  merged => follow
    user-data   - fU -  link => aside: ParentIsLink
    user-apps   - fU -  link => aside: ParentIsLink
    user-data   - fU -  file => apply, new parent, over ParentIsNoDirectory
    user-apps   - fU -  file => aside: ParentIsNoDirectory
    user-apps   - d  -  aside => aside: ParentKeptAside
    user-data   a w  -  aside => skip: AlreadyGone
    # packages
    user-apps+superseded a fU fb dir => skip: PackageSuperseded
    user-apps+superseded - fU -  dir => skip: PackageSuperseded
    apps+superseded      - fU fb dir => skip: PackageSuperseded
    user-apps+superseded+conffile a fU fb dir => content beside .dpkg-dist
    user-apps+superseded+conffile a fU fU dir => skip: PackageSuperseded
    user-apps+superseded+conffile - fU -  dir => skip: PackageSuperseded
    user-data+superseded - fU -  dir => apply
    user-data+absent     - fU -  dir => skip: PackageAbsent
    user-apps+absent     - fU -  dir => skip: PackageAbsent
    user-apps+absent     - fU -  merged => skip: PackageAbsent
    identity+absent      - fU -  dir => apply
    user-data+higher     - fU -  dir => apply
";

#[test]
fn digests_are_asked_for_where_they_matter() {
    let entry = |origin| Entry {
        node: node(NodeKind::File),
        package: None,
        origin,
        digest: None,
        edit: false,
    };
    assert!(needs_digest(Kind::UserApps, &entry(None), NodeKind::File));
    assert!(needs_digest(Kind::Local, &entry(Some(digest('a'))), NodeKind::Symlink));
    assert!(!needs_digest(Kind::Local, &entry(None), NodeKind::File));
    assert!(!needs_digest(Kind::UserData, &entry(Some(digest('a'))), NodeKind::Directory));
}
