//! What happens, chapter by chapter.

use std::path::PathBuf;

use goldleaf_e2e::repo::Package;
use goldleaf_e2e::{HarnessError, images};
use tempfile::TempDir;

use crate::program::Goldleaf;
use crate::stage::{Voice, fresh_home, program, shown};

/// The desktop of the story.
const DESKTOP: &str = "work";
const DESKTOP_DIR: &str = "desktops/work";
const IMAGE: &str = "debian";
const WORKSHOP_DIR: &str = "workshop/image-debian";

/// Tells it all.
pub fn tell() -> Result<(), HarnessError> {
    let voice = Voice::new();
    let goldleaf = Goldleaf { program: program()?, home: fresh_home()?, voice };
    let packages = Packages::build()?;
    prepare(&goldleaf)?;
    first_session(&goldleaf, &packages)?;
    second_session(&goldleaf)?;
    patch(&goldleaf, &packages)?;
    third_session(&goldleaf)?;
    look_back(&goldleaf)?;
    voice.chapter(&format!("Done, in {} s. Everything above was checked.", voice.seconds()));
    let (program, home) = (shown(&goldleaf.program), shown(&goldleaf.home));
    voice.tell("Go on by yourself (log in as root with the password root; Ctrl-C powers it off):");
    voice.command(&format!("{program} --home {home} start {DESKTOP}"));
    Ok(())
}

/// Two packages: one that the user installs, one that patches the image.
struct Packages {
    _dir: TempDir,
    notes: PathBuf,
    fix: PathBuf,
}

impl Packages {
    fn build() -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir()?;
        let notes = Package::new("notes", "1.0")
            .with_file("/usr/bin/notes", "#!/bin/sh\ncat ~/Documents/*.txt\n")
            .with_file("/etc/notes.conf", "colour = green\n")
            .with_postinst(
                "useradd --system --no-create-home notesd\n\
                 install -d -o notesd -m 750 /var/lib/notes\n\
                 echo index >/var/lib/notes/index\nchown notesd: /var/lib/notes/index",
            );
        let fix = Package::new("security-fix", "2.0")
            .with_file("/usr/share/security-fix/level", "patched\n");
        let (notes, fix) = (notes.build(dir.path())?, fix.build(dir.path())?);
        Ok(Self { _dir: dir, notes, fix })
    }
}

fn prepare(goldleaf: &Goldleaf) -> Result<(), HarnessError> {
    let voice = goldleaf.voice;
    voice.chapter("1. A golden image, and a desktop on it");
    voice.tell("A plain Debian disk is made where none is kept from before; that takes minutes.");
    let disk = images::kept(&images::recipe())?;
    voice.tell("It is imported once, as it is. Nothing gets installed in it.");
    goldleaf.run(&["image", "import", &shown(&disk), "--name", IMAGE])?;
    goldleaf.run(&["livepc", "create", DESKTOP, "--image", IMAGE, "--memory", "512"])
}

fn first_session(goldleaf: &Goldleaf, packages: &Packages) -> Result<(), HarnessError> {
    let voice = goldleaf.voice;
    voice.chapter("2. First session: Ann works, and somebody wrecks the system");
    let mut guest = goldleaf.start(&["start", DESKTOP, "--headless"], DESKTOP_DIR)?;
    guest.types("useradd --create-home --shell /bin/bash ann && echo ann:secret | chpasswd")?;
    guest.types(
        "su - ann -c 'mkdir Documents; echo Dear diary >Documents/diary.txt; \
         head -c 3000000 /dev/urandom >Documents/photo.jpg'",
    )?;
    guest.types("sha256sum /home/ann/Documents/photo.jpg >/home/ann/Documents/photo.sum")?;
    guest.upload(&packages.notes, "/root/notes.deb")?;
    guest.types("dpkg -i /root/notes.deb && rm /root/notes.deb")?;
    guest.types("sed -i s/green/blue/ /etc/notes.conf; id -u notesd")?;
    voice.tell("Now root runs something that it should not have run:");
    guest.types("rm -r /usr/share/zoneinfo /usr/bin/apt-get /usr/lib/apt")?;
    guest.types("printf '#!/bin/sh\\necho You have been had\\n' >/usr/bin/uname; uname")?;
    guest.types("printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/spy.service")?;
    guest.types("echo passwords >/tmp/loot; sync")?;
    voice.tell("What will become of all this? The guest runs on, and no agent is in it:");
    goldleaf.run_showing(&["changes", DESKTOP], &is_of_the_story)?;
    guest.power_off()
}

