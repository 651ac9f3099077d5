//! Each call has a route.

use std::collections::BTreeSet;

use goldleaf_api::v1;

#[test]
fn each_call_has_a_route() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let server = crate::server::tests::server(dir.path()).await;
        let calls: BTreeSet<_> =
            v1::all().iter().map(|call| (call.method.as_str(), call.path)).collect();
        assert_eq!(*super::routes(server).added(), calls);
    });
}
