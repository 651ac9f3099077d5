use std::io::ErrorKind;
use std::sync::Arc;

use goldleaf_host::sim::SimDir;
use goldleaf_store::{Digest, LiveSet, Store, StoreError};

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
fn workflow(dir: &SimDir, known: &mut Acknowledged) -> Result<(), StoreError> {
    let store = open(dir)?;
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

fn open(dir: &SimDir) -> Result<Store, StoreError> {
    Store::open(Arc::new(dir.clone()))
}

fn operations() -> u64 {
    let dir = SimDir::new();
    workflow(&dir, &mut Acknowledged::default()).unwrap();
    dir.operations()
}

/// The workflow, up to the operation at which the machine stops.
fn stopped_at(at: u64) -> (SimDir, Acknowledged) {
    let dir = SimDir::new();
    dir.stop_after(at, ErrorKind::Other);
    let mut known = Acknowledged::default();
    let result = workflow(&dir, &mut known);
    assert!(result.is_err(), "operation {at} did not matter");
    (dir, known)
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    let operations = operations();
    assert!(operations > 100, "{operations}");
    for at in 0..operations {
        let (dir, known) = stopped_at(at);
        for seed in 0..8 {
            let mut known = known.clone();
            let when = format!("crash at {at}, seed {seed}");
            let after = dir.crash(seed);
            known.assert_there(&open(&after).unwrap(), &when);
            // Life goes on, and what the crash left behind goes.
            file(&open(&after).unwrap(), &[20, 21], &mut known).unwrap();
            known.assert_there(&open(&after).unwrap(), &when);
        }
    }
}

#[test]
fn a_crash_within_the_recovery_from_a_crash_loses_nothing() {
    for at in (0..operations()).step_by(7) {
        let (dir, known) = stopped_at(at);
        for second in (0..).step_by(3) {
            let mut known = known.clone();
            let again = dir.crash(second);
            again.stop_after(second, ErrorKind::Other);
            let recovered = open(&again).and_then(|store| file(&store, &[30, 31], &mut known));
            let when = format!("crash at {at}, then at {second}");
            known.assert_there(&open(&again.crash(second + 1)).unwrap(), &when);
            if recovered.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn an_error_at_any_operation_loses_nothing_acknowledged() {
    for at in 0..operations() {
        let dir = SimDir::new();
        dir.fail_after(at, ErrorKind::Other);
        let mut known = Acknowledged::default();
        // Only the removal of a temporary file may fail unnoticed.
        let _ = workflow(&dir, &mut known);
        let when = format!("error at {at}");
        known.assert_there(&open(&dir.crash(at)).unwrap(), &when);
        dir.heal();
        known.assert_there(&open(&dir).unwrap(), &when);
    }
}
