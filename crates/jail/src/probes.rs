//! What a captured parser would try, one attempt at a time, to prove that the jail denies it.
//!
//! Arguments are such that the attempt does no harm where nothing confines it, as far as that can
//! be; what would harm all the same is never tried [outside](Probe::outside). A refusal is EPERM or
//! EACCES, which the same attempt outside must not meet: so a wrong argument is no proof.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::JailError;

/// A thing to try.
pub struct Probe {
    /// What it is called in reports.
    pub name: &'static str,
    /// Whether it does no harm where nothing confines it.
    pub outside: bool,
    act: Act,
}

/// What a process that tries has around it.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// The process that started it.
    pub parent: u32,
    /// A descriptor that it was handed.
    pub fd: i32,
}

#[derive(Clone, Copy)]
enum Act {
    Call(libc::c_long, [Arg; 6]),
    /// A call that comes back twice.
    Twins(libc::c_long, [Arg; 6]),
    Open(&'static str),
    Special(fn() -> bool),
}

#[derive(Clone, Copy)]
enum Arg {
    N(usize),
    Text(&'static CStr),
    Words(&'static [u64; 8]),
    Parent,
    Fd,
}

use Arg::{Fd, N, Parent, Text, Words};

const NOWHERE: Arg = Text(c"/nowhere/goldleaf-probe");
const PASSWD: Arg = Text(c"/etc/passwd");
const TRUE: Arg = Text(c"/bin/true");
const CWD: Arg = N(libc::AT_FDCWD as usize);
const NONE: Arg = N(0);
const ALL: Arg = N(usize::MAX);
const PAGE: Arg = N(4096);
const ZEROES: Arg = Words(&[0; 8]);
const DATAGRAM: usize = libc::SOCK_DGRAM as usize;
const EXECUTABLE: usize = (libc::PROT_READ | libc::PROT_EXEC) as usize;
const ANONYMOUS: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;

/// A call that harms nobody, with up to six arguments.
const fn call<const COUNT: usize>(
    name: &'static str,
    number: libc::c_long,
    given: [Arg; COUNT],
) -> Probe {
    Probe { name, outside: true, act: Act::Call(number, padded(given)) }
}

/// A call to try in the jail only.
const fn inside<const COUNT: usize>(
    name: &'static str,
    number: libc::c_long,
    given: [Arg; COUNT],
) -> Probe {
    Probe { name, outside: false, act: Act::Call(number, padded(given)) }
}

const fn twins<const COUNT: usize>(
    name: &'static str,
    number: libc::c_long,
    given: [Arg; COUNT],
    outside: bool,
) -> Probe {
    Probe { name, outside, act: Act::Twins(number, padded(given)) }
}

const fn open(path: &'static str) -> Probe {
    Probe { name: path, outside: true, act: Act::Open(path) }
}

const fn padded<const COUNT: usize>(given: [Arg; COUNT]) -> [Arg; 6] {
    let mut all = [NONE; 6];
    let mut index = 0;
    while index < COUNT {
        all[index] = given[index];
        index += 1;
    }
    all
}

/// All that is tried.
pub fn all() -> impl Iterator<Item = &'static Probe> {
    [FILES, NETWORK, PROCESSES, KERNEL, OWN].into_iter().flatten()
}

/// Files by their paths, and descriptors out of nothing.
const FILES: &[Probe] = &[
    open("/etc/passwd"),
    open("/proc/self/mem"),
    open("/proc/1/environ"),
    open("/dev/zero"),
    open("/"),
    call("open", libc::SYS_open, [PASSWD]),
    call("openat", libc::SYS_openat, [CWD, PASSWD]),
    call("openat2", libc::SYS_openat2, [CWD, PASSWD, ZEROES, N(24)]),
    call("open_tree", libc::SYS_open_tree, [CWD, PASSWD]),
    inside("creat", libc::SYS_creat, [Text(c"/tmp/goldleaf-probe"), N(0o600)]),
    call("open_by_handle_at", libc::SYS_open_by_handle_at, [Fd, NONE]),
    call("name_to_handle_at", libc::SYS_name_to_handle_at, [CWD, PASSWD]),
    call("stat", libc::SYS_newfstatat, [CWD, PASSWD]),
    call("statx", libc::SYS_statx, [CWD, PASSWD]),
    call("access", libc::SYS_access, [PASSWD]),
    call("readlink", libc::SYS_readlink, [PASSWD]),
    call("getdents64", libc::SYS_getdents64, [Fd]),
    call("mknod", libc::SYS_mknod, [NOWHERE, N(0o600)]),
    call("mkdir", libc::SYS_mkdir, [NOWHERE, N(0o700)]),
    call("rmdir", libc::SYS_rmdir, [NOWHERE]),
    call("symlink", libc::SYS_symlink, [PASSWD, NOWHERE]),
    call("link", libc::SYS_link, [PASSWD, NOWHERE]),
    call("rename", libc::SYS_rename, [NOWHERE, NOWHERE]),
    call("unlink", libc::SYS_unlink, [NOWHERE]),
    call("chmod", libc::SYS_chmod, [NOWHERE, N(0o777)]),
    call("chown", libc::SYS_chown, [NOWHERE]),
    call("fchmod", libc::SYS_fchmod, [Fd, N(0o600)]),
    call("fchown", libc::SYS_fchown, [Fd, ALL, ALL]),
    call("truncate", libc::SYS_truncate, [NOWHERE]),
    call("utimensat", libc::SYS_utimensat, [CWD, NOWHERE]),
    call("setxattr", libc::SYS_setxattr, [NOWHERE, NOWHERE]),
    call("fsetxattr", libc::SYS_fsetxattr, [Fd, NOWHERE]),
    call("chdir", libc::SYS_chdir, [Text(c"/")]),
    call("chroot", libc::SYS_chroot, [Text(c"/")]),
    call("memfd_create", libc::SYS_memfd_create, [NOWHERE]),
    call("inotify_init1", libc::SYS_inotify_init1, []),
    call("fanotify_init", libc::SYS_fanotify_init, []),
    call("dup", libc::SYS_dup, [Fd]),
    call("pipe2", libc::SYS_pipe2, [NONE]),
    call("ioctl", libc::SYS_ioctl, [Fd, N(0x5401)]),
    call("fcntl", libc::SYS_fcntl, [Fd, N(libc::F_GETFL as usize)]),
    call("splice", libc::SYS_splice, [Fd, NONE, Fd]),
];

/// Other machines, and other processes through sockets.
const NETWORK: &[Probe] = &[
    call("socket-unix", libc::SYS_socket, [N(libc::AF_UNIX as usize), N(DATAGRAM)]),
    call("socket-inet", libc::SYS_socket, [N(libc::AF_INET as usize), N(DATAGRAM)]),
    call("socket-inet6", libc::SYS_socket, [N(libc::AF_INET6 as usize), N(DATAGRAM)]),
    call("socket-netlink", libc::SYS_socket, [N(libc::AF_NETLINK as usize), N(DATAGRAM)]),
    call("socket-packet", libc::SYS_socket, [N(libc::AF_PACKET as usize), N(DATAGRAM)]),
    call("socket-vsock", libc::SYS_socket, [N(libc::AF_VSOCK as usize), N(DATAGRAM)]),
    call("socketpair", libc::SYS_socketpair, [N(libc::AF_UNIX as usize), N(DATAGRAM)]),
    call("connect", libc::SYS_connect, [NONE]),
    call("bind", libc::SYS_bind, [NONE]),
    call("listen", libc::SYS_listen, [NONE]),
    call("accept4", libc::SYS_accept4, [Fd]),
    call("sendmsg", libc::SYS_sendmsg, [NONE]),
    call("sendto", libc::SYS_sendto, [Fd]),
    call("recvmsg", libc::SYS_recvmsg, [NONE]),
];

/// New processes, and those that are there.
const PROCESSES: &[Probe] = &[
    inside("execve", libc::SYS_execve, [TRUE, ZEROES, ZEROES]),
    inside("execveat", libc::SYS_execveat, [CWD, TRUE, ZEROES, ZEROES]),
    twins("fork", libc::SYS_fork, [], true),
    twins("vfork", libc::SYS_vfork, [], false),
    twins("clone", libc::SYS_clone, [N(libc::SIGCHLD as usize)], true),
    call("clone3", libc::SYS_clone3, [NONE, N(88)]),
    inside("ptrace-attach", libc::SYS_ptrace, [N(libc::PTRACE_ATTACH as usize), Parent]),
    call("ptrace-me", libc::SYS_ptrace, [NONE]),
    call("process_vm_readv", libc::SYS_process_vm_readv, [Parent]),
    call("process_vm_writev", libc::SYS_process_vm_writev, [Parent]),
    call("process_madvise", libc::SYS_process_madvise, [Fd]),
    call("kill", libc::SYS_kill, [Parent]),
    call("tkill", libc::SYS_tkill, [Parent]),
    call("tgkill", libc::SYS_tgkill, [Parent, Parent]),
    call("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, [Parent]),
    call("pidfd_open", libc::SYS_pidfd_open, [Parent]),
    call("pidfd_send_signal", libc::SYS_pidfd_send_signal, [Fd]),
    call("pidfd_getfd", libc::SYS_pidfd_getfd, [Fd]),
    call("kcmp", libc::SYS_kcmp, [Parent, Parent]),
    call("prlimit64", libc::SYS_prlimit64, [Parent]),
    call("setpriority", libc::SYS_setpriority, [NONE, NONE, N(1)]),
    call("sched_setaffinity", libc::SYS_sched_setaffinity, [Parent]),
    call("shmget", libc::SYS_shmget, [N(0x676C), NONE]),
    call("msgget", libc::SYS_msgget, [N(0x676C), NONE]),
    call("mq_open", libc::SYS_mq_open, [NOWHERE]),
];

/// The kernel's wider interfaces.
const KERNEL: &[Probe] = &[
    call("mount", libc::SYS_mount, [NOWHERE, NOWHERE, NOWHERE]),
    call("umount2", libc::SYS_umount2, [NOWHERE]),
    call("pivot_root", libc::SYS_pivot_root, [NOWHERE, NOWHERE]),
    call("fsopen", libc::SYS_fsopen, [NOWHERE]),
    call("move_mount", libc::SYS_move_mount, [CWD, NOWHERE, CWD, NOWHERE]),
    call("unshare-mounts", libc::SYS_unshare, [N(libc::CLONE_NEWNS as usize)]),
    call("unshare-user", libc::SYS_unshare, [N(libc::CLONE_NEWUSER as usize)]),
    call("setns", libc::SYS_setns, [Fd]),
    call("io_uring_setup", libc::SYS_io_uring_setup, [N(1)]),
    call("io_setup", libc::SYS_io_setup, [N(1)]),
    call("userfaultfd", libc::SYS_userfaultfd, []),
    call("bpf", libc::SYS_bpf, []),
    call("perf_event_open", libc::SYS_perf_event_open, []),
    call("keyctl", libc::SYS_keyctl, [NONE, N(-3_isize as usize)]),
    call("add_key", libc::SYS_add_key, []),
    call("request_key", libc::SYS_request_key, []),
    call("kexec_load", libc::SYS_kexec_load, [NONE, NONE, NONE, ALL]),
    call("init_module", libc::SYS_init_module, []),
    call("finit_module", libc::SYS_finit_module, [Fd]),
    call("delete_module", libc::SYS_delete_module, []),
    call("reboot", libc::SYS_reboot, []),
    call("swapon", libc::SYS_swapon, [NOWHERE]),
    call("swapoff", libc::SYS_swapoff, [NOWHERE]),
    call("sethostname", libc::SYS_sethostname, [NONE, ALL]),
    call("setdomainname", libc::SYS_setdomainname, [NONE, ALL]),
    call("settimeofday", libc::SYS_settimeofday, []),
    call("clock_settime", libc::SYS_clock_settime, []),
    call("quotactl", libc::SYS_quotactl, [ALL]),
    call("acct", libc::SYS_acct, [NOWHERE]),
    call("syslog", libc::SYS_syslog, [N(10)]),
    call("iopl", libc::SYS_iopl, [N(3)]),
    call("ioperm", libc::SYS_ioperm, [NONE, N(1), N(1)]),
    call("modify_ldt", libc::SYS_modify_ldt, []),
];

/// What the process itself is, and may be.
const OWN: &[Probe] = &[
    call("setuid", libc::SYS_setuid, []),
    call("setgid", libc::SYS_setgid, []),
    call("setresuid", libc::SYS_setresuid, []),
    call("setgroups", libc::SYS_setgroups, []),
    call("capset", libc::SYS_capset, []),
    call("personality", libc::SYS_personality, [N(0x4_0000)]),
    call("prctl-privs", libc::SYS_prctl, [N(libc::PR_SET_NO_NEW_PRIVS as usize)]),
    call("prctl-dumpable", libc::SYS_prctl, [N(libc::PR_SET_DUMPABLE as usize), N(1)]),
    call("prctl-pdeathsig", libc::SYS_prctl, [N(libc::PR_SET_PDEATHSIG as usize)]),
    call("seccomp", libc::SYS_seccomp, [N(1)]),
    call("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, [NONE, NONE, N(1)]),
    call("landlock_restrict_self", libc::SYS_landlock_restrict_self, [Fd]),
    call("setrlimit", libc::SYS_setrlimit, [N(libc::RLIMIT_CORE as usize), ZEROES]),
    call("sigaction", libc::SYS_rt_sigaction, [N(10), NONE, NONE, N(8)]),
    call(
        "mmap-exec",
        libc::SYS_mmap,
        [NONE, PAGE, N(EXECUTABLE), N(ANONYMOUS), N(usize::MAX), NONE],
    ),
    call(
        "mmap-exec-file",
        libc::SYS_mmap,
        [NONE, PAGE, N(EXECUTABLE), N(libc::MAP_PRIVATE as usize), Fd, NONE],
    ),
    call("mprotect-exec", libc::SYS_mprotect, [NONE, NONE, N(EXECUTABLE)]),
    call("pkey_mprotect", libc::SYS_pkey_mprotect, [NONE, NONE, N(EXECUTABLE), ALL]),
    call("x32-getpid", libc::SYS_getpid | 0x4000_0000, []),
    Probe { name: "thread", outside: true, act: Act::Special(thread) },
    #[cfg(target_arch = "x86_64")]
    Probe { name: "int80-getpid", outside: true, act: Act::Special(int80) },
];

impl Probe {
    /// Tries it; what the kernel answered: an error's number, or none. The process may not live on.
    pub fn run(&self, around: Surroundings) -> Option<i32> {
        match self.act {
            Act::Call(number, args) => number_of(raw(number, args, around)),
            Act::Twins(number, args) => {
                let result = raw(number, args, around);
                if result == 0 {
                    // SAFETY: ends this process, the new one, at once.
                    unsafe { libc::_exit(0) };
                }
                number_of(result)
            }
            Act::Open(path) => std::fs::File::open(path).err().and_then(|e| e.raw_os_error()),
            Act::Special(attempt) => (!attempt()).then_some(libc::EPERM),
        }
    }
}

/// Whether an answer of the kernel is the jail's.
pub fn is_denial(errno: i32) -> bool {
    matches!(errno, libc::EPERM | libc::EACCES)
}

fn number_of(result: libc::c_long) -> Option<i32> {
    (result < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

fn raw(number: libc::c_long, args: [Arg; 6], around: Surroundings) -> libc::c_long {
    let [a, b, c, d, e, f] = args.map(|arg| match arg {
        N(number) => number,
        Text(text) => text.as_ptr() as usize,
        Words(words) => words.as_ptr() as usize,
        Parent => around.parent as usize,
        Fd => around.fd as usize,
    });
    // SAFETY: pointers are null, or to constants that no call of the table writes to. What a call
    // that succeeds does to this process is of no matter: it ends right after.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

fn thread() -> bool {
    std::thread::Builder::new().spawn(|| ()).is_ok_and(|thread| thread.join().is_ok())
}

/// `getpid` through the door of 32-bit programs, whose calls have other numbers. The kernel may
/// have been built without it; then it is a fault.
#[cfg(target_arch = "x86_64")]
fn int80() -> bool {
    let mut result: i64 = 20;
    // SAFETY: the call takes no arguments and changes no memory.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inout("rax") result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result > 0
}

/// A part of the kernel that a jail needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Landlock.
    Landlock,
    /// Filters of system calls.
    Seccomp,
}

/// Makes the kernel look, to this process, as if it did not have a part.
pub fn take_away(part: Part) -> Result<(), JailError> {
    let calls: &[libc::c_long] = match part {
        Part::Landlock => &[libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self],
        Part::Seccomp => &[libc::SYS_seccomp, libc::SYS_prctl],
    };
    let rules: BTreeMap<i64, _> = calls.iter().map(|&call| (call, Vec::new())).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let unenforced = |error: seccompiler::BackendError| JailError::Unenforced(error.to_string());
    let target = std::env::consts::ARCH.try_into().map_err(unenforced)?;
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, unknown, target).map_err(unenforced)?;
    let program: BpfProgram = filter.try_into().map_err(unenforced)?;
    seccompiler::apply_filter(&program).map_err(|error| JailError::Unenforced(error.to_string()))
}
