//! The packages' story without a machine: the same maintainer scripts on the same image, in a
//! chroot on the composed disk. Seconds instead of minutes.

use std::fs;
use std::path::Path;
use std::process::Command;

use goldleaf_e2e::repo::{Package, Repository};
use goldleaf_e2e::{Silent, images};
use goldleaf_layer::Kind;
use goldleaf_layer::rules::SiteRules;
use goldleaf_player::PlayerError;
use goldleaf_player::workshop::grow_image;
use goldleaf_worker::protocol::HarvestMode;

use crate::bench::{Bench, IMAGE, Mounted, run};
use crate::packages::demo_packages;

/// Where the root partition begins in the suite's image.
fn root_start(disk: &Path) -> u64 {
    let table = run("sfdisk", &["--dump", disk.to_str().unwrap()]);
    let last = table.lines().last().unwrap();
    let start = last.split("start=").nth(1).unwrap().split(',').next().unwrap();
    start.trim().parse::<u64>().unwrap() * 512
}

/// Runs a script in the system at a directory; gives what it wrote.
fn inside(at: &Path, script: &str) -> String {
    let output = Command::new("chroot").arg(at).args(["bash", "-ec", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}:\n{text}\n{said}");
    text
}

/// Installs packages of a repository, without starting what they bring.
fn install(at: &Path, repository: &Repository, packages: &[&str]) {
    let debs = at.join("tmp/debs");
    fs::create_dir_all(&debs).unwrap();
    let prefixes: Vec<String> = packages.iter().map(|name| format!("{name}_")).collect();
    for entry in fs::read_dir(repository.dir()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            fs::copy(entry.path(), debs.join(name)).unwrap();
        }
    }
    let quiet = "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; \
                 chmod 755 /usr/sbin/policy-rc.d; export DEBIAN_FRONTEND=noninteractive; ";
    inside(at, &format!("{quiet} dpkg -i /tmp/debs/*.deb; rm -r /tmp/debs /usr/sbin/policy-rc.d"));
}

fn sound(at: &Path) {
    assert_eq!(inside(at, "dpkg --audit"), "");
    inside(at, "apt-get -q check");
    inside(at, "pwck -qr && grpck -qr");
    assert_eq!(inside(at, "find / -xdev \\( -nouser -o -nogroup \\) -print"), "");
}

impl Bench {
    /// A session over an image, filed.
    fn story(&mut self, image: &str, story: impl FnOnce(&Path)) {
        let (stack, composed) = self.compose(image);
        let disk = self.composed_file(&stack, &composed);
        let at = self.path("mnt");
        let mounted = Mounted::new(&disk, &at, root_start(&disk));
        story(&at);
        drop(mounted);
        self.file(&stack, &composed, &disk);
    }

    /// A recording on the image alone.
    fn recording(&mut self, name: &str, story: impl FnOnce(&Path)) {
        let (stack, composed) = self.compose(IMAGE);
        let disk = self.composed_file(&stack, &composed);
        let at = self.path("mnt");
        let mounted = Mounted::new(&disk, &at, root_start(&disk));
        story(&at);
        drop(mounted);
        self.record(name, &stack, &composed, &disk);
    }
}

/// The next version of the image: a newer library, and somebody else for the numbers that the
/// user's packages got.
fn golden_two(bench: &Bench, repository: &Repository, uids: &str) {
    let disk = bench.path("two.raw");
    images::copy(&images::kept(&images::recipe()).unwrap(), &disk).unwrap();
    let at = bench.path("mnt");
    let mounted = Mounted::new(&disk, &at, root_start(&disk));
    let newer = Package::new("libdemo", "2.0").with_file("/usr/lib/libdemo.so.1", "2.0\n");
    fs::remove_file(repository.dir().join("libdemo_1.0_all.deb")).unwrap();
    repository.add(&[newer]).unwrap();
    install(&at, repository, &["libdemo"]);
    for (name, uid) in ["first", "second"].iter().zip(uids.lines()) {
        inside(
            &at,
            &format!(
                "groupadd --system {name} && useradd -M -u {uid} -g {name} \
            -s /usr/sbin/nologin {name} && mkdir /var/lib/{name} && chown {name}: /var/lib/{name}"
            ),
        );
    }
    inside(&at, "echo 2 >/usr/share/golden-version");
    drop(mounted);
    bench.site.import("two", &disk).unwrap();
}

