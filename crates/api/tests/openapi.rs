//! The description in the repository is the one of the types.

use std::collections::BTreeSet;
use std::path::Path;

use goldleaf_api::{Needs, Role, document, v1};

#[test]
fn the_description_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = format!("{:#}\n", document(&v1::all()));
    if std::env::var_os("GOLDLEAF_WRITE").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let kept = std::fs::read_to_string(&path).expect("openapi.json");
    assert!(kept == made, "openapi.json is old: run this test with GOLDLEAF_WRITE=1");
}

#[test]
fn paths_and_names_are_used_once() {
    let calls = v1::all();
    let routes: BTreeSet<_> = calls.iter().map(|call| (call.method.as_str(), call.path)).collect();
    assert_eq!(routes.len(), calls.len());
    assert!(calls.iter().all(|call| call.path.starts_with("/v1/")));
}

#[test]
fn each_permission_is_somebodys_beside_the_administrators() {
    for call in v1::all() {
        let Needs::Permission(needed) = call.needs else { continue };
        assert!(Role::Administrator.may(needed), "{}", call.name);
    }
}
