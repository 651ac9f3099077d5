//! Bringing an apps layer from outside, without a guest: a directory, an archive, packages.
//!
//! What is brought is the administrator's own, so it is read here and not in the worker. Everything
//! becomes root's. A package is taken as dpkg would leave it, its entry in dpkg's database
//! included; one that must run a script to be installed is refused, because nothing of a guest
//! ever runs on the host.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use goldleaf_block::{BLOCK_SIZE, BlockError, ByteLen};
use goldleaf_layer::merge::dpkg::Dpkg;
use goldleaf_layer::merge::{DiffContext, FileSet, FileState, MergeHandler, Record};
use goldleaf_layer::{
    Content, ContentExtent, Entry, EntryAttrs, EntryNode, Kind, Layer, LayerEditor, Owner,
    VersionMeta,
};
use goldleaf_store::{PackWriter, Store};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};

use crate::apps::AppsVersion;
use crate::desktop::{Hex, Listener, StartOptions, store_records};
use crate::home::step;
use crate::workshop::Bench;
use crate::{Home, PlayerError};

/// What was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The new version of the layer.
    pub version: u32,
    /// Number of its entries.
    pub entries: u64,
    /// Packages in it.
    pub packages: Vec<String>,
}

/// Makes a version of an apps layer from directories, archives (`.tar`, also compressed) and
/// packages (`.deb`), the later ones over the earlier.
pub fn add_layer(
    home: &Home,
    name: &str,
    image: &str,
    sources: &[PathBuf],
    listener: &dyn Listener,
) -> Result<Brought, PlayerError> {
    goldleaf_image::check_name(name)?;
    let number = home.images()?.open(image, None)?.record.number;
    let bench = Bench::open(home, &format!("bring-{name}"), &StartOptions::default())?;
    let scratch =
        bench.dir.path().map(Path::to_path_buf).ok_or_else(|| {
            PlayerError::Refused("a layer needs a home on a real file system".into())
        })?;
    let brought = bring(home, name, (image, number), sources, &scratch, listener);
    // Work that failed is not gone on with; what cannot be cleared goes with a collection.
    let cleared = bench.clear();
    let brought = brought?;
    cleared.map(|()| brought)
}

fn bring(
    home: &Home,
    name: &str,
    (image, number): (&str, u32),
    sources: &[PathBuf],
    scratch: &Path,
    listener: &dyn Listener,
) -> Result<Brought, PlayerError> {
    let store = home.public()?;
    let mut bringer = Bringer::new(&store)?;
    for (source, index) in sources.iter().zip(0..) {
        listener.at("reading what is brought", index, sources.len() as u64);
        bringer.bring(source, &scratch.join(index.to_string()))?;
    }
    let created = home.now_unix_secs();
    let cause = format!("made from {}", shown(sources));
    let packages = bringer.packages.clone();
    let (layer, filed) = bringer.finish(created, &cause)?;
    let counts = layer.counts();
    let digest = layer.digest().ok_or_else(|| PlayerError::corrupt("a new layer", "no digest"))?;
    let record = crate::apps::add_version(home, name, image, |version| AppsVersion {
        number: version,
        digest: Hex(digest),
        image_version: number,
        created_unix_secs: created,
        cause,
        entries: counts.entries,
        bytes: counts.content_bytes,
    })?;
    drop(filed);
    let version = record.versions.last().map_or(1, |version| version.number);
    Ok(Brought { version, entries: counts.entries, packages })
}

fn shown(sources: &[PathBuf]) -> String {
    let names = sources.iter().map(|path| path.display().to_string().escape_debug().to_string());
    names.collect::<Vec<_>>().join(", ")
}

struct Bringer<'a> {
    store: &'a Store,
    writer: PackWriter,
    editor: LayerEditor<'a>,
    /// Names of files with several links, by device and inode of the host.
    links: BTreeMap<(u64, u64), u64>,
    records: Vec<Record>,
    packages: Vec<String>,
}

impl<'a> Bringer<'a> {
    fn new(store: &'a Store) -> Result<Self, PlayerError> {
        Ok(Self {
            store,
            writer: store.writer()?,
            editor: LayerEditor::new(store, &Layer::empty(Kind::Apps))?,
            links: BTreeMap::new(),
            records: Vec::new(),
            packages: Vec::new(),
        })
    }

    fn bring(&mut self, source: &Path, scratch: &Path) -> Result<(), PlayerError> {
        let what = || PlayerError::io(format!("reading {}", source.display()));
        let name = source.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if fs::metadata(source).map_err(what())?.is_dir() {
            return self.tree(source, &GuestPath::root(), None);
        }
        fs::create_dir(scratch).map_err(what())?;
        if name.ends_with(".deb") {
            return self.package(source, scratch);
        }
        if !name.contains(".tar") && !name.ends_with(".tgz") {
            let text =
                format!("{} is no directory, .tar archive or .deb package", name.escape_debug());
            return Err(PlayerError::Refused(text));
        }
        let (source, target) = (source.as_os_str(), scratch.as_os_str());
        let args = ["--no-same-owner".as_ref(), "-xf".as_ref(), source, "-C".as_ref(), target];
        tool("tar", "tar", &args)?;
        self.tree(scratch, &GuestPath::root(), None)
    }

