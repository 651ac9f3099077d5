//! Merge handlers: unit tables, round trips, a real Debian in three states, hostile bytes.

mod accounts;
mod debian;
mod derived;
mod dpkg;
mod hostile;
mod lines;

use goldleaf_layer::merge::{
    Applied, ApplyContext, DiffContext, FileSet, FileState, MergeHandler, NoteKind, Record,
    handlers,
};
use goldleaf_tree::GuestPath;

/// A path.
pub fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).expect("a path")
}

/// Files by path and content; a content that begins with `->` makes a symbolic link.
pub fn files(list: &[(&str, &str)]) -> FileSet {
    let state = |text: &str| match text.strip_prefix("->") {
        Some(target) => FileState::link(target),
        None => FileState::file(text, 0o644),
    };
    list.iter().map(|(at, text)| (path(at), state(text))).collect()
}

/// The handler of that name.
pub fn handler(name: &str) -> &'static dyn MergeHandler {
    handlers().iter().copied().find(|handler| handler.name() == name).expect("a handler")
}

/// The content of a file as text.
pub fn text(files: &FileSet, at: &str) -> String {
    let bytes = files.get(&path(at)).map_or(&[][..], |state| &state.bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

/// The records of a session.
pub fn diff(name: &str, below: &FileSet, after: &FileSet) -> Vec<Record> {
    let package = |account: &str| Some(format!("{account}-server"));
    let context = DiffContext { package_of_account: &package, ..DiffContext::default() };
    handler(name).diff(below, after, &context).expect("records")
}

/// Records written onto a stack.
pub fn apply(name: &str, below: &FileSet, records: &[Record]) -> Applied {
    handler(name).apply(below, records, &ApplyContext::default()).expect("a merge")
}

/// Both halves of the round trip on one stack.
pub fn check_round_trip(name: &str, below: &FileSet, after: &FileSet) -> FileSet {
    let records = diff(name, below, after);
    let applied = apply(name, below, &records);
    assert_eq!(applied.dormant, [], "nothing conflicts on the stack it was recorded on");
    let result = applied.onto(below);
    assert_eq!(diff(name, below, &result), records, "the result says what the session said");
    assert_eq!(diff(name, &result, after), [], "the session says nothing more than the result");
    result
}

/// `kind subject` of each note.
pub fn notes(applied: &Applied, kind: NoteKind) -> Vec<String> {
    let of_kind = applied.notes.iter().filter(|note| note.kind == kind);
    of_kind.map(|note| note.subject.clone()).collect()
}
