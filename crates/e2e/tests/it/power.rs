//! Power cuts: of the hypervisor, and of the player with it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use goldleaf_e2e::{Console, Site, site_program};
use goldleaf_player::control::{Request, ask};
use goldleaf_player::desktop::{self, Event};
use goldleaf_vm::SessionEnd;

const BOOT: Duration = Duration::from_secs(400);
/// Files that are written one after the other, each synced: some are there when the power goes.
const WRITE: &str = "mkdir -p /root/w; (n=0; while true; do n=$((n+1)); \
    head -c 20000 /dev/urandom >/root/w/$n; (cd /root/w; sha256sum $n >>sums; sync); \
    done) >/dev/null 2>&1 &";

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_session_goes_on_after_the_hypervisor_was_killed() {
    let site = Site::new().unwrap();
    let desk = site.desktop("cut", &[]).unwrap();
    let cut = desk.cut_session(|console, pid| {
        console.run("echo safe >/root/safe; echo odd >/usr/bin/wall; sync")?;
        console.send(WRITE)?;
        console.run("sleep 3; test -s /root/w/sums")?;
        kill(pid);
        Ok(())
    });
    let cut = cut.unwrap();
    assert!(matches!(cut.end, SessionEnd::Died { .. }), "{:?}", cut.end);
    assert!(cut.filed.is_none());
    let changes = desktop::changes(&site.home, "cut", &goldleaf_e2e::Silent).unwrap().unwrap();
    assert!(changes.changes.iter().any(|line| line.path == "/root/safe"), "{changes:?}");

    let next = desk.session(|console| {
        assert_eq!(console.run("cat /root/safe /usr/bin/wall")?, "safe\nodd");
        console.run("cd /root/w && head -n -1 sums >known && sha256sum -c --quiet known").map(drop)
    });
    let next = next.unwrap();
    assert!(next.events.iter().any(|event| matches!(event, Event::Continuing { .. })));
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("/root/safe").unwrap().unwrap(), "safe\n");
    assert_ne!(tree.text("/usr/bin/wall").unwrap().unwrap_or_default(), "odd\n");
}

#[test]
fn a_session_goes_on_after_the_player_was_killed() {
    let site = Site::new().unwrap();
    let desk = site.desktop("cut", &[]).unwrap();
    let mut player = Command::new(site_program().unwrap())
        .args(["start", "cut", "--headless", "--accel", "tcg"])
        .env("GOLDLEAF_HOME", &site.path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let socket = desk.path.join("run/serial.sock");
    let start = Instant::now();
    let mut console = loop {
        match Console::connect(&socket) {
            Ok(console) => break console,
            Err(error) if start.elapsed() > BOOT => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    console.login("root", "root", BOOT).unwrap();
    console.run("echo safe >/root/safe; sync").unwrap();
    console.send(WRITE).unwrap();
    console.run("sleep 3; test -s /root/w/sums").unwrap();
    player.kill().unwrap();
    player.wait().unwrap();
    drop(console);

    desk.session(|console| {
        assert_eq!(console.run("cat /root/safe")?, "safe");
        console.run("cd /root/w && head -n -1 sums >known && sha256sum -c --quiet known").map(drop)
    })
    .unwrap();
    assert_eq!(desk.tree().unwrap().text("/root/safe").unwrap().unwrap(), "safe\n");
}

#[test]
fn the_plug_can_be_pulled_while_the_guest_ignores_the_button() {
    let site = Site::new().unwrap();
    let desk = site.desktop("deaf", &[]).unwrap();
    std::thread::scope(|scope| {
        let session = scope.spawn(|| desk.unheard_session());
        let door = desk.path.join("run").join("control.sock");
        while !matches!(ask(&door, &Request::Status), Ok(Some(_))) {
            assert!(!session.is_finished(), "{:?}", session.join());
            std::thread::sleep(Duration::from_millis(100));
        }
        // A boot loader knows no power button.
        let polite = scope.spawn(|| desktop::stop(&site.home, "deaf", false));
        std::thread::sleep(Duration::from_secs(1));
        let asked = Instant::now();
        assert!(desktop::stop(&site.home, "deaf", true).unwrap());
        assert_eq!(session.join().unwrap().unwrap(), SessionEnd::HostQuit);
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        assert!(polite.join().unwrap().is_err());
    });
    assert_eq!(desktop::status(&site.home, "deaf").unwrap().state, "unfinished");
}