    /// A directory of the host as entries. Directories that hold something need no entry: what is
    /// missing above a path is made.
    fn tree(
        &mut self,
        host: &Path,
        at: &GuestPath,
        package: Option<&str>,
    ) -> Result<(), PlayerError> {
        let what = || PlayerError::io(format!("reading {}", host.display()));
        let items: Vec<_> =
            fs::read_dir(host).map_err(what())?.collect::<Result<_, _>>().map_err(what())?;
        for item in &items {
            let path = at
                .join(item.file_name().as_bytes())
                .map_err(|error| PlayerError::Refused(format!("{}: {error}", host.display())))?;
            let metadata = item.metadata().map_err(what())?;
            if metadata.is_dir() {
                let empty = fs::read_dir(item.path()).map_err(what())?.next().is_none();
                if empty || metadata.permissions().mode() & 0o7777 != 0o755 {
                    self.put(&path, NodeKind::Directory, &metadata, Content::default(), package)?;
                }
                self.tree(&item.path(), &path, package)?;
            } else {
                self.leaf(&item.path(), &path, &metadata, package)?;
            }
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        host: &Path,
        path: &GuestPath,
        metadata: &fs::Metadata,
        package: Option<&str>,
    ) -> Result<(), PlayerError> {
        if metadata.is_file() {
            let content = self.content(host, metadata.len())?;
            return self.put(path, NodeKind::File, metadata, content, package);
        }
        if !metadata.is_symlink() {
            return Err(PlayerError::Refused(format!(
                "{} is a device or a pipe; a layer from outside has files, directories and links",
                host.display()
            )));
        }
        let target = fs::read_link(host).map_err(PlayerError::io("reading a link"))?;
        let mut entry = entry(NodeKind::Symlink, metadata, Content::default(), package);
        if let EntryNode::Node { target: to, .. } = &mut entry.node {
            *to = target.as_os_str().as_bytes().to_vec();
        }
        Ok(self.editor.put(path, entry)?)
    }

    fn put(
        &mut self,
        path: &GuestPath,
        kind: NodeKind,
        metadata: &fs::Metadata,
        content: Content,
        package: Option<&str>,
    ) -> Result<(), PlayerError> {
        let mut entry = entry(kind, metadata, content, package);
        if kind == NodeKind::File && metadata.nlink() > 1 {
            let next = self.links.len() as u64 + 1;
            let number = *self.links.entry((metadata.dev(), metadata.ino())).or_insert(next);
            if let EntryNode::Node { link, .. } = &mut entry.node {
                *link = Some(number);
            }
        }
        Ok(self.editor.put(path, entry)?)
    }

    fn content(&mut self, host: &Path, size: u64) -> Result<Content, PlayerError> {
        let blocks = ByteLen(size).blocks();
        if size == 0 {
            return Ok(Content::default());
        }
        let what = || PlayerError::io(format!("reading {}", host.display()));
        let mut file = fs::File::open(host).map_err(what())?.take(size);
        let blob = self.writer.put_blob(blocks, &mut |buffer| {
            let mut filled = 0;
            while filled < buffer.len() {
                match file.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(got) => filled += got,
                    Err(error) => return Err(BlockError::io("reading what is brought", &error)),
                }
            }
            buffer[filled..].fill(0);
            Ok(())
        })?;
        let blocks = size.div_ceil(BLOCK_SIZE);
        let extents = vec![ContentExtent { file_block: 0, blocks, blob, blob_block: 0 }];
        Ok(Content { size, extents })
    }

