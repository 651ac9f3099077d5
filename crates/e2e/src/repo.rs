//! A Debian package repository for guests: tiny packages made on the spot, served over HTTP.
//!
//! On QEMU's network of the user the guest finds the host's loopback at 10.0.2.2.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use crate::error::HarnessError;

/// A package to be made.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its `Depends` field; empty for none.
    pub depends: String,
    /// Absolute paths and contents; those under `/etc` are conffiles.
    pub files: Vec<(String, String)>,
    /// The script that runs after the installation; empty for none.
    pub postinst: String,
}

impl Package {
    /// A package without files.
    pub fn new(name: &str, version: &str) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), ..Self::default() }
    }

    /// The same with a file.
    pub fn with_file(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    /// The same with a script that runs after the installation.
    pub fn with_postinst(mut self, script: &str) -> Self {
        self.postinst = script.to_owned();
        self
    }

    /// A package with a service that runs as a user of its own and keeps a database.
    pub fn service(name: &str, version: &str) -> Self {
        let unit = format!(
            "[Service]\nUser={name}\nExecStart=/usr/lib/{name}/run\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
        let run = format!(
            "#!/bin/sh\nset -e\n. /etc/{name}.conf\ncd /var/lib/{name}\n\
             while true; do id -un >who; echo $greeting >greeting; sleep 2; done\n"
        );
        let mut package = Self::new(name, version)
            .with_file(&format!("/etc/{name}.conf"), "greeting=hello\n")
            .with_file(&format!("/usr/lib/{name}/run"), &run)
            .with_file(&format!("/lib/systemd/system/{name}.service"), &unit);
        package.postinst = format!(
            "chmod 755 /usr/lib/{name}/run\n\
             id {name} >/dev/null 2>&1 || useradd --system --home-dir /var/lib/{name} \
             --shell /usr/sbin/nologin {name}\n\
             mkdir -p /var/lib/{name}\nchown {name}:{name} /var/lib/{name}\n\
             chmod 750 /var/lib/{name}\n\
             systemctl enable {name}.service\n\
             if [ -d /run/systemd/system ]; then systemctl start {name}.service; fi"
        );
        package
    }

    /// Builds the package into a directory.
    pub fn build(&self, into: &Path) -> Result<PathBuf, HarnessError> {
        let tree = tempfile::tempdir()?;
        let root = tree.path().join("root");
        let control = root.join("DEBIAN");
        fs::create_dir_all(&control)?;
        fs::write(control.join("control"), self.control())?;
        let conffiles: String = self
            .files
            .iter()
            .filter(|(path, _)| path.starts_with("/etc/"))
            .map(|(path, _)| format!("{path}\n"))
            .collect();
        if !conffiles.is_empty() {
            fs::write(control.join("conffiles"), conffiles)?;
        }
        if !self.postinst.is_empty() {
            write_script(&control.join("postinst"), &self.postinst)?;
        }
        for (path, content) in &self.files {
            let file = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(file.parent().unwrap_or(&root))?;
            fs::write(&file, content)?;
            if content.starts_with("#!") {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
            }
        }
        let deb = into.join(format!("{}_{}_all.deb", self.name, self.version));
        let mut command = Command::new("dpkg-deb");
        command.args(["--root-owner-group", "-Zgzip", "--build"]).arg(&root).arg(&deb);
        run("dpkg-deb", command)?;
        Ok(deb)
    }

    fn control(&self) -> String {
        let Self { name, version, depends, .. } = self;
        let depends =
            if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\n\
             Maintainer: Tests <tests@example.org>\n{depends}Description: made for a test\n"
        )
    }
}

