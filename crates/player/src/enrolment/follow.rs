//! Checking in, and doing what the server said.

use goldleaf_api::v1::{
    AssignedLivePc, CheckingIn, ComingBack, EndpointState, LivePcReport, Renewing, Report, Step,
};
use goldleaf_feed::Location;
use goldleaf_host::{Lock, Progress};
use goldleaf_trust::introduce;

use super::{EnrolmentRecord, Given, lock, record, write};
use crate::feeds::{self, SubscribeOptions};
use crate::home::step;
use crate::{Home, PlayerError, desktop, sentence};

/// The version that is told.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// This machine, as it follows its server; nobody else does meanwhile.
pub struct Follower {
    /// How it is enrolled.
    pub record: EnrolmentRecord,
    _lock: Box<dyn Lock>,
}

impl Follower {
    /// Begins to follow; `None` where this machine is not enrolled.
    pub fn open(home: &Home) -> Result<Option<Self>, PlayerError> {
        if record(home)?.is_none() {
            return Ok(None);
        }
        let lock = lock(home)?;
        Ok(record(home)?.map(|record| Self { record, _lock: lock }))
    }

    /// Steps on in the chain by which copies are found out, unless the last step is still to be
    /// told.
    pub fn step_on(&mut self, home: &Home) -> Result<Step, PlayerError> {
        if let Some(step) = self.record.step.clone().filter(|_| !self.record.is_step_told) {
            return Ok(step);
        }
        let mut drawn = [0; 16];
        home.entropy.fill(&mut drawn).map_err(PlayerError::io("drawing a step"))?;
        let now: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
        let before = self.record.step.take().map(|step| step.now);
        let next = Step { before, now };
        self.record.step = Some(next.clone());
        self.record.is_step_told = false;
        // Kept before it is told: what is told is known here, whatever happens.
        step("enrolment.step", || write(home, &self.record))?;
        Ok(next)
    }

    /// Checks in: gets a certificate where one is due, says how this machine is, learns what it is
    /// to have. Returns in how many seconds to do it again; `None` while it is not let in.
    pub fn check_in(&mut self, home: &Home) -> Result<Option<u64>, PlayerError> {
        self.keep_certificate(home)?;
        if self.record.tie.certificate.is_none() || self.record.state != EndpointState::Active {
            return Ok(None);
        }
        let place = match self.record.step.clone() {
            Some(step) => step,
            None => self.step_on(home)?,
        };
        let report = self.report(home);
        let is_news = self.record.told.as_ref() != Some(&report);
        let request = CheckingIn {
            step: place,
            known: self.record.tag.clone(),
            report: is_news.then(|| report.clone()),
            done: self.record.orders.iter().filter_map(|given| given.done.clone()).collect(),
        };
        let checked_in = home.director.check_in(&self.record.tie, &request)?;
        self.record.told = Some(report);
        self.record.is_step_told = true;
        self.record.tag = Some(checked_in.tag);
        if let Some(desired) = checked_in.desired {
            self.record.desired = desired;
        }
        // What it told is heard.
        self.record.orders.retain(|given| given.done.is_none());
        for order in checked_in.orders {
            if !self.record.orders.iter().any(|given| given.order.id == order.id) {
                self.record.orders.push(Given { order, done: None });
            }
        }
        self.record.checked_in_unix_secs = Some(home.now_unix_secs());
        step("enrolment.checked-in", || write(home, &self.record))?;
        Ok(Some(checked_in.again_secs))
    }

    /// Gets a certificate where there is none, or where it is time for the next.
    fn keep_certificate(&mut self, home: &Home) -> Result<(), PlayerError> {
        let now = home.now_unix_secs();
        let is_due = self.record.renew_at.is_none_or(|at| at <= now);
        let Some(endpoint) = self.record.endpoint.clone().filter(|_| is_due) else { return Ok(()) };
        let (tie, csr) = (&self.record.tie, self.record.tie.csr()?);
        let renewed = match tie.certificate {
            Some(_) => home.director.renew(tie, &Renewing { csr: csr.clone() }),
            None => home
                .director
                .come_back(tie, &ComingBack { endpoint: endpoint.clone(), csr: csr.clone() }),
        };
        // One that has expired is good for nothing; the key is what this machine is known by.
        let enrolled = match renewed {
            Err(error) if error.code().is_none() => {
                home.director.come_back(tie, &ComingBack { endpoint, csr })?
            }
            other => other?,
        };
        let (had_one, before) = (tie.certificate.is_some(), self.record.clone());
        self.record.take(enrolled);
        if self.record == before {
            return Ok(());
        }
        step("enrolment.certificate", || write(home, &self.record))?;
        if had_one {
            self.step_on(home)?;
        }
        Ok(())
    }