/// Lines of `changes` about what was done above, not about what every boot does.
fn is_of_the_story(line: &str) -> bool {
    let paths =
        ["/etc/passwd ", "/Documents/", "notes.conf", "/usr/bin/", "spy.service", "/tmp/loot"];
    line.starts_with("FATE") || paths.iter().any(|path| line.contains(path))
}

/// What must hold of Ann's things in every later session.
const ANNS: &[(&str, &str)] = &[
    ("Ann's account and password are there", "id ann && grep -q '^ann:[$]' /etc/shadow"),
    (
        "her documents are there, to the byte",
        "grep -qx 'Dear diary' /home/ann/Documents/diary.txt && \
         sha256sum --quiet --check /home/ann/Documents/photo.sum",
    ),
    ("they are still hers", "test \"$(stat -c %U /home/ann/Documents/photo.jpg)\" = ann"),
    ("the package that she installed works", "su - ann -c notes | grep -qx 'Dear diary'"),
    (
        "the package's own data belongs to the package's own account",
        "test \"$(stat -c %U:%G /var/lib/notes/index)\" = notesd:notesd",
    ),
    ("its configuration is as she edited it", "grep -qx 'colour = blue' /etc/notes.conf"),
    ("dpkg knows it, and finds nothing amiss", "dpkg -s notes && test -z \"$(dpkg --audit)\""),
];

const CLEAN: &[(&str, &str)] = &[
    ("what was deleted from /usr is back", "test -e /usr/share/zoneinfo && apt-get --version"),
    ("the planted program is gone", "test \"$(uname)\" = Linux"),
    ("the planted service is gone", "test ! -e /etc/systemd/system/spy.service"),
    ("what lay in /tmp is gone", "test ! -e /tmp/loot"),
];

fn second_session(goldleaf: &Goldleaf) -> Result<(), HarnessError> {
    goldleaf.voice.chapter("3. Second session: the system is clean, and Ann's things are there");
    let mut guest = goldleaf.start(&["start", DESKTOP, "--headless"], DESKTOP_DIR)?;
    for (claim, command) in CLEAN.iter().chain(ANNS) {
        guest.check(claim, command)?;
    }
    guest.power_off()
}

fn patch(goldleaf: &Goldleaf, packages: &Packages) -> Result<(), HarnessError> {
    let voice = goldleaf.voice;
    voice.chapter("4. The administrator patches the one image");
    let mut guest = goldleaf.start(&["image", "edit", IMAGE, "--headless"], WORKSHOP_DIR)?;
    guest.check("nothing of Ann's is in it", "test ! -e /home/ann")?;
    guest.upload(&packages.fix, "/root/fix.deb")?;
    guest.types("dpkg -i /root/fix.deb && rm /root/fix.deb")?;
    guest.types("useradd --system --no-create-home watchdog; id -u watchdog")?;
    guest.types("rm -f /root/.bash_history")?;
    guest.power_off()
}

fn third_session(goldleaf: &Goldleaf) -> Result<(), HarnessError> {
    goldleaf.voice.chapter("5. Third session: the patch is there, and so is all that is Ann's");
    let mut guest = goldleaf.start(&["start", DESKTOP, "--headless"], DESKTOP_DIR)?;
    let patched = "grep -qx patched /usr/share/security-fix/level && dpkg -s security-fix";
    guest.check("the patch is there", patched)?;
    guest.check(
        "so is its account, and no other has its number",
        "id watchdog && test \"$(id -u watchdog)\" != \"$(id -u notesd)\"",
    )?;
    goldleaf
        .voice
        .tell("  (both had taken one number; Ann's has another now, and so have its files)");
    guest.types("id -u watchdog; id -u notesd")?;
    for (claim, command) in ANNS {
        guest.check(claim, command)?;
    }
    guest.power_off()
}

fn look_back(goldleaf: &Goldleaf) -> Result<(), HarnessError> {
    goldleaf.voice.chapter("6. Each layer has a history of its own");
    goldleaf.run(&["history", DESKTOP])?;
    goldleaf.run(&["apps", DESKTOP])?;
    goldleaf.run(&["rollback", DESKTOP, "--layer", "os", "--to", "1", "--dry-run"])?;
    goldleaf.run(&["rejuvenate", DESKTOP, "--apps", "--dry-run"])
}
