//! A layer that changed arrives as what is new of it.

use std::fs;

use goldleaf_wire::WireMap;

use crate::world::World;

#[test]
fn what_is_filed_of_a_layer_is_not_fetched_again() {
    let mut world = World::new();
    let layer = world.author.newest().layers.remove(0);
    let map = fs::read(world.author.path.join("maps").join(&layer.map.digest)).unwrap();
    world.author.publish(2);
    world.carry();
    // Of what was published before, whoever asks gets the indexes only.
    for pack in WireMap::from_bytes(&map).unwrap().packs {
        let path = world.carried.join("packs").join(pack.name.to_string());
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(pack.head_len.into()).unwrap();
    }
    let before = world.runs();
    world.update().unwrap();
    let now = world.runs();
    assert_eq!((before.version, now.version), (1, 2));
    assert_ne!(before, now);
    world.carry();
    world.still_updates();
}
