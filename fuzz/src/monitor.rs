//! The hypervisor's monitor, when a guest has taken the hypervisor over.
//!
//! ```text
//!   input:  whether it begins in order, 1 │ all that it says
//! ```

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use goldleaf_vm::{Qmp, VmError};

use crate::input::Input;

const IN_ORDER: &[u8] = b"{\"QMP\":{\"version\":{}}}\n{\"return\":{},\"id\":1}\n";
/// The far side has ended: nobody waits this long but one who hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest complaint, in characters: what is quoted in it is quoted in part.
const COMPLAINT_MAX: usize = 1200;

/// Everything it says at once, to the commands that are sent meanwhile.
pub fn said(data: &[u8]) {
    let mut input = Input(data);
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    if input.byte() & 1 == 0 {
        far.write_all(IN_ORDER).expect("sent");
    }
    far.write_all(input.0).expect("sent");
    far.shutdown(Shutdown::Write).expect("the end");
    let (qmp, events) = match Qmp::connect(near, PATIENCE) {
        Ok(connected) => connected,
        Err(error) => return complain(&error),
    };
    let answers = [
        qmp.query_status().map(drop),
        qmp.query_kvm().map(drop),
        qmp.query_name().map(drop),
        qmp.query_cpus().map(drop),
        qmp.query_block_nodes().map(drop),
    ];
    answers.iter().filter_map(|answer| answer.as_ref().err()).for_each(complain);
    let lines = input.0.iter().filter(|&&byte| byte == b'\n').count();
    let heard = std::iter::from_fn(|| events.next(PATIENCE).ok().flatten()).count();
    assert!(heard <= lines, "{heard} events in {lines} lines");
}

fn complain(error: &VmError) {
    assert!(!matches!(error, VmError::NoAnswer { .. }), "the end was not seen");
    assert!(error.to_string().chars().count() <= COMPLAINT_MAX, "{error}");
}
