//! The jail, probed from inside: this program starts itself in the sandbox, tries what a captured
//! parser would try, and reports what was refused. A test with a main of its own, because it is
//! both sides.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use goldleaf_jail::{Cause, Limits, enter, inherited, inherited_socket, spawn};

const LIMITS: Limits = Limits { memory_bytes: 512 << 20, cpu_secs: 1, file_bytes: 1 << 20 };

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("probe") => probe(),
        Some("hog") => hog(),
        Some("spin") => spin(),
        Some("write") => write_on(),
        Some(mode @ ("panic" | "abort" | "fault")) => fail(mode),
        // The test runner's own arguments (filters, --nocapture) are for the parent.
        _ => parent(),
    }
}

fn parent() {
    every_probe_is_denied();
    limits_end_what_goes_past_them();
    println!("2 passed, 0 failed");
}

fn run(mode: &str) -> (String, goldleaf_jail::Ended) {
    let file = tempfile::tempfile().expect("a scratch file");
    file.set_len(4096).expect("its length");
    let program = std::env::current_exe().expect("own path");
    let mut jailed =
        spawn(&program, &[OsString::from(mode)], &[file.as_fd()], LIMITS).expect("spawn");
    let mut answer = String::new();
    let mut socket = jailed.socket().expect("socket");
    socket.read_to_string(&mut answer).expect("answer");
    (answer, jailed.wait().expect("end"))
}

fn every_probe_is_denied() {
    let (answer, ended) = run("probe");
    assert!(ended.status.success(), "{} {}", ended.cause(), ended.stderr);
    let lines: Vec<&str> = answer.lines().collect();
    assert!(lines.len() >= 40, "only {} probes ran", lines.len());
    let open: Vec<&&str> = lines.iter().filter(|line| !line.ends_with(" denied")).collect();
    assert!(open.is_empty(), "the sandbox let through: {open:?}");
}

fn limits_end_what_goes_past_them() {
    let modes = [
        ("hog", Cause::Memory),
        ("spin", Cause::Processor),
        ("write", Cause::Output),
        ("panic", Cause::Panic),
        ("abort", Cause::Signal(libc::SIGABRT)),
        ("fault", Cause::Signal(libc::SIGSEGV)),
    ];
    for (mode, cause) in modes {
        let (_, ended) = run(mode);
        assert_eq!(ended.cause(), cause, "{mode}: {}", ended.stderr);
    }
}

fn hog() {
    enter().expect("enter");
    let block = vec![1_u8; 1 << 30];
    std::hint::black_box(&block);
}

fn spin() {
    enter().expect("enter");
    loop {
        std::hint::spin_loop();
    }
}

fn fail(mode: &str) {
    enter().expect("enter");
    match mode {
        "panic" => panic!("as asked"),
        "abort" => std::process::abort(),
        // SAFETY: none; it is to fail.
        _ => unsafe { std::ptr::null_mut::<u8>().write_volatile(1) },
    }
}

fn write_on() {
    let mut file = File::from(inherited(1).remove(0));
    enter().expect("enter");
    let block = vec![1_u8; 1 << 16];
    loop {
        file.write_all(&block).expect("room");
    }
}

/// A raw system call; negative numbers are errors.
fn call(number: libc::c_long, args: [usize; 6]) -> bool {
    let [a, b, c, d, e, f] = args;
    // SAFETY: each probe passes pointers that live across the call, or none.
    unsafe { libc::syscall(number, a, b, c, d, e, f) >= 0 }
}