    /// A package: its files, its part of dpkg's database, and a record for the rest of that.
    fn package(&mut self, deb: &Path, scratch: &Path) -> Result<(), PlayerError> {
        let (files, control) = (scratch.join("files"), scratch.join("control"));
        tool("dpkg-deb", "dpkg", &["-x".as_ref(), deb.as_os_str(), files.as_os_str()])?;
        tool("dpkg-deb", "dpkg", &["-e".as_ref(), deb.as_os_str(), control.as_os_str()])?;
        for script in ["preinst", "postinst", "config"] {
            if control.join(script).exists() {
                return Err(PlayerError::Refused(format!(
                    "{} must run its {script} script to be installed, and nothing of a guest runs \
                     on the host; install it in a guest: `goldleaf layer record`",
                    deb.display()
                )));
            }
        }
        let what = || PlayerError::io(format!("reading {}", deb.display()));
        let text = fs::read_to_string(control.join("control")).map_err(what())?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_string()).unwrap_or_default()
        };
        let (name, arch) = (field("Package"), field("Architecture"));
        if name.is_empty() || arch.is_empty() {
            return Err(PlayerError::Refused(format!("{} names no package", deb.display())));
        }
        let tag = format!("{name}:{arch}");
        let file = if field("Multi-Arch") == "same" { tag.clone() } else { name.clone() };
        self.info(&files, &control, &file)?;
        self.tree(&files, &GuestPath::root(), Some(&tag))?;
        self.records.extend(status_records(&text, &files, &control)?);
        self.packages.push(name);
        Ok(())
    }

    /// Writes the package's files of `/var/lib/dpkg/info` beside its own.
    fn info(&self, files: &Path, control: &Path, name: &str) -> Result<(), PlayerError> {
        let what = || PlayerError::io("writing a package's information");
        let mut list = String::from("/.\n");
        list_paths(files, files, &mut list)?;
        let info = files.join("var/lib/dpkg/info");
        fs::create_dir_all(&info).map_err(what())?;
        fs::write(info.join(format!("{name}.list")), list).map_err(what())?;
        for item in fs::read_dir(control).map_err(what())? {
            let item = item.map_err(what())?;
            let kind = item.file_name().to_string_lossy().into_owned();
            if kind != "control" {
                fs::copy(item.path(), info.join(format!("{name}.{kind}"))).map_err(what())?;
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        created: u64,
        cause: &str,
    ) -> Result<(Layer, goldleaf_store::Filed), PlayerError> {
        let records = store_records(&mut self.writer, &self.records)?;
        let meta = VersionMeta { created, cause: cause.into(), records };
        let digest = self.editor.commit(&mut self.writer, meta)?;
        let filed = step("layer.pack", || Ok(self.writer.finish()?))?;
        Ok((Layer::open(self.store, &digest)?, filed))
    }
}

/// An entry of root's with what the host's file has.
fn entry(
    kind: NodeKind,
    metadata: &fs::Metadata,
    content: Content,
    package: Option<&str>,
) -> Entry {
    let time = Timestamp { secs: metadata.mtime(), nanos: metadata.mtime_nsec() as u32 };
    let root = Owner::Name("root".into());
    let attrs = EntryAttrs {
        mode: (metadata.permissions().mode() & 0o7777) as u16,
        user: root.clone(),
        group: root,
        mtime: time,
        ctime: time,
        crtime: time,
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
    Entry { node, package: package.map(Into::into), origin: None, digest: None, edit: false }
}

/// The paths of a package as its list file has them, directories included.
fn list_paths(root: &Path, at: &Path, list: &mut String) -> Result<(), PlayerError> {
    let what = || PlayerError::io("listing a package");
    let mut items: Vec<PathBuf> = fs::read_dir(at)
        .map_err(what())?
        .map(|item| item.map(|item| item.path()))
        .collect::<Result<_, _>>()
        .map_err(what())?;
    items.sort();
    for path in items {
        let shown = path.strip_prefix(root).unwrap_or(&path);
        list.push_str(&format!("/{}\n", shown.display()));
        if path.is_dir() && !path.is_symlink() {
            list_paths(root, &path, list)?;
        }
    }
    Ok(())
}

/// The package's stanza of dpkg's status, as records of an apps layer.
fn status_records(control: &str, files: &Path, scripts: &Path) -> Result<Vec<Record>, PlayerError> {
    let mut stanza = String::new();
    for line in control.lines().filter(|line| !line.is_empty()) {
        stanza.push_str(&format!("{line}\n"));
        if line.starts_with("Package:") {
            stanza.push_str("Status: install ok installed\n");
        }
    }
    if let Ok(conffiles) = fs::read_to_string(scripts.join("conffiles")) {
        stanza.push_str("Conffiles:\n");
        for path in conffiles.lines().filter(|line| line.starts_with('/')) {
            let sum = md5(&files.join(path.trim_start_matches('/')))?;
            stanza.push_str(&format!(" {path} {sum}\n"));
        }
    }
    let status = GuestPath::parse("/var/lib/dpkg/status").unwrap_or_default();
    let after: FileSet = [(status, FileState::file(stanza, 0o644))].into();
    let context = DiffContext { all_to: Some(Kind::Apps), ..DiffContext::default() };
    Dpkg.diff(&FileSet::new(), &after, &context)
        .map_err(|error| PlayerError::Refused(error.to_string()))
}

fn md5(file: &Path) -> Result<String, PlayerError> {
    let said = tool("md5sum", "coreutils", &["--".as_ref(), file.as_os_str()])?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_string())
}

/// Runs a program of the host's and returns what it printed.
fn tool(name: &str, package: &str, args: &[&std::ffi::OsStr]) -> Result<String, PlayerError> {
    let output = match Command::new(name).args(args).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{name} is missing; install it with `apt-get install {package}`");
            return Err(PlayerError::Refused(text));
        }
        other => other.map_err(PlayerError::io(format!("running {name}")))?,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().last().unwrap_or("it failed");
    Err(PlayerError::Refused(format!("{name}: {}", line.escape_debug())))
}
