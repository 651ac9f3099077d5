//! `goldleaf doctor`

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use goldleaf_block::{ByteLen, MapBuilder};
use goldleaf_host::{Progress, RealClock};
use goldleaf_image::{ImageError, inspect_disk};
use goldleaf_player::Home;
use goldleaf_vm::{Probe, QEMU_BINARY};
use serde::Serialize;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::{printable, size};

/// Length of the disk that the sandbox is tried on, in bytes.
const TRIAL_DISK_LEN: u64 = 1 << 20;
/// Below this there is no room to file a session in.
const SPACE_NEEDED: u64 = 1 << 30;
/// Below this an image of a desktop does not fit.
const SPACE_WANTED: u64 = 20 << 30;
/// Longest path of a unix socket (`sun_path`), without its final zero.
const SOCKET_PATH_MAX: usize = 107;
/// What is appended to the home's path for the sockets of a desktop with a name of usual length.
const SOCKET_BELOW_HOME: &str = "/workshop/image-twenty-characters-it-is/run/control.sock";

/// Look at this machine, and say what is missing and how to get it
///
/// The accelerator is tried by running a guest on it, and the sandbox by doing a task in it. The
/// exit code is 4 when something is missing that Goldleaf cannot do without.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Health {
    /// As it should be.
    Good,
    /// Goldleaf works without it, but less well.
    Poor,
    /// Goldleaf does not work without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    health: Health,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, health: Health::Good, found: found.into(), cure: None }
    }

    fn bad(
        name: &'static str,
        health: Health,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { name, health, found: found.into(), cure: Some(cure.into()) }
    }
}

/// A program that Goldleaf runs: what it is for, and where it comes from.
struct Tool {
    program: &'static str,
    without: Health,
    purpose: &'static str,
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "qemu-img",
        without: Health::Missing,
        purpose: "converts disks that are imported",
        package: "qemu-utils",
    },
    Tool {
        program: "resize2fs",
        without: Health::Poor,
        purpose: "grows file systems (`image import --size`)",
        package: "e2fsprogs",
    },
    Tool {
        program: "mke2fs",
        without: Health::Poor,
        purpose: "makes file systems (`image create`)",
        package: "e2fsprogs",
    },
    Tool {
        program: "mmdebstrap",
        without: Health::Poor,
        purpose: "installs Debian (`image create`)",
        package: "mmdebstrap",
    },
    Tool {
        program: "grub-mkimage",
        without: Health::Poor,
        purpose: "makes boot loaders (`image create`)",
        package: "grub-common grub-pc-bin",
    },
    Tool {
        program: "ssh-keygen",
        without: Health::Poor,
        purpose: "makes each desktop's host keys; without it guests make their own",
        package: "openssh-client",
    },
    Tool {
        program: "setpriv",
        without: Health::Poor,
        purpose: "ends guests when Goldleaf is killed",
        package: "util-linux",
    },
];

pub fn run(app: &App, _args: &Args) -> Result<(), Failure> {
    let console = app.console();
    let mut findings = Vec::new();
    console.at("trying the accelerator", 0, 0);
    findings.extend(hypervisor());
    findings.extend(TOOLS.iter().map(look_for));
    match app.open() {
        Ok(home) => findings.extend(look_at_home(&home, &app.home_path()?)),
        Err(_) => {
            let found = format!("{} cannot be opened", app.home_path()?.display());
            let cure = "choose a directory of yours with `--home DIR`";
            findings.push(Finding::bad("home", Health::Missing, found, cure));
        }
    }
    console.finish();
    app.answer(&findings, || findings.iter().map(describe).collect())?;
    let missing = findings.iter().filter(|finding| finding.health == Health::Missing);
    let names: Vec<&str> = missing.map(|finding| finding.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::environment(format!("this machine lacks what is needed: {}", names.join(", "))))
}

fn describe(finding: &Finding) -> String {
    let mark = match finding.health {
        Health::Good => "good    ",
        Health::Poor => "poor    ",
        Health::Missing => "MISSING ",
    };
    let mut text = format!("{mark}{}: {}\n", finding.name, printable(&finding.found));
    if let Some(cure) = &finding.cure {
        text += &format!("        → {cure}\n");
    }
    text
}

fn hypervisor() -> Vec<Finding> {
    const INSTALL: &str = "apt-get install qemu-system-x86";
    let binary = Path::new(QEMU_BINARY);
    let version = match goldleaf_vm::version(binary) {
        Ok(version) => {
            Finding::good("QEMU", format!("version {}.{}", version.major, version.minor))
        }
        Err(error) => {
            return vec![Finding::bad("QEMU", Health::Missing, error.to_string(), INSTALL)];
        }
    };
    let accelerator = match goldleaf_vm::probe(binary, &RealClock::new()) {
        Ok(Probe::Kvm) => Finding::good("accelerator", "KVM runs guests"),
        Ok(Probe::Tcg { why }) => Finding::bad(
            "accelerator",
            Health::Poor,
            format!("guests are emulated, which is many times slower: {why}"),
            "switch virtualisation on in the firmware (in a virtual machine: nested \
             virtualisation on its host), and join the group kvm",
        ),
        Err(error) => Finding::bad("accelerator", Health::Missing, error.to_string(), INSTALL),
    };
    vec![version, accelerator]
}

