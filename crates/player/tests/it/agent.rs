//! The agent over its socket: it brings what is new, gives way, keeps to a rate, lets wait what was put
//! off, and hands on what it has verified.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use goldleaf_block::BlockCount;
use goldleaf_feed::Location;
use goldleaf_host::Silent;
use goldleaf_player::agent::{self, AgentStatus, Doing, Request, Settings};
use goldleaf_player::control::Answer;
use goldleaf_player::feeds::{self, SubscribeOptions, Subscription};
use goldleaf_player::{Home, PlayerError};
use goldleaf_worker::Launcher;

use crate::world::{FEED, World, blocks};

/// Does something while an agent runs.
fn with_agent<T>(home: &Home, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (ready, is_ready) = channel();
        let run = || agent::run(home, &stop, move || ready.send(()).unwrap());
        let agent = scope.spawn(run);
        is_ready.recv().unwrap();
        let done = catch_unwind(AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        agent.join().unwrap().unwrap();
        done.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn ask(home: &Home, request: &Request) {
    let answer = agent::request(home, request).unwrap();
    assert_eq!(answer, Some(Answer::Done(serde_json::Value::Null)), "{request:?}");
}

fn status(home: &Home) -> AgentStatus {
    agent::status(home).unwrap().unwrap()
}

/// Waits for what the agent says of the one subscription.
fn wait_until(home: &Home, what: &str, is_so: impl Fn(&agent::Line) -> bool) {
    let begun = Instant::now();
    loop {
        let status = status(home);
        if status.subscriptions.first().is_some_and(&is_so) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {status:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks for an update, and waits until it was tried.
fn update(home: &Home) {
    ask(home, &Request::Update { names: vec![FEED.into()] });
    let before = status(home).subscriptions[0].asked_unix_secs;
    wait_until(home, "an update", |line| {
        line.doing == Doing::Waiting && line.asked_unix_secs.is_some() && {
            // Seconds are coarse; what was asked before this test began is not counted.
            before.is_none() || line.asked_unix_secs >= before
        }
    });
}

fn runs(world: &World, version: u64) {
    let begun = Instant::now();
    while feeds::current(&world.home, FEED).unwrap() != Some(version) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", status(&world.home));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn new_versions_come_while_nobody_waits() {
    let mut world = World::new();
    world.author.publish(2);
    world.carry();
    let home = &world.home;
    assert_eq!(agent::status(home).unwrap(), None);
    with_agent(home, || {
        let second = agent::run(home, &AtomicBool::new(false), || ()).unwrap_err();
        assert!(matches!(second, PlayerError::Refused(_)), "{second}");
        let unknown = Request::Update { names: vec!["other".into()] };
        let answer = agent::request(home, &unknown).unwrap();
        assert!(matches!(answer, Some(Answer::Failed(_))), "{answer:?}");
        ask(home, &Request::Update { names: vec![] });
        runs(&world, 2);
        wait_until(home, "its end", |line| line.doing == Doing::Waiting && line.version == Some(2));
        let line = status(home).subscriptions.remove(0);
        assert_eq!((line.error, line.here_bytes), (None, line.all_bytes));
        assert!(line.next_unix_secs > home.now_unix_secs() + 3600, "not again at once");
    });
    assert_eq!(agent::status(home).unwrap(), None);
    assert!(!world.path.join("agent.sock").exists());
    world.still_updates();
}

#[test]
fn it_asks_by_itself() {
    let mut world = World::new();
    world.author.publish(2);
    world.carry();
    let settings = Settings { every_secs: 1, ..Settings::default() };
    settings.write(&world.home).unwrap();
    let home = world.home.clone();
    with_agent(&home, || {
        runs(&world, 2);
        world.author.publish(3);
        world.carry();
        runs(&world, 3);
    });
}

#[test]
fn what_fails_is_said_and_tried_again() {
    let world = World::new();
    let settings = Settings { every_secs: 1, ..Settings::default() };
    settings.write(&world.home).unwrap();
    let before = world.runs();
    with_agent(&world.home, || {
        std::fs::rename(&world.carried, world.scratch.path().join("away")).unwrap();
        wait_until(&world.home, "an error", |line| line.error.is_some());
        std::fs::rename(world.scratch.path().join("away"), &world.carried).unwrap();
        wait_until(&world.home, "its end", |line| line.error.is_none());
    });
    assert_eq!(world.runs(), before);
}

#[test]
fn it_keeps_to_its_rate_and_gives_way_to_commands() {
    let mut world = World::new();
    // Two MiB that do not compress.
    let long: crate::world::Blocks = (0..512).map(|block| (block, 1)).collect();
    let version = world.author.version(&long, BlockCount(512), 2);
    world.author.offer(&version);
    world.carry();
    let home = &world.home;
    let slow = Settings { rate: Some(64 << 10), ..Settings::default() };
    slow.write(home).unwrap();
    with_agent(home, || {
        ask(home, &Request::Update { names: vec![FEED.into()] });
        wait_until(home, "its beginning", |line| line.here_bytes > 0);
        let line = status(home).subscriptions.remove(0);
        assert!(line.here_bytes < line.all_bytes, "{line:?}");
        assert_eq!(feeds::current(home, FEED).unwrap(), Some(1));

        let begun = Instant::now();
        let subscription = Subscription::open(home, FEED).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let told = |_| ControlFlow::Continue(());
        assert!(subscription.update(home, &Silent, &told).unwrap().is_new);
        assert_eq!(feeds::current(home, FEED).unwrap(), Some(2));

        Settings::default().write(home).unwrap();
        ask(home, &Request::Reload);
        assert_eq!(status(home).settings.rate, None);
        wait_until(home, "its end", |line| line.doing == Doing::Waiting && line.version == Some(2));
    });
}

#[test]
fn what_is_put_off_is_here_and_waits() {
    let mut world = World::new();
    world.author.publish(2);
    world.carry();
    let home = &world.home;
    let later = home.now_unix_secs() + 3600;
    Subscription::open(home, FEED).unwrap().defer(home, Some(later)).unwrap();
    with_agent(home, || {
        update(home);
        assert_eq!(feeds::current(home, FEED).unwrap(), Some(1));
        // All of it is here: it can start without the feed.
        let line = status(home).subscriptions.remove(0);
        assert!(line.here_bytes > 0 && line.here_bytes == line.all_bytes, "{line:?}");
        let looked = Subscription::open(home, FEED).unwrap().look(home).unwrap();
        assert_eq!((looked.version, looked.deferred_until), (2, Some(later)));

        Subscription::open(home, FEED).unwrap().defer(home, None).unwrap();
        ask(home, &Request::Update { names: vec![] });
        runs(&world, 2);
    });
}

#[test]
fn neighbours_get_what_it_has_verified() {
    let mut world = World::new();
    world.author.publish(2);
    world.carry();
    let settings = Settings { serve: Some("127.0.0.1:0".into()), ..Settings::default() };
    settings.write(&world.home).unwrap();
    with_agent(&world.home, || {
        update(&world.home);
        runs(&world, 2);
    });
    // The author is away, and the neighbour gets all of it.
    std::fs::remove_dir_all(&world.carried).unwrap();
    let path = world.scratch.path().join("neighbour");
    let neighbour = Home::open(&path, Launcher::new("/nowhere".into(), Vec::new())).unwrap();
    let mirror = world.path.join(agent::MIRROR);
    let options = SubscribeOptions {
        location: Location {
            root: mirror.to_str().unwrap().into(),
            feed: FEED.into(),
            channel: "stable".into(),
        },
        mirrors: Vec::new(),
        name: FEED.into(),
        root: None,
    };
    let (_, _, arrival) = feeds::subscribe(&neighbour, &options, &Silent).unwrap();
    assert!(arrival.fill(&|_| ControlFlow::Continue(())).unwrap());
    let image = neighbour.images_here().unwrap().open(FEED, None).unwrap();
    let device = image.device().unwrap();
    for (block, fill) in blocks(2) {
        let found = crate::world::read(&device, block * 4096, 4096);
        assert_eq!(found, crate::world::content(block, fill), "block {block}");
    }
}
