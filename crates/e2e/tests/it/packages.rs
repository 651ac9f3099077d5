//! What the user installs outlives resets and new images, and can be taken back alone.

use goldleaf_e2e::repo::{Package, Repository};
use goldleaf_e2e::{Console, HarnessError, Site};
use goldleaf_player::desktop;

/// The real thing, with what it needs beyond the image.
const REDIS: &[&str] = &[
    "redis-server",
    "redis-tools",
    "libjemalloc2",
    "liblzf1",
    "libatomic1",
    "procps",
    "adduser",
    "lsb-base",
    "libproc2-0",
    "sysvinit-utils",
];
const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends";

/// What Debian's own tools think of the system.
fn sound(console: &mut Console) -> Result<(), HarnessError> {
    assert_eq!(console.run("dpkg --audit")?, "");
    console.run("apt-get -q check")?;
    console.run("pwck -qr && grpck -qr")?;
    let orphans = "find / -xdev \\( -nouser -o -nogroup \\) -print";
    assert_eq!(console.run(orphans)?, "");
    assert_eq!(console.run("systemctl --failed --no-legend --plain")?, "");
    Ok(())
}

/// A service needs a moment after the login prompt is there.
fn active(console: &mut Console, unit: &str) -> Result<(), HarnessError> {
    let wait = format!(
        "for i in $(seq 60); do systemctl -q is-active {unit} && exit 0; sleep 1; done; \
         systemctl status {unit}; journalctl -u {unit} --no-pager | tail -20; exit 1"
    );
    console.run(&wait).map(drop)
}

/// A library, a service that needs it, and the real thing.
pub fn demo_packages(repository: &Repository) -> Result<(), HarnessError> {
    let lib = Package::new("libdemo", "1.0").with_file("/usr/lib/libdemo.so.1", "1.0\n");
    let mut demo = Package::service("demo", "1.0");
    demo.depends = "libdemo (>= 1.0)".into();
    repository.add(&[lib, demo])?;
    repository.add_debian(REDIS)
}

#[test]
fn installed_packages_outlive_a_reset_and_a_new_image() {
    let site = Site::new().unwrap();
    let desk = site.desktop("pat", &[]).unwrap();
    let repository = Repository::serve(&[]).unwrap();
    demo_packages(&repository).unwrap();

    let mut uid = String::new();
    desk.session(|console| {
        console.run("mkdir -p /home/pat && echo mine >/home/pat/document")?;
        console.run(&repository.subscribe())?;
        eprintln!("{}", console.run(&format!("{INSTALL} redis-server demo"))?);
        active(console, "redis-server")?;
        active(console, "demo")?;
        console.run("redis-cli set fruit apple && redis-cli save")?;
        console.run(
            "sed -i s/hello/goodbye/ /etc/demo.conf; echo 'maxmemory 9mb' \
                     >>/etc/redis/redis.conf; echo data >/var/lib/demo/database",
        )?;
        uid = console.run("id -u redis; id -u demo")?;
        console.send("systemctl reboot")?;
        console.login("root", "root", std::time::Duration::from_secs(400))?;
        active(console, "redis-server")?;
        active(console, "demo")?;
        assert_eq!(
            console.run("redis-cli get fruit; redis-cli config get maxmemory")?,
            "apple\nmaxmemory\n9437184"
        );
        console.run("sleep 3")?;
        assert_eq!(
            console.run("cd /var/lib/demo; cat who greeting database")?,
            "demo\ngoodbye\ndata"
        );
        sound(console)?;
        console.run("redis-cli set fruit pear && redis-cli save").map(drop)
    })
    .unwrap();
    let apps = desktop::apps(&site.home, "pat").unwrap();
    assert!(apps.iter().any(|app| app.package.starts_with("redis-server")), "{apps:?}");

    let newer = Package::new("libdemo", "2.0").with_file("/usr/lib/libdemo.so.1", "2.0\n");
    repository.add(&[newer]).unwrap();
    let version = site.edit_image(|console| {
        console.run(&repository.subscribe())?;
        console.run(&format!("{INSTALL} libdemo"))?;
        // Somebody else for the numbers that the user's packages got.
        for (name, uid) in ["first", "second"].iter().zip(uid.lines()) {
            console.run(&format!(
                "groupadd --system {name} && useradd -M -u {uid} -g {name} \
                -s /usr/sbin/nologin {name} && mkdir /var/lib/{name} && \
                chown {name}:{name} /var/lib/{name}"
            ))?;
        }
        console.run("echo 2 >/usr/share/golden-version")?;
        console.send("systemctl poweroff")
    });
    assert_eq!(version.unwrap(), 2);

    desk.session(|console| {
        assert_eq!(console.run("cat /usr/share/golden-version")?, "2");
        active(console, "redis-server")?;
        active(console, "demo")?;
        sound(console)?;
        assert_eq!(console.run("redis-cli get fruit; cat /var/lib/demo/database")?, "pear\ndata");
        let owners = "stat -c %U:%G /var/lib/redis /var/lib/demo /var/lib/first /var/lib/second \
                      /var/lib/redis/dump.rdb /etc/redis/redis.conf";
        let expected =
            "redis:redis\ndemo:demo\nfirst:first\nsecond:second\nredis:redis\nredis:redis";
        assert_eq!(console.run(owners)?, expected);
        assert_eq!(console.run("id -u first; id -u second")?, uid);
        assert_eq!(
            console.run("cat /usr/lib/libdemo.so.1; dpkg-query -Wf '${Version}' libdemo")?,
            "2.0\n2.0"
        );
        console.run("echo yours >>/home/pat/document").map(drop)
    })
    .unwrap();
    roll_back_alone(&site, &desk);
    take_one_away(&site, &desk);
    rejuvenate_applications(&site, &desk, &repository);
}

