//! A PostgreSQL of its own for this process, in a scratch directory, reached by a socket.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

/// A cluster that runs. It ends when this process does: it watches its standard input.
pub struct Cluster {
    dir: TempDir,
    databases: AtomicU32,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// A new, empty database.
pub fn database() -> String {
    let cluster = CLUSTER.get_or_init(Cluster::start);
    let name = format!("t{}", cluster.databases.fetch_add(1, Ordering::Relaxed));
    cluster.sql(&format!("CREATE DATABASE {name}"));
    format!("postgres:///{name}?host={}&user=goldleaf", cluster.dir.path().display())
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("mode");
        let cluster = Self { dir, databases: AtomicU32::new(0) };
        let data = cluster.dir.path().join("data");
        let made = cluster
            .command("initdb")
            .args(["-U", "goldleaf", "-A", "trust", "--no-locale", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("initdb").success());
        // The shell ends the server when whoever holds its input is gone, killed or not.
        let socket = cluster.dir.path().display().to_string();
        let script = "\"$0\" -D \"$1\" -k \"$2\" -c listen_addresses= -c fsync=off & \
                      read -r _; kill -INT $!; wait";
        let server = cluster
            .command("sh")
            .args(["-c", script])
            .arg(program("postgres"))
            .arg(&data)
            .arg(&socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres");
        // Kept open for as long as this process lives.
        std::mem::forget(server);
        for _ in 0..600 {
            if cluster.psql("SELECT 1").output().is_ok_and(|output| output.status.success()) {
                return cluster;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL does not answer");
    }

    /// As somebody else than root, who may not run it.
    fn command(&self, name: &str) -> Command {
        let program = if name == "sh" { PathBuf::from("sh") } else { program(name) };
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    }

    fn psql(&self, sql: &str) -> Command {
        let mut command = Command::new("psql");
        let socket = self.dir.path();
        command.args(["-q", "-U", "goldleaf", "-d", "postgres", "-c", sql, "-h"]).arg(socket);
        command
    }

    fn sql(&self, sql: &str) {
        let output = self.psql(sql).output().expect("psql");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn is_root() -> bool {
    let mut text = String::new();
    let status = std::fs::File::open("/proc/self/status");
    status.expect("status").read_to_string(&mut text).expect("text");
    text.lines().any(|line| line.starts_with("Uid:\t0"))
}

/// Where Debian puts the programs of a version, the newest first; or wherever else they are.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    versions.sort();
    let candidates = versions.iter().rev().map(|version| version.join("bin").join(name));
    candidates.into_iter().find(|path| path.exists()).unwrap_or_else(|| Path::new(name).into())
}
