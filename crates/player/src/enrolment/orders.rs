//! Doing what the server ordered. Whoever is killed meanwhile does it again: done twice, each of it
//! comes to the same.

use goldleaf_api::v1::{Action, OrderDone};

use super::{Follower, write};
use crate::error::sentence;
use crate::home::step;
use crate::{Home, PlayerError, desktop};

impl Follower {
    /// Does what is ordered and can be done now; `update` looks what is new of all that is
    /// followed. Returns whether there is something to tell the server. A desktop that runs is not
    /// disturbed: what concerns it waits.
    pub fn carry_out(
        &mut self,
        home: &Home,
        update: &dyn Fn() -> Result<(), PlayerError>,
    ) -> Result<bool, PlayerError> {
        let mut has_done = false;
        for at in 0..self.record.orders.len() {
            let given = &self.record.orders[at];
            if given.done.is_some() {
                continue;
            }
            let error = match act(home, &given.order.action, update) {
                Err(PlayerError::Busy { .. }) => continue,
                Err(error) => Some(sentence(&error)),
                Ok(()) => None,
            };
            let id = given.order.id;
            self.record.orders[at].done = Some(OrderDone { id, error });
            step("enrolment.order", || write(home, &self.record))?;
            has_done = true;
        }
        Ok(has_done)
    }
}

fn act(
    home: &Home,
    action: &Action,
    update: &dyn Fn() -> Result<(), PlayerError>,
) -> Result<(), PlayerError> {
    match action {
        Action::Update {} => update(),
        Action::Rejuvenate { desktop, apps } => {
            desktop::rejuvenate(home, desktop, *apps, false).map(drop)
        }
        Action::RollBack { desktop, layer, to } => {
            desktop::rollback(home, desktop, layer, *to, false).map(drop)
        }
    }
}
