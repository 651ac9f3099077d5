//! A version that has arrived beside the one that runs, from the moment in which it is to be the one
//! until its disk is there: the durable move and the composition, which a start waits for.

use std::fs;
use std::ops::ControlFlow;

use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::Silent;
use goldleaf_player::desktop::{self, Desktop, Live};
use goldleaf_player::feeds::{self, Arrival, Subscription};

use super::ground::{Ground, V1, V2};
use super::offering::Offering;
use super::publishing::Made;
use crate::Result;
use crate::ground::open_home;
use crate::timing::time;

/// Name of the feed and of all that comes of it.
const FEED: &str = "updated";

/// Measures, with versions as they were published into a feed.
pub fn run(ground: &Ground, feed: &str, made: &[Made], table: &mut Table) -> Result<()> {
    eprintln!("starting on a version that has arrived");
    let feed = ground.place.join(feed);
    let (place, mut offering) = (ground.fresh(FEED)?, Offering::begin(ground, &feed, FEED)?);
    let home = open_home(&place)?;
    offering.offer(V1, &made[0], None)?;
    let options = offering.followed(feed.to_str().ok_or("not text")?.into());
    let (subscription, _, arrival) = feeds::subscribe(&home, &options, &Silent)?;
    drop(subscription);
    bring(&arrival)?;
    desktop::create(&home, FEED, FEED)?;
    offering.offer(V2, &made[1], None)?;
    let mut subscription = Subscription::open(&home, FEED)?;
    let wanted = subscription.refresh(&home)?;
    let arrival = subscription.take(&home, &wanted, &Silent)?;
    bring(&arrival)?;
    let (live, took) = time(|| {
        arrival.adopt(&home)?;
        let mut desktop = Desktop::open(&home, FEED)?;
        Ok(Live::begin(&home, &mut desktop, &Silent)?)
    })?;
    drop(live);
    table.push(Row::new("update.apply_s", took.wall_s, "s").bar(Bar::AtMost(2.0)));
    Ok(fs::remove_dir_all(place)?)
}

/// All of it is here when it starts.
fn bring(arrival: &Arrival) -> Result<()> {
    match arrival.fill(&|_| ControlFlow::Continue(()))? {
        true => Ok(()),
        false => Err("not all has arrived".into()),
    }
}
