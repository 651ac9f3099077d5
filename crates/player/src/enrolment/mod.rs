//! What ties this machine to a control server: who it is there, and what it is to have.
//!
//! ```text
//!   enrol ── a key is born here ─▶ Director: a code, once ─▶ enrolment.json ◀── Follower
//!                                                            │                 check_in: how it is
//!                                                            └── desired ────▶ follow: subscribes
//! ```
//! The server says which LivePCs this machine is to have. Whose signatures it believes about them
//! was settled when it enrolled ([`EnrolmentRecord::anchors`]), and the server has no say in it
//! after that. What is no longer assigned stays here: it is the user's, too.

mod director;
mod follow;
mod orders;

use std::collections::BTreeSet;

use goldleaf_api::Code;
use goldleaf_api::v1::{
    Desired, EndpointState, Enrolled, Enrolling, Order, OrderDone, Report, Step,
};
use goldleaf_client::Key;
use goldleaf_host::Lock;
use serde::{Deserialize, Serialize};

use crate::home::{read_record, step, write_record};
use crate::{Home, PlayerError};

pub use director::{Director, OverTls, Tie};
pub use follow::{Followed, Follower};

/// Format of the records that this program writes.
const FORMAT: u32 = 1;
const RECORD: &str = "enrolment.json";
const LOCK: &str = "enrolment.lock";

/// `enrolment.json`. There is a secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentRecord {
    /// Format of this record.
    pub format: u32,
    /// How the server is reached, and as whom.
    pub tie: Tie,
    /// Whose server it is.
    pub organisation: String,
    /// What people call this machine.
    pub name: String,
    /// The code with which it enrolled.
    pub code: Option<String>,
    /// Its id, once the server has answered.
    pub endpoint: Option<String>,
    /// Whether it is let in, as far as it knows.
    pub state: EndpointState,
    /// Unix time from which its certificate is renewed, in seconds.
    pub renew_at: Option<u64>,
    /// Roots of trust that it believes, of catalogs and of feeds.
    pub anchors: Vec<String>,
    /// Where it is in the chain by which copies of it are found out.
    pub step: Option<Step>,
    /// Whether the server knows that step.
    pub is_step_told: bool,
    /// What it is to have.
    pub desired: Desired,
    /// The tag of that.
    pub tag: Option<String>,
    /// Of that, what was subscribed to, with a desktop: what its user does with these later is left
    /// as it is.
    pub followed: BTreeSet<String>,
    /// What it last told of itself.
    pub told: Option<Report>,
    /// What it is to do, and what came of it, until the server has heard that.
    #[serde(default)]
    pub orders: Vec<Given>,
    /// Unix time of its last check-in, in seconds.
    pub checked_in_unix_secs: Option<u64>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// What is to be done.
    pub order: Order,
    /// What came of it; `None` while it waits.
    pub done: Option<OrderDone>,
}

/// How a machine enrols.
pub struct EnrolOptions {
    /// The server's address.
    pub server: String,
    /// The code that its administrator gave.
    pub code: Code,
    /// What people call this machine.
    pub name: String,
    /// A root of trust that came by another way than the server, if there is one: it is believed,
    /// and none that the server names.
    pub anchor: Option<String>,
}

/// Enrols this machine. Who was interrupted asks again, with the same code.
pub fn enrol(home: &Home, options: &EnrolOptions) -> Result<EnrolmentRecord, PlayerError> {
    let _lock = lock(home)?;
    let code = options.code.to_string();
    let begun = match record(home)? {
        Some(found) if found.code.as_deref() == Some(&code) => found,
        // Nobody ever answered: the code was too old, perhaps.
        Some(found) if found.endpoint.is_none() => begin(home, options, code)?,
        Some(found) => {
            let server = found.tie.server;
            return Err(PlayerError::Refused(format!("this machine is enrolled at {server}")));
        }
        None => begin(home, options, code)?,
    };
    let enrolling = Enrolling {
        code: begun.code.clone().unwrap_or_default(),
        csr: begun.tie.csr()?,
        name: begun.name.clone(),
    };
    let enrolled = home.director.enrol(&begun.tie, &enrolling)?;
    let mut record = begun;
    record.take(enrolled);
    if let Some(anchor) = &options.anchor {
        record.anchors = vec![anchor.clone()];
    }
    step("enrolment.enrolled", || write(home, &record))?;
    Ok(record)
}

/// Makes a key, and keeps it before anybody hears of it.
fn begin(
    home: &Home,
    options: &EnrolOptions,
    code: String,
) -> Result<EnrolmentRecord, PlayerError> {
    let authorities = home.director.meet(&options.server, &options.code)?;
    let record = EnrolmentRecord {
        format: FORMAT,
        tie: Tie {
            server: options.server.clone(),
            authorities: authorities.certificates,
            key: Key::new()?.pem(),
            certificate: None,
        },
        organisation: authorities.organisation,
        name: options.name.clone(),
        code: Some(code),
        endpoint: None,
        state: EndpointState::Pending,
        renew_at: None,
        anchors: Vec::new(),
        step: None,
        is_step_told: false,
        desired: Desired::default(),
        tag: None,
        followed: BTreeSet::new(),
        told: None,
        orders: Vec::new(),
        checked_in_unix_secs: None,
    };
    step("enrolment.begin", || write(home, &record))?;
    Ok(record)
}

/// Forgets the server. What it had assigned stays; whether there was one.
pub fn leave(home: &Home) -> Result<bool, PlayerError> {
    let _lock = lock(home)?;
    if record(home)?.is_none() {
        return Ok(false);
    }
    step("enrolment.leave", || {
        let gone = home.dir.remove(RECORD).and_then(|()| home.dir.sync());
        gone.map_err(PlayerError::io("forgetting an enrolment"))
    })?;
    Ok(true)
}

/// How this machine is enrolled; `None` where it is not.
pub fn record(home: &Home) -> Result<Option<EnrolmentRecord>, PlayerError> {
    read_record(home.dir.as_ref(), RECORD)
}

fn write(home: &Home, record: &EnrolmentRecord) -> Result<(), PlayerError> {
    write_record(home.dir.as_ref(), RECORD, record)
}

fn lock(home: &Home) -> Result<Box<dyn Lock>, PlayerError> {
    let lock = home.dir.try_lock(LOCK).map_err(PlayerError::io("locking the enrolment"))?;
    let busy = || PlayerError::Busy {
        kind: "enrolment",
        name: home.director.name(),
        detail: "another command, or the agent".into(),
    };
    lock.ok_or_else(busy)
}

impl EnrolmentRecord {
    /// Takes what the server says about its enrolment. What it believes is settled the first time.
    fn take(&mut self, enrolled: Enrolled) {
        if self.endpoint.is_none() {
            self.anchors = enrolled.anchors;
        }
        self.endpoint = Some(enrolled.endpoint);
        self.organisation = enrolled.organisation;
        self.state = enrolled.state;
        if enrolled.certificate.is_some() {
            self.tie.certificate = enrolled.certificate;
            self.renew_at = enrolled.renew_at;
        }
    }
}
