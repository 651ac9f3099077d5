//! Derived files: made by programs of the guest from other files, so that a layer need not own
//! them.
//!
//! While the inputs are as they were in the session, the session's file holds. Else it is built
//! anew where this crate can ([`ld_cache`]); where it cannot, the stack's file holds and that is
//! noted, until the guest's own trigger makes it again. Nothing of the guest is run on the host.

mod elf;
pub mod ld_cache;

use goldleaf_tree::{FileTree, GuestPath};

use super::{MergeError, Note, NoteKind};

/// Builds a derived file from a tree; `None` when the tree has no use for it.
pub type Rebuild = fn(&dyn FileTree) -> Result<Option<Vec<u8>>, MergeError>;

/// How a derived file comes about.
#[derive(Debug, Clone, Copy)]
pub struct Derived {
    /// What it is derived from, as glob patterns of absolute paths: `**` crosses directories. A
    /// pattern that begins with `./` is relative to the directory of the derived file.
    pub inputs: &'static [&'static str],
    /// Builds it.
    pub rebuild: Option<Rebuild>,
}

/// How the path of a derived file is recognised.
enum Place {
    Exact(&'static str),
    /// The last component, anywhere.
    Name(&'static str),
    Below(&'static str),
}

const fn kept(inputs: &'static [&'static str]) -> Derived {
    Derived { inputs, rebuild: None }
}

const LIBRARIES: &[&str] = &[
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d/*.conf",
    "/lib/**/*.so*",
    "/usr/lib/**/*.so*",
    "/usr/local/lib/**/*.so*",
];

const TABLE: &[(Place, Derived)] = &[
    (
        Place::Exact("/etc/ld.so.cache"),
        Derived { inputs: LIBRARIES, rebuild: Some(ld_cache::build) },
    ),
    (Place::Below("/var/cache/ldconfig"), kept(LIBRARIES)),
    (Place::Name("gschemas.compiled"), kept(&["./*.gschema.xml", "./*.gschema.override"])),
    (Place::Name("mimeinfo.cache"), kept(&["./**/*.desktop"])),
    (Place::Name("icon-theme.cache"), kept(&["./**/*.png", "./**/*.svg", "./**/*.xpm"])),
    (Place::Name("giomodule.cache"), kept(&["./*.so"])),
    (Place::Name("loaders.cache"), kept(&["./loaders/*.so"])),
    (Place::Name("immodules.cache"), kept(&["./immodules/*.so"])),
    (Place::Name("mime.cache"), kept(&["./packages/*.xml"])),
    (
        Place::Below("/etc/ssl/certs"),
        kept(&[
            "/etc/ca-certificates.conf",
            "/usr/share/ca-certificates/**",
            "/usr/local/share/ca-certificates/**",
        ]),
    ),
    (Place::Below("/var/cache/man"), kept(&["/usr/share/man/**", "/usr/local/share/man/**"])),
    (
        Place::Below("/var/cache/fontconfig"),
        kept(&["/usr/share/fonts/**", "/usr/local/share/fonts/**", "/etc/fonts/**"]),
    ),
    (Place::Exact("/var/cache/apt/pkgcache.bin"), kept(&["/var/lib/dpkg/status"])),
    (Place::Exact("/var/cache/apt/srcpkgcache.bin"), kept(&["/var/lib/apt/lists/**"])),
];

/// How `path` comes about, if it is a derived file.
pub fn derived(path: &GuestPath) -> Option<Derived> {
    let place = |place: &Place| match place {
        Place::Exact(at) => super::path(at) == *path,
        Place::Name(name) => path.name() == Some(name.as_bytes()),
        Place::Below(at) => path.starts_with(&super::path(at)) && super::path(at) != *path,
    };
    TABLE.iter().find(|(at, _)| place(at)).map(|(_, derived)| *derived)
}

/// Which file is to stand at the path of a derived file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The session's: its inputs are what they were.
    Session,
    /// This one, built anew.
    Rebuilt(Vec<u8>),
    /// The stack's, which may be out of date: the note says so.
    Stack(Note),
}

/// Settles a derived file. `unchanged`: the inputs on `tree`, the composed stack, are those that
/// the session's file was made from.
pub fn settle(
    path: &GuestPath,
    derived: &Derived,
    unchanged: bool,
    tree: &dyn FileTree,
) -> Result<Verdict, MergeError> {
    if unchanged {
        return Ok(Verdict::Session);
    }
    if let Some(bytes) = derived.rebuild.map(|build| build(tree)).transpose()?.flatten() {
        return Ok(Verdict::Rebuilt(bytes));
    }
    let text = "its inputs changed: the guest must make it again";
    Ok(Verdict::Stack(Note::new(NoteKind::Stale, path.to_string(), text)))
}
