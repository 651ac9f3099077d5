use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use goldleaf_host::sim::SimDir;
use goldleaf_store::{LiveSet, Store, StoreError};
use proptest::prelude::*;

use crate::{bytes, get, put};

/// What several processes do to one store. Numbers choose the process, the root, the content.
#[derive(Debug, Clone)]
enum Step {
    File {
        process: usize,
        root: u8,
        content: Vec<u64>,
    },
    /// A filing that stays open over the next steps, until the next one of these.
    Hold {
        process: usize,
        root: u8,
        content: Vec<u64>,
    },
    Forget {
        root: u8,
    },
    Collect {
        process: usize,
    },
    /// A plan that is applied only now, with roots as they are now.
    CollectOld {
        process: usize,
    },
    Plan {
        process: usize,
    },
    Reopen {
        process: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let content = || prop::collection::vec(1u64..24, 0..6);
    let process = || 0usize..2;
    let root = || 0u8..4;
    let step = prop_oneof![
        4 => (process(), root(), content())
            .prop_map(|(process, root, content)| Step::File { process, root, content }),
        2 => (process(), root(), content())
            .prop_map(|(process, root, content)| Step::Hold { process, root, content }),
        2 => root().prop_map(|root| Step::Forget { root }),
        3 => process().prop_map(|process| Step::Collect { process }),
        1 => process().prop_map(|process| Step::Plan { process }),
        2 => process().prop_map(|process| Step::CollectOld { process }),
        1 => process().prop_map(|process| Step::Reopen { process }),
    ];
    prop::collection::vec(step, 1..40)
}

fn content(seed: u64) -> Vec<u8> {
    bytes(seed, 1 + seed % 4)
}

type Roots = BTreeMap<u8, BTreeSet<u64>>;

fn live(roots: &Roots) -> LiveSet {
    let mut live = LiveSet::default();
    for seed in roots.values().flatten() {
        live.blobs.insert(goldleaf_store::Digest::of(&content(*seed)));
        live.objects.insert(goldleaf_store::Digest::of(&seed.to_le_bytes()));
    }
    live
}

fn assert_alive(store: &Store, roots: &Roots) {
    store.refresh().unwrap();
    let live = live(roots);
    for digest in &live.blobs {
        assert_eq!(goldleaf_store::Digest::of(&get(store, digest).unwrap()), *digest);
    }
    live.objects.iter().for_each(|digest| drop(store.object(digest).unwrap()));
}

fn file(store: &Store, seeds: &[u64]) -> goldleaf_store::Filed {
    let mut writer = store.writer().unwrap();
    for seed in seeds {
        put(&mut writer, &content(*seed)).unwrap();
        writer.put_object(&seed.to_le_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Nothing that a root names is ever collected, whatever two processes do in which order.
    #[test]
    fn collection_never_takes_what_lives(steps in steps()) {
        let dir = SimDir::new();
        let open = || Store::open(Arc::new(dir.clone())).unwrap();
        let mut stores = [open(), open()];
        let mut roots = Roots::new();
        let mut held = None;
        let mut old = None;
        for step in steps {
            match step {
                Step::File { process, root, content } => {
                    let filed = file(&stores[process], &content);
                    roots.insert(root, content.into_iter().collect());
                    drop(filed.hold);
                }
                Step::Hold { process, root, content } => {
                    // The root of the last one moves long after its content was filed.
                    if let Some((root, content, _hold)) = held.take() {
                        roots.insert(root, content);
                    }
                    let filed = file(&stores[process], &content);
                    held = Some((root, content.into_iter().collect(), filed.hold));
                }
                Step::Forget { root } => drop(roots.remove(&root)),
                Step::Plan { process } => old = stores[process].plan_collect(&live(&roots)).ok(),
                Step::Collect { process } | Step::CollectOld { process } => {
                    let store = &stores[process];
                    let Ok(exclusive) = store.exclusive() else {
                        prop_assert!(held.is_some());
                        continue;
                    };
                    prop_assert!(held.is_none());
                    let fresh = store.plan_collect(&live(&roots)).unwrap();
                    let is_old = matches!(step, Step::CollectOld { .. });
                    let plan = if is_old { old.take() } else { None }.unwrap_or(fresh.clone());
                    match store.apply(&plan, &live(&roots), &exclusive) {
                        Ok(_) => prop_assert_eq!(plan, fresh),
                        Err(StoreError::PlanStale(_)) => prop_assert_ne!(plan, fresh),
                        Err(error) => panic!("{error}"),
                    }
                }
                Step::Reopen { process } => stores[process] = open(),
            }
            stores.iter().for_each(|store| assert_alive(store, &roots));
        }
        // Without roots, everything goes.
        drop(held);
        let exclusive = stores[0].exclusive().unwrap();
        let none = LiveSet::default();
        let plan = stores[0].plan_collect(&none).unwrap();
        stores[0].apply(&plan, &none, &exclusive).unwrap();
        prop_assert!(stores[0].packs().is_empty());
    }
}
