//! What a guest can do to its machine, and what Goldleaf makes of it.

use std::time::Duration;

use goldleaf_vm::{
    AfterReboot, DiskSource, Event, Notice, Patience, PowerOff, RunState, SessionEnd,
};

use crate::guest::{
    Guest, HANG, HIBERNATE, OBEY_BUTTON, PANIC, POWER_OFF, REBOOT, SAY_K, SOON, SUSPEND, end_of,
    start, wait_notice,
};

const PATIENCE: Patience = Patience { presses: 60, after_each: Duration::from_millis(500) };

#[test]
fn a_guest_powers_off_and_the_process_waits() {
    let guest = Guest::new(POWER_OFF);
    let mut qemu = guest.start();
    assert_eq!(qemu.wait_end(SOON).unwrap(), Some(SessionEnd::GuestShutdown));
    assert_eq!(qemu.next(SOON).unwrap(), Some(Notice::End(SessionEnd::GuestShutdown)));
    assert_eq!(qemu.monitor().query_status().unwrap(), RunState::Shutdown);
    assert!(!qemu.monitor().query_kvm().unwrap());
    assert_eq!(qemu.monitor().query_name().unwrap(), "boot sector, small");
    assert_eq!(qemu.monitor().query_cpus().unwrap(), 1);
    qemu.quit(SOON).unwrap();
}

#[test]
fn ends_are_told_apart() {
    assert_eq!(end_of(REBOOT), SessionEnd::GuestReset);
    assert_eq!(end_of(PANIC), SessionEnd::GuestPanic);
    assert_eq!(end_of(HIBERNATE), SessionEnd::GuestHibernated);
}

/// A reboot with another disk behind the same process, twice over.
#[test]
fn a_reboot_gets_another_disk() {
    let guest = Guest::new(REBOOT);
    let mut qemu = guest.start();
    let pid = qemu.pid();
    for next in [REBOOT, POWER_OFF] {
        assert_eq!(qemu.wait_end(SOON).unwrap(), Some(SessionEnd::GuestReset));
        guest.put(next);
        qemu.reset_and_continue(SOON).unwrap();
    }
    assert_eq!(qemu.wait_end(SOON).unwrap(), Some(SessionEnd::GuestShutdown));
    assert_eq!(qemu.pid(), pid);
    qemu.quit(SOON).unwrap();
}

#[test]
fn an_edit_reboots_like_a_real_machine() {
    let guest = Guest::new(REBOOT);
    let mut launch = guest.launch();
    launch.after_reboot = AfterReboot::Restarts;
    let mut qemu = start(&launch);
    let is_reset =
        |notice: &Notice| matches!(notice, Notice::Event(Event::Reset { guest: true, .. }));
    wait_notice(&mut qemu, is_reset);
    wait_notice(&mut qemu, is_reset);
    guest.put(POWER_OFF);
    assert_eq!(qemu.wait_end(SOON).unwrap(), Some(SessionEnd::GuestShutdown));
}

#[test]
fn a_guest_obeys_the_power_button() {
    let mut qemu = Guest::new(OBEY_BUTTON).start();
    let answer = qemu.power_off(PATIENCE).unwrap();
    assert_eq!(answer, PowerOff::Ended(SessionEnd::GuestShutdown));
    assert_eq!(qemu.power_off(PATIENCE).unwrap(), answer);
}

#[test]
fn a_guest_that_never_answers_is_reported() {
    let mut qemu = Guest::new(HANG).start();
    let patience = Patience { presses: 2, after_each: Duration::from_millis(300) };
    let answer = qemu.power_off(patience).unwrap();
    assert_eq!(answer, PowerOff::NoAnswer(RunState::Running));
    qemu.monitor().quit().unwrap();
    assert_eq!(qemu.wait_end(SOON).unwrap(), Some(SessionEnd::HostQuit));
}

#[test]
fn suspend_to_memory_is_no_end_and_power_off_wakes() {
    let guest = Guest::new(SUSPEND);
    let mut qemu = guest.start();
    wait_notice(&mut qemu, |notice| *notice == Notice::Event(Event::Suspend));
    assert_eq!(qemu.monitor().query_status().unwrap(), RunState::Suspended);
    assert_eq!(qemu.next(Duration::from_millis(200)).unwrap(), None);
    // Woken by the power button's press, the firmware finds no address to resume at, and resets.
    let answer = qemu.power_off(PATIENCE).unwrap();
    assert_eq!(answer, PowerOff::Ended(SessionEnd::GuestReset));
}

#[test]
fn a_killed_process_is_an_unfinished_session() {
    let mut qemu = Guest::new(HANG).start();
    let pid = rustix::process::Pid::from_raw(i32::try_from(qemu.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let end = qemu.wait_end(SOON).unwrap().unwrap();
    assert!(matches!(&end, SessionEnd::Died { status, .. } if status.contains('9')), "{end:?}");
    assert!(!end.is_finished());
    let mut qemu = Guest::new(HANG).start();
    let pid = rustix::process::Pid::from_raw(i32::try_from(qemu.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(qemu.wait_end(SOON).unwrap(), Some(SessionEnd::HostSignal));
}

#[test]
fn the_monitor_commands_the_machine() {
    let guest = Guest::new(SAY_K);
    let mut launch = guest.launch();
    let log = guest.dir.path().join("serial.log");
    launch.serial_socket = Some(guest.dir.path().join("serial.sock"));
    launch.serial_log = Some(log.clone());
    let qemu = start(&launch);
    let monitor = qemu.monitor().clone();
    monitor.stop().unwrap();
    assert_eq!(monitor.query_status().unwrap(), RunState::Paused);
    monitor.cont().unwrap();
    monitor.send_key(&["ctrl", "alt", "delete"]).unwrap();
    monitor.set_link("net0", false).unwrap();
    let picture = guest.dir.path().join("screen.png");
    monitor.screendump(&picture).unwrap();
    assert!(std::fs::read(picture).unwrap().starts_with(b"\x89PNG"));
    for _ in 0..300 {
        if std::fs::read(&log).unwrap_or_default().contains(&b'K') {
            return qemu.kill();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the guest said nothing");
}

/// The disk of every session: an NBD export on a unix socket, here served by nbdkit.
#[test]
fn a_guest_boots_from_an_nbd_export() {
    let guest = Guest::new(POWER_OFF);
    let socket = guest.dir.path().join("nbd,1.sock");
    let mut server = std::process::Command::new("nbdkit")
        .args(["--foreground", "--exit-with-parent", "--unix"])
        .arg(&socket)
        .arg("file")
        .arg(guest.disk())
        .spawn()
        .unwrap();
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut launch = guest.launch();
    launch.disks[0].source = DiskSource::Nbd { socket, export: "a,b".into(), reconnect_s: 0 };
    let mut qemu = start(&launch);
    assert_eq!(qemu.wait_end(SOON).unwrap(), Some(SessionEnd::GuestShutdown));
    qemu.quit(SOON).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
}
