use std::sync::Arc;

use goldleaf_host::Dir;
use goldleaf_store::{Digest, LiveSet, Store, StoreError};

use crate::sim::{Fault, SimDir};
use crate::{bytes, get, put};

/// What somebody was told to be durable.
#[derive(Default, Clone)]
struct Acknowledged {
    blobs: Vec<(Digest, Vec<u8>)>,
    objects: Vec<(Digest, Vec<u8>)>,
}

impl Acknowledged {
    fn live(&self) -> LiveSet {
        let mut live = LiveSet::default();
        live.blobs.extend(self.blobs.iter().map(|blob| blob.0));
        live.objects.extend(self.objects.iter().map(|object| object.0));
        live
    }

    fn assert_there(&self, store: &Store, when: &str) {
        assert!(store.damaged().is_empty(), "{when}: a half pack");
        for (digest, content) in &self.blobs {
            assert!(get(store, digest).unwrap() == *content, "{when}: blob {digest}");
        }
        for (digest, content) in &self.objects {
            assert!(store.object(digest).unwrap() == *content, "{when}: object {digest}");
        }
        let report = store.check(&mut |_| {}).unwrap();
        assert!(report.damage.is_empty(), "{when}: {:?}", report.damage);
    }
}

fn file(store: &Store, seeds: &[u64], known: &mut Acknowledged) -> Result<(), StoreError> {
    let mut writer = store.writer()?;
    let mut new = Acknowledged::default();
    for &seed in seeds {
        let content = bytes(seed, if seed == 3 { 260 } else { 1 + seed % 5 });
        new.blobs.push((put(&mut writer, &content)?, content));
        let object = format!("object {seed}").into_bytes();
        new.objects.push((writer.put_object(&object)?, object));
    }
    writer.finish()?;
    known.blobs.extend(new.blobs);
    known.objects.extend(new.objects);
    Ok(())
}

/// Three filings that share content, forgetting half of it, a collection, one more filing.
fn workflow(dir: Arc<dyn Dir>, known: &mut Acknowledged) -> Result<(), StoreError> {
    let store = Store::open(dir)?;
    for seeds in [[1, 2, 3, 4], [3, 5, 6, 4], [7, 8, 9, 2]] {
        file(&store, &seeds, known)?;
    }
    known.blobs.retain(|blob| blob.0.0[0] % 3 == 0);
    known.objects.truncate(5);
    let exclusive = store.exclusive()?;
    let plan = store.plan_collect(&known.live())?;
    store.apply(&plan, &known.live(), &exclusive)?;
    drop(exclusive);
    file(&store, &[1, 11], known)
}

fn operations() -> u64 {
    let dir = SimDir::new(Fault::None);
    workflow(dir.clone(), &mut Acknowledged::default()).unwrap();
    dir.ops()
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    let operations = operations();
    assert!(operations > 40, "{operations}");
    for at in 1..=operations {
        for seed in 0..4 {
            let dir = SimDir::new(Fault::CrashAt(at));
            let mut known = Acknowledged::default();
            let result = workflow(dir.clone(), &mut known);
            assert!(result.is_err(), "operation {at} of {operations} did not matter");
            let when = format!("crash at {at}, seed {seed}");
            let after = dir.after_crash(seed, Fault::None);
            known.assert_there(&Store::open(after.clone()).unwrap(), &when);
            // Life goes on, and what the crash left behind goes.
            file(&Store::open(after.clone()).unwrap(), &[20, 21], &mut known).unwrap();
            known.assert_there(&Store::open(after).unwrap(), &when);
        }
    }
}

#[test]
fn a_crash_within_the_recovery_from_a_crash_loses_nothing() {
    for at in (1..=operations()).step_by(3) {
        for second in (1..25).step_by(2) {
            let dir = SimDir::new(Fault::CrashAt(at));
            let mut known = Acknowledged::default();
            assert!(workflow(dir.clone(), &mut known).is_err());
            let again = dir.after_crash(second, Fault::CrashAt(second));
            let _ =
                Store::open(again.clone()).and_then(|store| file(&store, &[30, 31], &mut known));
            let when = format!("crash at {at}, then at {second}");
            let after = again.after_crash(second + 1, Fault::None);
            known.assert_there(&Store::open(after).unwrap(), &when);
        }
    }
}

#[test]
fn an_error_at_any_operation_loses_nothing_acknowledged() {
    for at in 1..=operations() {
        let dir = SimDir::new(Fault::ErrorAt(at));
        let mut known = Acknowledged::default();
        // Only the removal of a temporary file may fail unnoticed.
        let _ = workflow(dir.clone(), &mut known);
        let when = format!("error at {at}");
        known.assert_there(&Store::open(dir.healthy()).unwrap(), &when);
        known.assert_there(&Store::open(dir.after_crash(at, Fault::None)).unwrap(), &when);
    }
}