#[test]
fn packages_outlive_a_new_image_in_a_chroot() {
    let mut bench = Bench::new(&images::kept(&images::recipe()).unwrap());
    let repository = Repository::serve(&[]).unwrap();
    demo_packages(&repository).unwrap();
    let mut uids = String::new();
    bench.story(IMAGE, |at| {
        let debs = [
            "redis-server",
            "redis-tools",
            "libjemalloc2",
            "liblzf1",
            "libatomic1",
            "libdemo",
            "demo",
        ];
        install(at, &repository, &debs);
        inside(
            at,
            "mkdir /home/pat; echo mine >/home/pat/document; echo dump \
            >/var/lib/redis/dump.rdb; chown redis: /var/lib/redis/dump.rdb; \
            echo data >/var/lib/demo/database; sed -i s/hello/goodbye/ /etc/demo.conf",
        );
        uids = inside(at, "id -u redis; id -u demo");
        sound(at);
    });
    bench.story(IMAGE, |at| {
        sound(at);
        assert_eq!(inside(at, "cat /home/pat/document /etc/demo.conf"), "mine\ngreeting=goodbye\n");
        assert_eq!(inside(at, "id -u redis; id -u demo"), uids);
        inside(at, "systemctl is-enabled redis-server demo; test -x /usr/bin/redis-server");
    });
    golden_two(&bench, &repository, &uids);
    bench.story("two", |at| {
        sound(at);
        assert_eq!(inside(at, "id -u first; id -u second"), uids);
        let owners = "stat -c %U:%G /var/lib/redis /var/lib/demo /var/lib/first /var/lib/second \
            /var/lib/redis/dump.rdb /etc/redis/redis.conf";
        assert_eq!(
            inside(at, owners),
            "redis:redis\ndemo:demo\nfirst:first\nsecond:second\nredis:redis\nredis:redis\n"
        );
        assert_eq!(
            inside(at, "cat /usr/lib/libdemo.so.1; dpkg-query -Wf '${Version}' libdemo"),
            "2.0\n2.0"
        );
        inside(at, "dpkg -s demo redis-server; systemctl is-enabled redis-server demo");
        inside(at, "echo yours >>/home/pat/document");
    });
    // The user's applications go, as a rejuvenation lets them; what they kept waits for them.
    bench.private.remove(&Kind::UserApps);
    bench.private.remove(&Kind::Local);
    bench.story("two", |at| {
        sound(at);
        inside(
            at,
            "! dpkg -s demo; ! dpkg -s redis-server; ! test -e /var/lib/demo; \
            ! test -e /var/lib/redis; ! test -e /etc/demo.conf; ! id demo",
        );
        assert_eq!(inside(at, "cat /home/pat/document"), "mine\nyours\n");
        install(at, &repository, &["demo"]);
    });
    bench.story("two", |at| {
        sound(at);
        assert_eq!(
            inside(at, "cat /var/lib/demo/database; stat -c %U /var/lib/demo"),
            "data\ndemo\n"
        );
    });
}

#[test]
fn recorded_layers_work_together_in_a_chroot() {
    let mut bench = Bench::new(&images::kept(&images::recipe()).unwrap());
    let services = [Package::service("lefty", "1.0"), Package::service("righty", "1.0")];
    let repository = Repository::serve(&services).unwrap();
    let mut uids = Vec::new();
    for name in ["lefty", "righty"] {
        bench.recording(name, |at| {
            install(at, &repository, &[name]);
            uids.push(inside(at, &format!("id -u {name}")));
            inside(
                at,
                &format!("echo {name} >/var/lib/{name}/own; chown {name}: /var/lib/{name}/own"),
            );
        });
    }
    assert_eq!(uids[0], uids[1], "recorded apart, both got the same number");
    bench.apps = vec!["lefty".into(), "righty".into()];
    for _ in 0..2 {
        bench.story(IMAGE, |at| {
            sound(at);
            for name in ["lefty", "righty"] {
                let owner =
                    format!("stat -c %U:%G:%a /var/lib/{name}; stat -c %U /var/lib/{name}/own");
                assert_eq!(inside(at, &owner), format!("{name}:{name}:750\n{name}\n"));
                inside(at, &format!("dpkg -s {name}; systemctl is-enabled {name}"));
            }
            assert_ne!(inside(at, "id -u lefty"), inside(at, "id -u righty"));
            inside(at, "echo more >>/root/notes; sed -i s/hello/moin/ /etc/lefty.conf");
        });
    }
}

