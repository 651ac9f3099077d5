//! What the figures stand on: one golden image full of files, and desktops with private layers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldleaf_block::ByteLen;
use goldleaf_host::{Dir, Silent};
use goldleaf_image::{ImportOptions, import};
use goldleaf_layer::{
    Content, ContentExtent, Entry, EntryAttrs, EntryNode, Kind, Layer, LayerEditor, Owner,
    VersionMeta,
};
use goldleaf_player::Home;
use goldleaf_player::desktop::{self, Desktop, Hex, LayerHistory, LayerVersion, Stack};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_store::{PackWriter, Store};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};
use goldleaf_worker::Launcher;

use crate::{Result, Size, disks};

/// A desktop whose layers are empty but for its identity.
pub const PLAIN: &str = "plain";
/// A desktop with some files of its user's.
pub const USED: &str = "used";
/// A desktop with very many files of its user's.
pub const FULL: &str = "full";

/// Files of one directory.
const FILES_PER_DIR: u32 = 100;
/// Length of a small file, in bytes.
const FILE_LEN: usize = 3000;
/// Where the layers' files are.
const LAYER_ROOT: &str = "home/ada/work";
/// Any time will do.
const BORN: Timestamp = Timestamp { secs: 1_760_000_000, nanos: 0 };

/// A home with an image and desktops.
pub struct Ground {
    /// The home.
    pub home: Home,
    /// Where it is.
    pub path: PathBuf,
    /// A place for whatever else is made.
    pub scratch: PathBuf,
}

/// Opens a home whose workers are this program.
pub fn open_home(path: &Path) -> Result<Home> {
    let launcher = Launcher::new(std::env::current_exe()?, vec!["worker".into()]);
    Ok(Home::open(path, launcher)?)
}

impl Ground {
    /// Makes the image and the desktops.
    pub fn prepare(scratch: &Path, size: Size) -> Result<Self> {
        let path = scratch.join("home");
        let home = open_home(&path)?;
        if desktop::peek(&home, FULL).is_ok() {
            return Ok(Self { home, path, scratch: scratch.into() });
        }
        eprintln!("making an image of 40 GB with {} files", size.image_files);
        let disk = scratch.join("image.raw");
        disks::make(&disk)?;
        let mounted = disks::Mounted::new(&disk)?;
        fill_image(mounted.path(), size.image_files)?;
        mounted.close()?;
        eprintln!("importing it");
        let options = ImportOptions { name: "golden".into(), grow_to: None, cause: None };
        let clock = home.clock.as_ref();
        import(&home.images()?, &home.launcher, clock, &disk, &options, &Silent)?;
        fs::remove_file(&disk)?;
        let ground = Self { home, path, scratch: scratch.into() };
        eprintln!("making layers of {} and {} files", size.user_files, size.layer_files);
        ground.make_desktops(size)?;
        Ok(ground)
    }

    fn make_desktops(&self, size: Size) -> Result<()> {
        let new = NewLivePc {
            name: "office".into(),
            image: "golden".into(),
            layers: Vec::new(),
            memory_mib: 1024,
            cpus: 1,
            rules: None,
        };
        livepc::create(&self.home, new)?;
        for (name, files) in [(PLAIN, 0), (USED, size.user_files), (FULL, size.layer_files)] {
            desktop::create(&self.home, name, "office")?;
            if files > 0 {
                self.give_files(name, files)?;
            }
        }
        Ok(())
    }

    /// Gives a desktop a layer of small files, each of another content.
    fn give_files(&self, name: &str, files: u32) -> Result<()> {
        let mut desktop = Desktop::open(&self.home, name)?;
        let store = Store::open(desktop.dir.create_dir("private")?)?;
        let mut writer = store.writer()?;
        let mut editor = LayerEditor::new(&store, &Layer::empty(Kind::UserData))?;
        editor
            .put(&GuestPath::parse(LAYER_ROOT)?, entry(NodeKind::Directory, Content::default()))?;
        for number in 0..files {
            if number % FILES_PER_DIR == 0 {
                let path = format!("{LAYER_ROOT}/d{}", number / FILES_PER_DIR);
                let directory = entry(NodeKind::Directory, Content::default());
                editor.put(&GuestPath::parse(&path)?, directory)?;
            }
            let path = format!("{LAYER_ROOT}/{}", file_name(number));
            let content = small_content(&mut writer, number)?;
            editor.put(&GuestPath::parse(&path)?, entry(NodeKind::File, content))?;
        }
        let meta = VersionMeta { created: 0, cause: "bench".into(), records: Vec::new() };
        let digest = editor.commit(&mut writer, meta)?;
        let filed = writer.finish()?;
        let layer = Layer::open(&store, &digest)?;
        let version = LayerVersion {
            number: 1,
            digest: Hex(digest),
            created_unix_secs: 0,
            cause: "bench".into(),
            entries: layer.counts().entries,
            bytes: ByteLen(layer.counts().content_bytes),
        };
        let history = LayerHistory { versions: vec![version], next: 2 };
        desktop.commit("bench", |record| {
            record.layers.insert(Kind::UserData, history);
        })?;
        drop(filed);
        Ok(())
    }

    /// The layers of a desktop, opened.
    pub fn stack(&self, desktop: &Desktop) -> Result<Stack> {
        Ok(Stack::open(&self.home, &desktop.dir, &desktop.versions(&self.home)?)?)
    }