    /// How this machine is.
    fn report(&self, home: &Home) -> Report {
        let livepcs = self.record.desired.livepcs.iter().map(|livepc| report_of(home, livepc));
        Report { program: PROGRAM.into(), livepcs: livepcs.collect() }
    }

    /// Subscribes to what is assigned and not here, and makes a desktop of each. One that fails
    /// does not keep the others. Returns what was subscribed to, and what failed why.
    pub fn follow(&mut self, home: &Home, progress: &dyn Progress) -> Followed {
        let mut followed = Followed::default();
        for livepc in self.record.desired.livepcs.clone() {
            if self.record.followed.contains(&livepc.livepc) {
                continue;
            }
            match self.follow_one(home, &livepc, progress) {
                Ok(()) => followed.subscribed.push(livepc.livepc.clone()),
                Err(error) => followed.failed.push((livepc.livepc, sentence(&error))),
            }
        }
        followed
    }

    /// Who was interrupted does again what was not done.
    fn follow_one(
        &mut self,
        home: &Home,
        livepc: &AssignedLivePc,
        progress: &dyn Progress,
    ) -> Result<(), PlayerError> {
        let name = &livepc.livepc;
        if !feeds::list(home)?.iter().any(|record| record.name == *name) {
            let location = Location::parse(&livepc.location).ok_or_else(|| {
                PlayerError::Refused(format!("{} is not where a feed is", livepc.location))
            })?;
            let root = Some(self.root(home, &location)?);
            let mirrors = livepc.mirrors.clone();
            let options = SubscribeOptions { location, mirrors, name: name.clone(), root };
            feeds::subscribe(home, &options, progress)?;
        }
        match desktop::peek(home, name) {
            Err(PlayerError::Unknown { .. }) => {
                desktop::create(home, name, name)?;
            }
            other => {
                other?;
            }
        }
        self.record.followed.insert(name.clone());
        step("enrolment.followed", || write(home, &self.record))
    }

    /// The root of trust of a feed, as one of the anchors has it: its own, or by a catalog.
    fn root(&self, home: &Home, location: &Location) -> Result<Vec<u8>, PlayerError> {
        let feed = format!("{}/{}", location.feed, location.channel);
        let mut failed = None;
        for anchor in &self.record.anchors {
            let root = anchor.as_bytes().to_vec();
            if introduce(&root)?.0.feed == feed {
                return Ok(root);
            }
            match feeds::root_by_catalog(home, location, root) {
                Ok(root) => return Ok(root),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            PlayerError::Refused(format!("nobody whom this machine believes vouches for {feed}"))
        }))
    }
}

/// What came of following.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// What was subscribed to.
    pub subscribed: Vec<String>,
    /// What failed, and why.
    pub failed: Vec<(String, String)>,
}

fn report_of(home: &Home, livepc: &AssignedLivePc) -> LivePcReport {
    let name = &livepc.livepc;
    let state = || -> Result<(Option<u64>, bool), PlayerError> {
        let is_followed = feeds::list(home)?.iter().any(|record| record.name == *name);
        if !is_followed {
            return Ok((None, false));
        }
        let version = feeds::current(home, name)?;
        let image = home.images_here()?.open(name, None)?;
        let is_whole = image.published().iter().all(|data| data.arrived() == data.wanted());
        Ok((version, is_whole))
    };
    let (found, error) = match state() {
        Ok(found) => (found, None),
        Err(error) => ((None, false), Some(sentence(&error))),
    };
    LivePcReport { livepc: name.clone(), version: found.0, is_whole: found.1, error }
}
