//! The child's side: locking the door from within.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::JailError;

/// System calls that the worker needs: reading and writing what it was handed, memory, and its end.
/// No call here takes a path, makes a descriptor, or reaches another process.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a tool's jail forbids on top of Landlock: the network, other processes, the kernel's
/// wider interfaces.
const TOOL_DENIED: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_ptrace,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_perf_event_open,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_reboot,
    libc::SYS_open_by_handle_at,
];

/// Locks this process in for good: no paths, no ports, no calls but the few it needs.
pub fn enter() -> Result<(), JailError> {
    let ruleset = base_ruleset()?;
    restrict(ruleset)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    // Memory may never become executable.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let executable = libc::PROT_EXEC as u64;
        rules.insert(call, vec![only(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    // An abort is a signal to oneself.
    let own = only(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?;
    rules.insert(libc::SYS_tgkill, vec![own]);
    let_faults_end_us();
    apply(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

/// Locks this process in before it executes a system program that may write to `writable` only.
pub fn enter_for_tool(writable: &[BorrowedFd<'_>]) -> Result<(), JailError> {
    let mut ruleset = base_ruleset()?;
    let read = AccessFs::from_read(ABI::V1);
    for path in ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc"] {
        if let Ok(directory) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(directory, read)).map_err(unenforced)?;
        }
    }
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    for fd in writable {
        ruleset = ruleset.add_rule(PathBeneath::new(fd, write)).map_err(unenforced)?;
    }
    restrict(ruleset)?;
    let rules = TOOL_DENIED.iter().map(|&call| (call, Vec::new())).collect();
    apply(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))
}

fn base_ruleset() -> Result<RulesetCreated, JailError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(unenforced)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .map_err(unenforced)?
        .handle_access(AccessNet::from_all(ABI::V5))
        .map_err(unenforced)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
        .map_err(unenforced)?
        .create()
        .map_err(unenforced)
}

fn restrict(ruleset: RulesetCreated) -> Result<(), JailError> {
    // restrict_self sets no_new_privs too.
    let status = ruleset.restrict_self().map_err(unenforced)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(JailError::Unenforced("Landlock is off".into()));
    }
    Ok(())
}

/// Lets a call through by one of its arguments.
fn only(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, JailError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
    SeccompRule::new(vec![condition.map_err(unenforced)?]).map_err(unenforced)
}

/// Takes the standard library's handlers of faults away: they end with a system call that the jail
/// denies, so that a fault would come again and again until processor time is up.
fn let_faults_end_us() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action, set before any other thread is there.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn apply(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<(), JailError> {
    let target = std::env::consts::ARCH.try_into().map_err(unenforced)?;
    let filter = SeccompFilter::new(rules, otherwise, on_match, target).map_err(unenforced)?;
    let program: BpfProgram = filter.try_into().map_err(unenforced)?;
    seccompiler::apply_filter(&program).map_err(unenforced)
}

fn unenforced(error: impl std::fmt::Display) -> JailError {
    JailError::Unenforced(error.to_string())
}
