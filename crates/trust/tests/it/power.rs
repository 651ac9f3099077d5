//! What is believed survives power cuts and bad media, or nothing is believed.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_host::Dir;
use goldleaf_trust::{Role, State, TrustError, update};

use crate::world::{START, World, line};

const FILES: [&str; 2] = ["believed", "believed.copy"];

fn ruin(dir: &dyn Dir, name: &str, how: usize) {
    let file = dir.open_rw(name).unwrap();
    match how {
        0 => file.set_len(0).unwrap(),
        1 => file.set_len(file.len().unwrap() / 2).unwrap(),
        2 => file.write_all_at(&vec![0; file.len().unwrap() as usize], 0).unwrap(),
        3 => file.write_all_at(b"#", file.len().unwrap() / 3).unwrap(),
        _ => dir.remove(name).unwrap(),
    }
}

/// A25: one copy that is lost is made again from the other; without any nothing is believed.
#[test]
fn a25_a_lost_state_is_never_an_empty_one() {
    for how in 0..5 {
        for name in FILES {
            let mut world = World::new();
            ruin(&world.dir, name, how);
            assert_eq!(world.content(), "version 1");
            let other = FILES[usize::from(name == FILES[0])];
            ruin(&world.dir, other, how);
            assert_eq!(world.content(), "version 1", "the first one was made again");
            world.still_updates();
        }
        let world = World::new();
        FILES.iter().for_each(|name| ruin(&world.dir, name, how));
        assert!(matches!(world.update(), Err(TrustError::Lost(_))), "{how}");
    }
}

/// A power cut at every operation of an update with a new root: what is there afterwards opens, is
/// no older than before, and the update that follows comes to the same.
#[test]
fn a_power_cut_leaves_the_old_or_the_new() {
    for operation in 0.. {
        let mut world = World::new();
        world.author.bump(Role::Root);
        world.author.keys.insert(Role::Timestamp, (vec![18], 1));
        world.author.put_root(&world.server, &[1, 2]);
        world.author.next(&world.server);
        let mut state = world.state().unwrap();
        let last = world.dir.operations() + operation;
        world.dir.stop_after(operation, ErrorKind::Other);
        let now = Duration::from_secs(START);
        let outcome = update(&mut state, &world.server, now);
        if world.dir.operations() <= last {
            outcome.unwrap();
            assert!(operation > 20, "an update that writes nothing");
            return;
        }
        world.dir.heal();
        for way in 0..6 {
            let dir = world.dir.crash(operation ^ way << 32);
            let mut state = State::open(Arc::new(dir), line()).unwrap();
            assert!(update(&mut state, &world.server, now).is_ok());
            assert_eq!(state.believed().root_version(), 2);
            let target = &state.believed().targets().unwrap().targets["livepc.json"];
            assert_eq!(target.custom, "version 2");
        }
    }
}