fn look_for(tool: &Tool) -> Finding {
    match find_program(tool.program) {
        Some(path) => Finding::good(tool.program, version_of(&path)),
        None => Finding::bad(
            tool.program,
            tool.without,
            format!("not found; it {}", tool.purpose),
            format!("apt-get install {}", tool.package),
        ),
    }
}

/// Where a program is: on the path, or where system programs are.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| {
        fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
    })
}

/// What the program says of itself, where it says something; its place otherwise.
fn version_of(path: &Path) -> String {
    let place = path.display().to_string();
    if path.ends_with("ssh-keygen") || path.ends_with("resize2fs") || path.ends_with("mke2fs") {
        return place;
    }
    let output = Command::new(path).arg("--version").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    match String::from_utf8_lossy(&text).lines().next() {
        Some(line) if !line.is_empty() => line.into(),
        _ => place,
    }
}

fn look_at_home(home: &Home, path: &Path) -> Vec<Finding> {
    vec![sandbox(home), permissions(path), space(home), path_length(home)]
}

/// Starts a worker on a disk of nothing: it answers only from within its sandbox.
fn sandbox(home: &Home) -> Finding {
    const NAME: &str = "sandbox";
    const DISK: &str = "doctor.raw";
    let works = || Finding::good(NAME, "a confined worker did its task (Landlock, seccomp)");
    let trial = || -> Result<(), Failure> {
        let io = |error: std::io::Error| Failure::io("preparing a trial disk", &error);
        let dir = home.sub("scratch")?;
        let _ = dir.remove(DISK);
        let file = dir.create(DISK).map_err(io)?;
        file.set_len(TRIAL_DISK_LEN).map_err(io)?;
        let nothing = MapBuilder::new(ByteLen(TRIAL_DISK_LEN).blocks()).finish();
        let answer = inspect_disk(&home.launcher, &nothing, std::slice::from_ref(&file));
        dir.remove(DISK).map_err(io)?;
        match answer {
            // Of course there is nothing on that disk; that the worker says so is what counts.
            Ok(_) | Err(ImageError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    match trial() {
        Ok(()) => works(),
        Err(failure) => Finding::bad(
            NAME,
            Health::Missing,
            failure.message(),
            "run a kernel of version 5.13 or newer with Landlock among its security modules \
             (`lsm=landlock,…` on its command line)",
        ),
    }
}

fn permissions(path: &Path) -> Finding {
    const NAME: &str = "home";
    let place = path.display();
    match fs::metadata(path) {
        Err(error) => {
            let cure = "choose a directory of yours with `--home DIR`";
            Finding::bad(NAME, Health::Missing, format!("{place}: {error}"), cure)
        }
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => Finding::bad(
            NAME,
            Health::Poor,
            format!("{place} can be entered by others (mode {:o})", meta.mode() & 0o777),
            format!("chmod 700 {place}"),
        ),
        Ok(_) => Finding::good(NAME, format!("{place}, only this user's")),
    }
}

fn space(home: &Home) -> Finding {
    const NAME: &str = "space";
    const CURE: &str = "free some space (`goldleaf gc`), or choose another place with `--home DIR`";
    match home.dir.free_space() {
        Err(error) => Finding::bad(NAME, Health::Missing, error.to_string(), CURE),
        Ok(free) => {
            let found = format!("{} free", size(free));
            match free {
                ..SPACE_NEEDED => Finding::bad(NAME, Health::Missing, found, CURE),
                SPACE_NEEDED..SPACE_WANTED => Finding::bad(NAME, Health::Poor, found, CURE),
                _ => Finding::good(NAME, found),
            }
        }
    }
}

/// Sockets are below the home, and the kernel allows their paths few characters.
fn path_length(home: &Home) -> Finding {
    const NAME: &str = "path";
    let len = home.dir.path().map_or(0, |path| path.as_os_str().len());
    let most = SOCKET_PATH_MAX - SOCKET_BELOW_HOME.len();
    if len <= most {
        return Finding::good(NAME, format!("{len} characters long, at most {most} are fine"));
    }
    Finding::bad(
        NAME,
        Health::Poor,
        format!("the home's path has {len} characters; sockets below it may not be possible"),
        format!("choose a place with at most {most} characters, with `--home DIR`"),
    )
}
