//! What is the user's stays; what is the system's is the image's again.

use std::time::Duration;

use goldleaf_e2e::{Console, HarnessError, Site};
use goldleaf_player::desktop;

const BOOT: Duration = Duration::from_secs(400);

/// A person with documents, and somebody with a crowbar.
const USE_AND_VANDALISE: &str = r#"
set -e
useradd -m -s /bin/bash anna
mkdir -p /home/anna/Documents /home/anna/.config/app /home/anna/.cache/app /home/anna/empty
echo 'dear diary' >/home/anna/Documents/diary
head -c 3000000 /dev/urandom >/home/anna/Documents/photo
echo 'alias ll="ls -l"' >>/home/anna/.bashrc
echo 'theme=dark' >/home/anna/.config/app/settings
echo 'thumbnails' >/home/anna/.cache/app/index
ln -s Documents/diary /home/anna/link
ln /home/anna/Documents/diary /home/anna/hard
chmod 600 /home/anna/Documents/diary
chown -R anna:anna /home/anna
setfattr -n user.mood -v happy /home/anna/Documents/diary 2>/dev/null || true
echo 10.9.8.7 printer >>/etc/hosts
echo site=1 >/etc/site.conf
echo scratch >/tmp/scratch
echo root was here >/root/notes

rm -rf /usr/share/doc /usr/bin/wall /usr/share/perl5
chmod 777 /usr/bin/passwd
chmod 4755 /bin/cp
echo 'exec id' >/usr/bin/env
mv /usr/bin/script /usr/bin/script.gone || true
rm -f /etc/issue
chmod 666 /etc/shadow
chown anna /etc/profile
printf '[Service]\nExecStart=/bin/sh\n[Install]\nWantedBy=multi-user.target\n' \
    >/etc/systemd/system/evil.service
ln -s /etc/systemd/system/evil.service /etc/systemd/system/multi-user.target.wants/evil.service
echo '* * * * * root id' >/etc/cron.d/evil || true
echo 'id' >/etc/profile.d/evil.sh
"#;

fn facts(console: &mut Console, command: &str) -> Result<String, HarnessError> {
    console.run(command)
}

#[test]
fn the_users_things_stay_and_the_system_is_clean() {
    let site = Site::new().unwrap();
    let desk = site.desktop("anna", &[]).unwrap();
    let mut told = (String::new(), String::new());
    let sums = "cd /home/anna && sha256sum Documents/* .bashrc .config/app/settings hard && \
                stat -c '%n %U:%G %a' Documents/diary . .cache";
    let clean = "stat -c '%n %U:%G %a' /usr/bin/passwd /bin/cp /etc/shadow /etc/profile \
                 /usr/share/perl5 /usr/share/doc; sha256sum /usr/bin/env /usr/bin/wall /etc/issue";
    let first = desk.session(|console| {
        let id = console.run("cat /etc/machine-id /etc/hostname && hostname")?;
        assert!(id.ends_with("anna\nanna"), "{id}");
        let before = console.run(clean)?;
        console.run(USE_AND_VANDALISE)?;
        told = (console.run(sums)?, id);
        // A reboot in the guest is a reset, in the same window.
        console.send("systemctl reboot")?;
        console.login("root", "root", BOOT)?;
        assert_eq!(facts(console, sums)?, told.0);
        assert_eq!(console.run("cat /etc/machine-id /etc/hostname && hostname")?, told.1);
        assert_eq!(console.run(clean)?, before);
        let gone = "ls /tmp/scratch /etc/systemd/system/evil.service /etc/cron.d/evil \
                    /etc/profile.d/evil.sh /usr/bin/script.gone 2>/dev/null; true";
        // A renamed file of the image's is a new one under its new name: the user's own.
        assert!(!console.run(gone)?.contains("evil"), "{}", console.run(gone)?);
        assert!(!console.run(gone)?.contains("scratch"));
        assert_eq!(
            console.run("tail -1 /etc/hosts; cat /etc/site.conf /root/notes")?,
            "10.9.8.7 printer\nsite=1\nroot was here"
        );
        assert_eq!(console.run("cat /home/anna/.cache/app/index")?, "thumbnails");
        assert_eq!(
            console.run("stat -c %h /home/anna/hard; readlink /home/anna/link")?,
            "2\nDocuments/diary"
        );
        assert_eq!(console.run("id -un 1000; systemctl --failed --no-legend")?, "anna");
        console.run("rm /home/anna/Documents/photo; echo more >>/home/anna/Documents/diary")?;
        Ok(())
    });
    let first = first.unwrap();
    let pids = first.events.iter().filter(|event| {
        matches!(
            event,
            desktop::Event::Machine(goldleaf_player::machine::MachineNews::Started { .. })
        )
    });
    assert_eq!(pids.count(), 1, "one hypervisor for both: {:?}", first.events);

    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("/home/anna/Documents/diary").unwrap().unwrap(), "dear diary\nmore\n");
    assert!(!tree.has("/home/anna/Documents/photo").unwrap());
    assert_eq!(tree.find("/", "/evil").unwrap(), Vec::<String>::new());
    assert!(tree.has("/home/anna/empty").unwrap());

    // Caches and the kept edits of the image's files go; what is the user's stays.
    let would = desktop::rejuvenate(&site.home, "anna", false, true).unwrap();
    assert!(would.local > 0 && would.edits.contains(&"/etc/hosts".to_owned()), "{would:?}");
    assert!(desk.tree().unwrap().has("/home/anna/.cache/app/index").unwrap(), "a dry run");
    desktop::rejuvenate(&site.home, "anna", false, false).unwrap();
    let tree = desk.tree().unwrap();
    assert!(!tree.has("/home/anna/.cache/app/index").unwrap());
    assert!(!tree.text("/etc/hosts").unwrap().unwrap().contains("printer"));
    assert_eq!(tree.text("/etc/site.conf").unwrap().unwrap(), "site=1\n");
    assert_eq!(tree.text("/home/anna/Documents/diary").unwrap().unwrap(), "dear diary\nmore\n");
    assert!(tree.text("/etc/passwd").unwrap().unwrap().contains("anna:x:1000:"));

    desk.session(|console| {
        assert_eq!(console.run("cat /etc/machine-id /etc/hostname && hostname")?, told.1);
        assert_eq!(console.run("stat -c %U:%a /home/anna/Documents/diary")?, "anna:600");
        console.run("pwck -qr && grpck -qr && dpkg --audit").map(drop)
    })
    .unwrap();
}