fn probe() {
    let handed = inherited(1);
    let mut socket = File::from(inherited_socket());
    enter().expect("enter");
    let path = c"/etc/passwd".as_ptr() as usize;
    let at_cwd = libc::AT_FDCWD as usize;
    let fd = handed[0].as_raw_fd() as usize;
    let mut answer = String::new();
    let mut note = |name: &str, succeeded: bool| {
        answer.push_str(&format!("{name} {}\n", if succeeded { "ALLOWED" } else { "denied" }));
    };
    note("std-open", File::open("/etc/passwd").is_ok());
    note("std-create", File::create("/tmp/goldleaf-probe").is_ok());
    note("std-readdir", std::fs::read_dir("/").is_ok());
    note("std-self-mem", File::open("/proc/self/mem").is_ok());
    note("std-spawn", std::process::Command::new("/bin/true").spawn().is_ok());
    note("std-tcp", std::net::TcpStream::connect("127.0.0.1:1").map_or_else(was_denied, |_| true));
    note("std-thread", std::thread::Builder::new().spawn(|| ()).is_ok());
    let page = 4096;
    let rwx = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as usize;
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    let raw: &[(&str, libc::c_long, [usize; 6])] = &[
        ("open", libc::SYS_open, [path, 0, 0, 0, 0, 0]),
        ("openat", libc::SYS_openat, [at_cwd, path, 0, 0, 0, 0]),
        ("openat2", libc::SYS_openat2, [at_cwd, path, 0, 24, 0, 0]),
        ("creat", libc::SYS_creat, [path, 0o600, 0, 0, 0, 0]),
        ("stat", libc::SYS_newfstatat, [at_cwd, path, 0, 0, 0, 0]),
        ("unlink", libc::SYS_unlink, [path, 0, 0, 0, 0, 0]),
        ("rename", libc::SYS_rename, [path, path, 0, 0, 0, 0]),
        ("link", libc::SYS_link, [path, path, 0, 0, 0, 0]),
        ("chmod", libc::SYS_chmod, [path, 0o777, 0, 0, 0, 0]),
        ("mkdir", libc::SYS_mkdir, [path, 0o777, 0, 0, 0, 0]),
        ("chdir", libc::SYS_chdir, [path, 0, 0, 0, 0, 0]),
        ("chroot", libc::SYS_chroot, [path, 0, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, [path, path, 0, 0, 0, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]),
        ("setns", libc::SYS_setns, [fd, 0, 0, 0, 0, 0]),
        ("socket", libc::SYS_socket, [libc::AF_INET as usize, 1, 0, 0, 0, 0]),
        ("socket-unix", libc::SYS_socket, [libc::AF_UNIX as usize, 1, 0, 0, 0, 0]),
        ("socketpair", libc::SYS_socketpair, [libc::AF_UNIX as usize, 1, 0, 0, 0, 0]),
        ("sendmsg", libc::SYS_sendmsg, [0, 0, 0, 0, 0, 0]),
        ("fork", libc::SYS_fork, [0; 6]),
        ("vfork", libc::SYS_vfork, [0; 6]),
        ("clone", libc::SYS_clone, [0; 6]),
        ("clone3", libc::SYS_clone3, [0, 88, 0, 0, 0, 0]),
        ("execve", libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [0; 6]),
        ("kill-parent", libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
        ("tgkill", libc::SYS_tgkill, [1, 1, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0; 6]),
        ("bpf", libc::SYS_bpf, [0; 6]),
        ("keyctl", libc::SYS_keyctl, [0; 6]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 6]),
        ("memfd_create", libc::SYS_memfd_create, [path, 0, 0, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, [0; 6]),
        ("prctl", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0, 0]),
        ("setrlimit", libc::SYS_prlimit64, [0, libc::RLIMIT_AS as usize, 0, path, 0, 0]),
        ("ioctl", libc::SYS_ioctl, [fd, 0x5401, 0, 0, 0, 0]),
        ("mmap-exec", libc::SYS_mmap, [0, page, rwx, anonymous, usize::MAX, 0]),
        ("dup", libc::SYS_dup, [fd, 0, 0, 0, 0, 0]),
        ("inotify_init", libc::SYS_inotify_init1, [0; 6]),
    ];
    for (name, number, args) in raw {
        note(name, call(*number, *args));
    }
    socket.write_all(answer.as_bytes()).expect("answer");
}

/// A refusal by the sandbox, told apart from a port where nobody listens.
fn was_denied(error: io::Error) -> bool {
    error.kind() != io::ErrorKind::PermissionDenied
}