/// The image brings a file, and a later version another one in its place.
fn image_with_policy(bench: &Bench, name: &str, policy: &str) {
    let disk = bench.path("policy.raw");
    images::copy(&images::kept(&images::recipe()).unwrap(), &disk).unwrap();
    let at = bench.path("mnt");
    let mounted = Mounted::new(&disk, &at, root_start(&disk));
    fs::write(at.join("usr/share/policy"), policy).unwrap();
    fs::write(at.join("usr/share/other"), policy).unwrap();
    drop(mounted);
    bench.site.import(name, &disk).unwrap();
}

#[test]
fn what_a_site_keeps_stays_over_a_new_image() {
    let mut bench = Bench::new(&images::kept(&images::recipe()).unwrap());
    let text = "[[rule]]\npath = '/usr/share/policy'\nto = 'user-apps'\nkeep = true\n\
                [[rule]]\npath = '/usr/share/other'\nto = 'user-apps'\n";
    bench.rules = Some(SiteRules { file: "site.toml".into(), text: text.into() });
    image_with_policy(&bench, "one", "one\n");
    image_with_policy(&bench, "two", "two\n");
    bench.story("one", |at| {
        inside(at, "echo mine >/usr/share/policy; echo mine >/usr/share/other");
    });
    bench.story("one", |at| {
        assert_eq!(inside(at, "cat /usr/share/policy /usr/share/other"), "mine\nmine\n");
    });
    // A copy of a file that is newer below now gives way, unless the site says otherwise.
    bench.story("two", |at| {
        assert_eq!(inside(at, "cat /usr/share/policy /usr/share/other"), "mine\ntwo\n");
    });
}

/// A disk of a size of its own, for a directory.
struct Small(std::path::PathBuf);

impl Small {
    fn new(at: &Path, kib: u64) -> Self {
        fs::create_dir_all(at).unwrap();
        let at_text = at.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={kib}k,mode=700"), "none", at_text]);
        Self(at.to_owned())
    }

