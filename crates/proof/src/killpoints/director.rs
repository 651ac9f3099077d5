//! A control server that remembers one thing: where each endpoint is in its chain of steps. It lets
//! an endpoint in at its second question, and gives it a certificate that is soon to be renewed.

use std::fs;
use std::path::PathBuf;

use goldleaf_api::v1::{
    Action, AssignedLivePc, Authorities, CheckedIn, CheckingIn, ComingBack, Desired, EndpointState,
    Enrolled, Enrolling, News, Order, Renewing,
};
use goldleaf_api::{Code, Problem};
use goldleaf_client::ClientError;
use goldleaf_player::enrolment::{Director, Tie};

/// What is desired, by its tag.
const TAG: &str = "one";
/// The number of what is ordered.
const ORDER: u64 = 1;

/// The server.
pub struct StandIn {
    /// Where it remembers.
    pub memory: PathBuf,
    /// What everybody is to have.
    pub livepc: AssignedLivePc,
    /// Whom everybody is to believe.
    pub anchor: String,
}

impl StandIn {
    /// Where it is written how far an endpoint stepped.
    fn place(&self, tie: &Tie) -> PathBuf {
        self.memory.join(format!("director-{}", self.enrolled(tie, None).endpoint))
    }

    fn enrolled(&self, tie: &Tie, certificate: Option<(&str, u64)>) -> Enrolled {
        Enrolled {
            endpoint: format!("{:08x}", crc32c::crc32c(tie.key.as_bytes())),
            organisation: "acme".into(),
            state: certificate.map_or(EndpointState::Pending, |_| EndpointState::Active),
            certificate: certificate.map(|(certificate, _)| certificate.into()),
            renew_at: certificate.map(|(_, renew_at)| renew_at),
            authorities: Vec::new(),
            anchors: vec![self.anchor.clone()],
        }
    }
}

fn refused(message: impl ToString) -> ClientError {
    let Problem { code, message } =
        Problem { code: "not-admitted".into(), message: message.to_string() };
    ClientError::Refused { code, message }
}

impl Director for StandIn {
    fn name(&self) -> String {
        "stand-in".into()
    }

    fn meet(&self, _: &str, _: &Code) -> Result<Authorities, ClientError> {
        Ok(Authorities { organisation: "acme".into(), certificates: Vec::new() })
    }

    fn enrol(&self, tie: &Tie, _: &Enrolling) -> Result<Enrolled, ClientError> {
        let is_let_in = self.place(tie).exists();
        Ok(self.enrolled(tie, is_let_in.then_some(("the first", 0))))
    }

    fn come_back(&self, tie: &Tie, _: &ComingBack) -> Result<Enrolled, ClientError> {
        Ok(self.enrolled(tie, Some(("the first", 0))))
    }

    fn renew(&self, tie: &Tie, _: &Renewing) -> Result<Enrolled, ClientError> {
        Ok(self.enrolled(tie, Some(("the second", u64::MAX))))
    }

    /// Two of one endpoint, or one that went back, would be found out here.
    fn check_in(&self, tie: &Tie, request: &CheckingIn) -> Result<CheckedIn, ClientError> {
        let path = self.place(tie);
        let was = fs::read_to_string(&path).ok();
        let step = &request.step;
        if was.as_ref() != Some(&step.now) {
            if was != step.before {
                return Err(refused(format!("a step from {:?}, not from {was:?}", step.before)));
            }
            let new = path.with_extension("new");
            fs::write(&new, &step.now).and_then(|()| fs::rename(&new, &path)).map_err(refused)?;
        }
        let is_known = request.known.as_deref() == Some(TAG);
        let desired = Desired { livepcs: vec![self.livepc.clone()] };
        let desired = (!is_known).then_some(desired);
        // One order, until it is told that it was done.
        let told = path.with_extension("done");
        if request.done.iter().any(|done| done.id == ORDER && done.error.is_none()) {
            fs::write(&told, "").map_err(refused)?;
        }
        let order = Order { id: ORDER, action: Action::Update {} };
        let orders = if told.exists() { Vec::new() } else { vec![order] };
        Ok(CheckedIn { desired, tag: TAG.into(), orders, again_secs: 60 })
    }

    fn news(&self, _: &Tie) -> Result<News, ClientError> {
        Ok(News { is_there: false })
    }
}
