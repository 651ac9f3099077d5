//! Golden command lines.

use super::*;
use crate::hardware::{Forward, Mac};

fn hardware() -> Hardware {
    Hardware {
        name: "office".into(),
        uuid: "6d0f1f4e-0d1c-4f3a-9b57-0a5a5f1c2b11".into(),
        mac: Mac::from_random([1, 2, 0xff]),
        memory_mib: 2048,
        cpus: 2,
        machine: Machine::Q35,
        firmware: Firmware::Bios,
        display: Display::Headless,
        network: Network::User {
            isolated: false,
            forwards: vec![Forward { host_port: 2222, guest_port: 22 }],
        },
        clock_is_local: false,
    }
}

fn launch() -> Launch {
    Launch {
        binary: "qemu-system-x86_64".into(),
        hardware: hardware(),
        disks: vec![Disk {
            source: DiskSource::Nbd {
                socket: "/run/user/1000/goldleaf/disk.sock".into(),
                export: "disk0".into(),
                reconnect_s: 0,
            },
            serial: "GL-0001".into(),
            on_error: OnIoError::Stop,
        }],
        boot: Boot::Disk,
        accel: Accel::Kvm,
        after_reboot: AfterReboot::EndsSession,
        serial_socket: Some("/run/user/1000/goldleaf/serial.sock".into()),
        serial_log: None,
        extra: Vec::new(),
    }
}

/// The arguments, an option and its value a line.
fn text(launch: &Launch) -> String {
    let mut text = String::new();
    for argument in launch.argv() {
        let argument = argument.to_string_lossy().into_owned();
        let separator = if argument.starts_with('-') { '\n' } else { ' ' };
        text.push(separator);
        text.push_str(&argument);
    }
    text
}

#[test]
fn a_session() {
    let expected = "
-nodefaults
-no-user-config
-name debug-threads=on,guest=office
-uuid 6d0f1f4e-0d1c-4f3a-9b57-0a5a5f1c2b11
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-chardev socket,id=monitor,fd=0
-mon chardev=monitor,mode=control
-rtc base=utc,clock=host
-action reboot=shutdown,shutdown=pause,panic=pause
-machine q35
-global ICH9-LPC.disable_s3=0
-global ICH9-LPC.disable_s4=1
-device pvpanic
-accel kvm
-cpu host
-smp 2
-m 2048M
-boot strict=on
-object iothread,id=disk0-thread
-blockdev driver=nbd,server.type=unix,server.path=/run/user/1000/goldleaf/disk.sock,\
export=disk0,reconnect-delay=0,node-name=disk0-source,discard=unmap
-blockdev driver=raw,node-name=disk0,file=disk0-source,discard=unmap
-device virtio-blk-pci,drive=disk0,id=disk0-device,iothread=disk0-thread,num-queues=2,\
bootindex=0,write-cache=on,physical_block_size=4096,discard_granularity=4096,werror=stop,\
rerror=stop,serial=GL-0001
-netdev user,id=net0,restrict=off,hostfwd=tcp:127.0.0.1:2222-:22
-device virtio-net-pci,netdev=net0,mac=52:54:00:01:02:ff,romfile=
-display none
-device VGA
-chardev socket,id=serial0,server=on,wait=off,path=/run/user/1000/goldleaf/serial.sock
-device isa-serial,chardev=serial0
-device virtio-rng-pci";
    assert_eq!(text(&launch()), expected);
}

#[test]
fn an_edit_with_other_hardware() {
    let mut launch = launch();
    launch.after_reboot = AfterReboot::Restarts;
    launch.accel = Accel::Tcg;
    launch.serial_socket = None;
    launch.hardware.machine = Machine::I440fx;
    launch.hardware.network = Network::None;
    launch.hardware.clock_is_local = true;
    launch.hardware.display = Display::Gtk;
    launch.hardware.firmware =
        Firmware::Uefi { code: "/fw/code.fd".into(), variables: "/d/vars.fd".into() };
    let line = text(&launch);
    for part in [
        "\n-action reboot=reset,shutdown=pause,panic=pause",
        "\n-accel tcg,thread=multi\n-cpu max",
        "\n-machine pc,pflash0=code,pflash1=variables",
        "\n-global PIIX4_PM.disable_s4=1",
        "\n-rtc base=localtime,clock=host",
        "\n-blockdev driver=raw,node-name=code,file.driver=file,file.filename=/fw/code.fd,\
         read-only=on",
        "\n-display gtk,window-close=off\n-device virtio-vga",
    ] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    assert!(!line.contains("-netdev") && !line.contains("serial0"), "{line}");
}

#[test]
fn values_from_outside_can_not_add_options() {
    let mut launch = launch();
    launch.hardware.name = "a,process=b".into();
    launch.hardware.display = Display::Vnc("/d,x/vnc".into());
    launch.disks[0].source = DiskSource::RawFile("/d,node-name=x/disk".into());
    launch.disks[0].serial = "1,drive=y".into();
    let line = text(&launch);
    for part in [
        "guest=a,,process=b\n",
        "-vnc unix:/d,,x/vnc\n",
        "driver=file,filename=/d,,node-name=x/disk,node-name=disk0-source,",
        "serial=1,,drive=y\n",
    ] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
}

/// Each block node names its driver, and each disk is raw by name: nothing is probed.
#[test]
fn no_format_is_ever_probed() {
    let mut launch = launch();
    launch.disks.push(Disk {
        source: DiskSource::RawFile("/d/disk".into()),
        serial: "2".into(),
        on_error: OnIoError::Report,
    });
    let argv = launch.argv();
    assert!(!argv.iter().any(|argument| argument == "-drive" || argument == "-hda"));
    let nodes: Vec<_> = argv
        .windows(2)
        .filter(|pair| pair[0] == "-blockdev")
        .map(|pair| pair[1].to_string_lossy().into_owned())
        .collect();
    assert_eq!(nodes.len(), 4);
    for node in nodes {
        assert!(node.starts_with("driver="), "{node}");
    }
    for (index, pair) in argv.windows(2).filter(|pair| pair[0] == "-device").enumerate() {
        let device = pair[1].to_string_lossy();
        if let Some(rest) = device.strip_prefix("virtio-blk-pci,drive=") {
            let drive = rest.split(',').next().unwrap();
            let raw = format!("driver=raw,node-name={drive},");
            let known = argv.iter().any(|value| value.to_string_lossy().starts_with(&raw));
            assert!(known, "device {index}: {drive} is not raw by name");
        }
    }
}
