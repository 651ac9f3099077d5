//! Feeds in directories.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;

use goldleaf_fetch::{Directory, FetchError, Source};
use goldleaf_host::sim::SimDir;
use goldleaf_host::{Dir, RealDir, replace_file};

use crate::world::{content, range};

fn stick(len: usize) -> (SimDir, Arc<dyn Source>) {
    let dir = SimDir::new();
    replace_file(&dir, "timestamp.json", b"{}").unwrap();
    replace_file(&*dir.create_dir("packs").unwrap(), "00ff", &content(len)).unwrap();
    let source = Directory::new(Arc::new(dir.clone()), "/media/stick");
    (dir, Arc::new(source))
}

#[test]
fn files_and_ranges() {
    let (_, source) = stick(1_000_000);
    let all = content(1_000_000);
    assert_eq!(source.name(), "/media/stick");
    assert_eq!(source.read("timestamp.json", 2).unwrap().unwrap(), b"{}");
    assert_eq!(source.read("packs/00ff", 1000).unwrap().unwrap(), all[..1001]);
    assert_eq!(source.read("2.root.json", 10).unwrap(), None);
    assert_eq!(source.read("none/00ff", 10).unwrap(), None);
    for (at, len) in [(0, 0), (0, 1_000_000), (999_999, 1), (7, 262_145)] {
        assert_eq!(range(&*source, "packs/00ff", at, len).unwrap(), all[at as usize..][..len]);
    }
    let mut pieces = 0;
    let mut take = |_: &[u8]| {
        pieces += 1;
        ControlFlow::Break(())
    };
    source.stream("packs/00ff", 0..1_000_000, &mut take).unwrap();
    assert_eq!(pieces, 1);
}

#[test]
fn what_is_not_there() {
    let (dir, source) = stick(100);
    let error = range(&*source, "packs/00ff", 90, 11).unwrap_err();
    assert!(matches!(error, FetchError::Length { expected: 101, found: 100, .. }), "{error}");
    let error = range(&*source, "packs/01", 0, 1).unwrap_err();
    assert!(matches!(error, FetchError::Missing { .. }), "{error}");
    for bad in ["../packs/00ff", "packs/../timestamp.json", "/timestamp.json"] {
        let error = source.read(bad, 10).unwrap_err();
        assert!(matches!(error, FetchError::BadName { .. }), "{error}");
    }
    dir.fail_after(0, ErrorKind::PermissionDenied);
    let error = source.read("timestamp.json", 10).unwrap_err();
    assert!(matches!(error, FetchError::Io { .. }) && !error.is_passing(), "{error}");
}

#[test]
fn links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), b"secret").unwrap();
    std::fs::create_dir(dir.path().join("feed")).unwrap();
    std::os::unix::fs::symlink("../secret", dir.path().join("feed/timestamp.json")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("feed/packs")).unwrap();
    let source = Directory::new(RealDir::open(&dir.path().join("feed")).unwrap(), "feed");
    for path in ["timestamp.json", "packs/secret"] {
        let error = source.read(path, 10).unwrap_err();
        assert!(matches!(error, FetchError::Io { .. }), "{error}");
    }
}