/// One layer goes back and forth while the others stand still.
fn roll_back_alone(site: &Site, desk: &goldleaf_e2e::Desktop) {
    let document = "/home/pat/document";
    let apps = desk.version("user-apps").unwrap();
    let history = desktop::history(&site.home, "pat").unwrap();
    let first = history.iter().find(|line| line.layer == "user-apps").unwrap().version;
    desktop::rollback(&site.home, "pat", "user-apps", first, false).unwrap();
    assert!(desk.version("user-apps").unwrap() > apps);
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text(document).unwrap().unwrap(), "mine\nyours\n");
    assert_eq!(tree.text("/usr/share/golden-version").unwrap().unwrap(), "2\n");

    desktop::rollback(&site.home, "pat", "os", 1, false).unwrap();
    let tree = desk.tree().unwrap();
    assert!(!tree.has("/usr/share/golden-version").unwrap());
    assert_eq!(tree.text("/usr/lib/libdemo.so.1").unwrap().unwrap(), "1.0\n");
    assert_eq!(tree.text(document).unwrap().unwrap(), "mine\nyours\n");
    assert!(!tree.text("/etc/passwd").unwrap().unwrap().contains("first:"));
    desktop::rollback(&site.home, "pat", "os", 2, false).unwrap();
    desktop::rollback(&site.home, "pat", "user-apps", apps, false).unwrap();
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("/usr/lib/libdemo.so.1").unwrap().unwrap(), "2.0\n");
}

/// A package goes alone: what others need stays, and so does what they are.
fn take_one_away(site: &Site, desk: &goldleaf_e2e::Desktop) {
    let remove = |package, dry_run| desktop::remove_package(&site.home, "pat", package, dry_run);
    let refused = remove("libjemalloc2", false).unwrap_err().to_string();
    assert!(refused.contains("needed by redis-tools"), "{refused}");
    let shown = remove("demo", true).unwrap();
    assert!(desk.tree().unwrap().has("/etc/demo.conf").unwrap());
    assert_eq!(remove("demo", false).unwrap(), shown);
    assert!(shown.iter().any(|path| path == "/etc/demo.conf"), "{shown:?}");
    let apps = desktop::apps(&site.home, "pat").unwrap();
    assert!(!apps.iter().any(|app| app.package.starts_with("demo")), "{apps:?}");
    desk.session(|console| {
        assert_eq!(
            console.run("! dpkg-query -W demo 2>&1; ls /etc/demo.conf 2>&1 | wc -l")?,
            "dpkg-query: no packages found matching demo\n1"
        );
        active(console, "redis-server")?;
        sound(console)
    })
    .unwrap();
}

fn rejuvenate_applications(site: &Site, desk: &goldleaf_e2e::Desktop, repository: &Repository) {
    let gone = desktop::rejuvenate(&site.home, "pat", true, false).unwrap();
    assert!(gone.packages.iter().any(|name| name.starts_with("redis-server")), "{gone:?}");
    let tree = desk.tree().unwrap();
    for path in ["/usr/bin/redis-server", "/var/lib/demo", "/etc/demo.conf", "/var/lib/redis"] {
        assert!(!tree.has(path).unwrap(), "{path}");
    }
    let status = tree.text("/var/lib/dpkg/status").unwrap().unwrap();
    assert!(!status.contains("Package: redis") && !status.contains("Package: demo"));
    assert!(status.contains("Package: libdemo"));
    assert_eq!(tree.text("/home/pat/document").unwrap().unwrap(), "mine\nyours\n");

    desk.session(|console| {
        sound(console)?;
        assert_eq!(
            console.run("! dpkg-query -W demo 2>&1")?,
            "dpkg-query: no packages found matching demo"
        );
        console.run(&repository.subscribe())?;
        console.run(&format!("{INSTALL} demo"))?;
        active(console, "demo")
    })
    .unwrap();
    // The package is there again, and so is what it kept.
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("/var/lib/demo/database").unwrap().unwrap(), "data\n");
}

#[test]
fn two_recorded_layers_work_together() {
    let site = Site::new().unwrap();
    let services = [Package::service("lefty", "1.0"), Package::service("righty", "1.0")];
    let repository = Repository::serve(&services).unwrap();
    for name in ["lefty", "righty"] {
        let version = site.record_layer(name, |console| {
            console.run(&repository.subscribe())?;
            console.run(&format!("{INSTALL} {name}"))?;
            active(console, name)?;
            console.send("systemctl poweroff")
        });
        assert_eq!(version.unwrap(), 1);
    }
    let desk = site.desktop("both", &["lefty", "righty"]).unwrap();
    desk.session(|console| {
        for name in ["lefty", "righty"] {
            active(console, name)?;
            console.run("sleep 3")?;
            assert_eq!(console.run(&format!("cat /var/lib/{name}/who"))?, name);
            let owner = format!("stat -c %U:%G:%a /var/lib/{name}");
            assert_eq!(console.run(&owner)?, format!("{name}:{name}:750"));
        }
        assert_ne!(console.run("id -u lefty")?, console.run("id -u righty")?);
        sound(console)
    })
    .unwrap();
}