fn write_script(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, format!("#!/bin/sh\nset -e\n{text}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn run(program: &'static str, mut command: Command) -> Result<Vec<u8>, HarnessError> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(HarnessError::Tool { program, said })
}

/// A flat repository that is served until it is dropped.
pub struct Repository {
    dir: TempDir,
    port: u16,
    closing: Arc<AtomicBool>,
}

impl Repository {
    /// Builds the packages and begins to serve them on a free port of the loopback.
    pub fn serve(packages: &[Package]) -> Result<Self, HarnessError> {
        let dir = tempfile::tempdir()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let closing = Arc::new(AtomicBool::new(false));
        let repository = Self { dir, port, closing: Arc::clone(&closing) };
        repository.add(packages)?;
        let root = repository.dir.path().to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if closing.load(Ordering::Relaxed) {
                    return;
                }
                // A client that hangs up early has its own report of it.
                let _ = answer(&root, &stream);
            }
        });
        Ok(repository)
    }

    /// Adds packages while it is served, as an archive does.
    pub fn add(&self, packages: &[Package]) -> Result<(), HarnessError> {
        for package in packages {
            package.build(self.dir.path())?;
        }
        let mut command = Command::new("dpkg-scanpackages");
        command.args(["--multiversion", "."]).current_dir(self.dir.path());
        let index = run("dpkg-scanpackages", command)?;
        Ok(fs::write(self.dir.path().join("Packages"), index)?)
    }

    /// Adds real packages, as the host's own archive has them; they are kept beside the images.
    pub fn add_debian(&self, names: &[&str]) -> Result<(), HarnessError> {
        let kept = crate::images::cache_dir()?.join("debs");
        fs::create_dir_all(&kept)?;
        for name in names {
            let prefix = format!("{name}_");
            let of_it =
                |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
            if !fs::read_dir(&kept)?.filter_map(Result::ok).any(|entry| of_it(&entry)) {
                let mut command = Command::new("apt-get");
                command.args(["-q", "download", name]).current_dir(&kept);
                run("apt-get", command)?;
            }
            for entry in fs::read_dir(&kept)?.filter_map(Result::ok).filter(of_it) {
                // A colon in a name would have to be escaped again and again.
                let plain = entry.file_name().to_string_lossy().replace("%3a", "-");
                fs::copy(entry.path(), self.dir.path().join(plain))?;
            }
        }
        self.add(&[])
    }

    /// Where the packages are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A shell command that makes the guest know this repository, and no other.
    pub fn subscribe(&self) -> String {
        format!(
            "rm -rf /etc/apt/sources.list.d; echo '{}' >/etc/apt/sources.list; apt-get -q update",
            self.sources_line()
        )
    }

    /// The port on the host's loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The guest's line for its sources list.
    pub fn sources_line(&self) -> String {
        format!("deb [trusted=yes] http://10.0.2.2:{} ./", self.port)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; if that fails there is none.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// One request a connection, files of one directory only.
fn answer(root: &Path, mut stream: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("");
    let name = unescape(path.rsplit('/').next().unwrap_or(""));
    let (status, body) = match fs::read(root.join(&name)) {
        Ok(body) if !name.is_empty() => ("200 OK", body),
        _ => ("404 Not Found", Vec::new()),
    };
    let len = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body)
}

/// RFC 3986, section 2.1.
fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or(("", part));
        plain.extend(u8::from_str_radix(code, 16).ok().map(char::from));
        plain.push_str(rest);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn get(repository: &Repository, path: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, repository.port())).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn packages_are_built_indexed_and_served() {
        let tool = Package::new("tool", "1.0").with_file("/etc/tool.conf", "a=1\n");
        let repository = Repository::serve(&[tool]).unwrap();
        let mut app = Package::new("app", "2.0");
        app.depends = "tool".into();
        app.postinst = "true".into();
        repository.add(&[app]).unwrap();
        let index = get(&repository, "/./Packages");
        assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
        for part in ["Package: app", "Depends: tool", "Filename: ./tool_1.0_all.deb", "SHA256: "] {
            assert!(index.contains(part), "{part} is missing in {index}");
        }
        assert!(get(&repository, "/tool_1.0_all.deb").contains("!<arch>"));
        assert!(get(&repository, "/../etc/passwd").starts_with("HTTP/1.1 404"));
    }
}