    fn resize(&self, kib: u64) {
        let at = self.0.to_str().unwrap();
        run("mount", &["-o", &format!("remount,size={kib}k"), at]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_filing_loses_nothing() {
    let mut bench = Bench::new(&images::kept(&images::recipe()).unwrap());
    let small = Small::new(&bench.private_store(), 64);
    let (stack, composed) = bench.compose(IMAGE);
    let disk = bench.composed_file(&stack, &composed);
    let at = bench.path("mnt");
    let mounted = Mounted::new(&disk, &at, root_start(&disk));
    let many = "for i in $(seq 300); do seq $i $((i + 2000)) >/root/f$i; done";
    let sums = inside(&at, &format!("{many}; cd /root; md5sum f*"));
    drop(mounted);
    let mode = HarvestMode::Desktop;
    let (view, items, harvested) = bench.harvest(&stack, &composed, &disk, mode);
    let (mut kib, mut failures) = (64, 0);
    let filing = loop {
        match bench.put(&stack, &composed, mode, &view, (&items, &harvested)) {
            Ok(filing) => break filing,
            Err(error) => {
                let text = error_chain(&error);
                assert!(text.contains("No space left"), "{text}");
                let report = stack.own.check(&mut |_| {}).unwrap();
                assert!(report.damage.is_empty() && report.packs == 0, "{kib} KiB: {report:?}");
                failures += 1;
                kib += 400;
                small.resize(kib);
            }
        }
    };
    assert!(failures > 5, "{failures}");
    for (kind, layer) in &filing.versions {
        bench.private.insert(*kind, layer.digest().unwrap());
    }
    // Nothing is left of the tries: the store has what it needs and little more.
    let used = run("du", &["-sk", bench.private_store().to_str().unwrap()]);
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    assert!((3600..4600).contains(&used), "{used} KiB");
    drop((stack, composed, view));
    bench.story(IMAGE, |at| {
        assert_eq!(inside(at, "cd /root; md5sum f*"), sums);
    });
    drop(small);
}

/// An image whose root has so much left, in KiB.
fn image_with_little_room(bench: &Bench, name: &str, kib: u64) {
    let disk = bench.path("little.raw");
    images::copy(&images::kept(&images::recipe()).unwrap(), &disk).unwrap();
    let at = bench.path("mnt");
    let mounted = Mounted::new(&disk, &at, root_start(&disk));
    // `stat` knows what root may take; `fallocate` takes blocks without writing them.
    let take = format!(
        "free=$(stat -f -c '%f * %S / 1024 - {kib}' /); fallocate -l $((free))K /usr/ballast"
    );
    inside(&at, &take);
    drop(mounted);
    bench.site.import(name, &disk).unwrap();
}

#[test]
fn layers_that_do_not_fit_fit_an_image_that_was_grown_as_was_said() {
    let mut bench = Bench::new(&images::kept(&images::recipe()).unwrap());
    let mut sums = String::new();
    bench.story(IMAGE, |at| {
        let many = "for i in $(seq 50); do seq $i 150000 >/root/f$i; done; cd /root; md5sum f*";
        sums = inside(at, many);
    });
    image_with_little_room(&bench, "little", 20 << 10);
    let refusal = bench.try_compose("little", 1).err().unwrap();
    let text = refusal.to_string();
    let PlayerError::TooSmall { image, wanted: Some(wanted), .. } = refusal else {
        panic!("{text}")
    };
    assert_eq!(image, "little");
    // 50 files of 0.9 MiB, less what there is.
    let lack = text.split("lacks ").nth(1).unwrap().split(" MiB").next().unwrap();
    assert!((22..28).contains(&lack.parse::<u64>().unwrap()), "{text}");
    let length = std::fs::metadata(bench.path("little.raw")).unwrap().len();
    assert!((length + (22 << 20)..length + (80 << 20)).contains(&wanted), "{wanted}");

    let grown = grow_image(&bench.site.home, "little", wanted, &Silent).unwrap();
    assert_eq!((grown.version, grown.from.0), (2, length));
    let (stack, composed) = bench.try_compose("little", 2).unwrap();
    // What did not change is the first version's.
    let data: Vec<u64> = stack.image.files.iter().map(|file| file.allocated().unwrap()).collect();
    assert!(data[1] < data[0] / 20, "{data:?}");
    let disk = bench.composed_file(&stack, &composed);
    let at = bench.path("mnt");
    let mounted = Mounted::new(&disk, &at, root_start(&disk));
    assert_eq!(inside(&at, "cd /root; md5sum f*"), sums);
    drop(mounted);
    let shrunk = grow_image(&bench.site.home, "little", wanted, &Silent).unwrap_err();
    assert!(shrunk.to_string().contains("already"), "{shrunk}");
    assert!(bench.try_compose("little", 1).is_err(), "the first version is what it was");
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(error_chain).unwrap_or_default();
    format!("{error}: {source}")
}

/// Puts a library where only the loader's cache finds it.
fn compile(at: &Path, name: &str) {
    let dir = at.join("opt").join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(at.join(format!("etc/ld.so.conf.d/{name}.conf")), format!("/opt/{name}\n")).unwrap();
    // Any library will do: it is found by its file's name when it bears no other.
    let libz = inside(at, "ldconfig -p | sed -n 's/.*libz.so.1 .* => //p' | head -1");
    fs::copy(at.join(libz.trim().trim_start_matches('/')), dir.join("libz.so.1")).unwrap();
    inside(at, "ldconfig");
}

#[test]
fn libraries_of_every_layer_are_found_over_every_image() {
    let mut bench = Bench::new(&images::kept(&images::recipe()).unwrap());
    for name in ["left", "right"] {
        bench.recording(name, |at| compile(at, name));
    }
    bench.apps = vec!["left".into(), "right".into()];
    let found = |at: &Path| {
        let all = inside(at, "ldconfig -p");
        ["left", "right", "own"].map(|name| all.contains(&format!("=> /opt/{name}/libz.so.1")))
    };
    bench.story(IMAGE, |at| {
        assert_eq!(found(at), [true, true, false]);
        compile(at, "own");
        assert_eq!(found(at), [true, true, true]);
    });
    bench.story(IMAGE, |at| assert_eq!(found(at), [true; 3]));
    image_with_policy(&bench, "two", "two\n");
    bench.story("two", |at| {
        assert_eq!(found(at), [true; 3]);
        // What was built is what ldconfig builds.
        inside(at, "ldconfig -p | grep -v '^Cache generated by' >/tmp/built; ldconfig");
        inside(at, "ldconfig -p | grep -v '^Cache generated by' | diff /tmp/built -");
    });
}