    /// Forgets a desktop's composed disks.
    pub fn forget_composed(&self, desktop: &Desktop) -> Result<()> {
        match desktop.dir.remove_dir_all("composed") {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Remembers what a desktop is, to be so again: each run begins from the same state, content that
/// an earlier run filed included.
pub struct Before {
    record: desktop::DesktopRecord,
    packs: Vec<String>,
}

impl Before {
    /// What it is now.
    pub fn of(desktop: &Desktop) -> Result<Self> {
        let private = desktop.dir.dir("private")?;
        let packs = private.list()?.into_iter().map(|item| item.name).collect();
        Ok(Self { record: desktop.record.clone(), packs })
    }

    /// Makes it so again.
    pub fn restore(&self, desktop: &mut Desktop) -> Result<()> {
        let next = desktop.record.next_session;
        desktop.commit("bench", |record| {
            *record = self.record.clone();
            record.next_session = next;
        })?;
        let private: Arc<dyn Dir> = desktop.dir.dir("private")?;
        for item in private.list()? {
            if !item.is_dir && !self.packs.contains(&item.name) {
                private.remove(&item.name)?;
            }
        }
        Ok(())
    }
}

fn file_name(number: u32) -> String {
    format!("d{}/f{}", number / FILES_PER_DIR, number % FILES_PER_DIR)
}

/// The content of a small file: text, another one for every number.
fn text(number: u32) -> String {
    let line = format!("This is file {number} of a great many files.\n");
    line.repeat(FILE_LEN / line.len())
}

fn small_content(writer: &mut PackWriter, number: u32) -> Result<Content> {
    let text = text(number);
    let len = ByteLen(text.len() as u64);
    let blob = writer.put_blob(len.blocks(), &mut |buffer| {
        buffer.fill(0);
        buffer[..text.len()].copy_from_slice(text.as_bytes());
        Ok(())
    })?;
    let extent = ContentExtent { file_block: 0, blocks: len.blocks().0, blob, blob_block: 0 };
    Ok(Content { size: len.0, extents: vec![extent] })
}

fn entry(kind: NodeKind, content: Content) -> Entry {
    let owner = Owner::Name("ada".into());
    let attrs = EntryAttrs {
        mode: if kind == NodeKind::Directory { 0o755 } else { 0o644 },
        user: owner.clone(),
        group: owner,
        mtime: BORN,
        ctime: BORN,
        crtime: BORN,
        flags: 0,
    };
    let node = EntryNode::Node {
        kind,
        attrs,
        xattrs: Vec::new(),
        acl_names: Vec::new(),
        content,
        target: Vec::new(),
        link: None,
    };
    Entry { node, package: None, origin: None, digest: None, edit: false }
}

/// As much of a Debian as an import asks for, and files: two thirds in /usr, one third in a home.
fn fill_image(root: &Path, files: u32) -> Result<()> {
    let passwd = "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:Ada:/home/ada:/bin/bash\n";
    disks::write(root, "etc/passwd", passwd, 0o644)?;
    disks::write(root, "etc/group", "root:x:0:\nada:x:1000:\n", 0o644)?;
    disks::write(root, "etc/shadow", "root:*:20000::::::\nada:*:20000::::::\n", 0o640)?;
    disks::write(root, "etc/gshadow", "root:*::\nada:!::\n", 0o640)?;
    disks::write(root, "etc/fstab", "", 0o644)?;
    disks::write(root, "etc/machine-id", "", 0o444)?;
    disks::write(root, "etc/hostname", "golden\n", 0o644)?;
    disks::write(root, "usr/lib/os-release", "PRETTY_NAME=\"Bench Linux\"\nID=debian\n", 0o644)?;
    disks::write(root, "usr/lib/systemd/systemd", "no program\n", 0o755)?;
    let status = "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\n\
                  Version: 13\nMaintainer: nobody\nDescription: none\n\n";
    disks::write(root, "var/lib/dpkg/status", status, 0o644)?;
    disks::write(root, "var/lib/dpkg/info/base-files.list", "/.\n/etc\n/usr\n", 0o644)?;
    let system = files / 3 * 2;
    fill(&root.join("usr/share"), 0..system)?;
    fill(&root.join("home/ada/old"), system..files)
}

/// Writes numbered files into directories of a hundred.
pub fn fill(root: &Path, numbers: std::ops::Range<u32>) -> Result<()> {
    for number in numbers.clone() {
        let place = number - numbers.start;
        let path = root.join(file_name(place));
        if place % FILES_PER_DIR == 0 {
            fs::create_dir_all(path.parent().ok_or("a file without a directory")?)?;
        }
        fs::write(path, text(number))?;
    }
    Ok(())
}

/// Numbers that are the same in every run: an xorshift generator.
pub struct Dice(u64);

impl Dice {
    /// From any seed but 0.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A day's work: operations on files all over the image's tree, two thirds of them in the home.
pub fn work(root: &Path, operations: u32, image_files: u32) -> Result<()> {
    let mut dice = Dice::new(7);
    let system = image_files / 3 * 2;
    for number in 0..operations {
        let home = number % 3 != 0;
        let files = if home { image_files - system } else { system };
        let tree = root.join(if home { "home/ada/old" } else { "usr/share" });
        let file = tree.join(file_name(dice.below(u64::from(files)) as u32));
        let beside = |name: &str| file.with_file_name(format!("{name}{number}"));
        // What an earlier operation removed or renamed is made anew.
        let there = file.exists();
        match number % 10 {
            0..=2 => fs::write(beside("new"), text(number + image_files))?,
            3 | 4 => fs::write(&file, text(number + 2 * image_files))?,
            5 => append(&file)?,
            6 if there => fs::rename(&file, beside("renamed"))?,
            7 if there => fs::remove_file(&file)?,
            8 => fs::create_dir(beside("directory"))?,
            _ => symlink("f1", beside("link"))?,
        }
    }
    Ok(())
}

fn append(file: &Path) -> Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(file)?;
    Ok(std::io::Write::write_all(&mut file, b"one more line\n")?)
}
