//! Keeps the slot and the leader schedule fresh, by timers. Its readers see the newest value; a validator that does not
//! answer leaves them the last one, and the readiness part `leaders` says so.

use std::{sync::Arc, time::Duration};

use event_schema::Slot;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    schedule::{SLOTS_PER_WINDOW, Schedule, window_of, window_start},
    validator::{AskError, Validator},
};

/// Slots of schedule fetched at once: 200 s at 200 ms a slot.
const SLOTS_FETCHED: u64 = 1000;
/// Fetch again when fewer windows than this lie ahead.
const WINDOWS_AHEAD_MIN: u64 = 64;

/// Least time between two fetches of the schedule when it runs out or could not be had.
const SCHEDULE_RETRY: Duration = Duration::from_secs(1);

/// What the timers found.
#[derive(Debug, Clone, Default)]
pub struct LeaderView {
    /// The validator's slot; `None` before its first answer.
    pub slot: Option<Slot>,
    pub schedule: Arc<Schedule>,
    /// Height of its finalized tip.
    pub finalized_height: Option<u64>,
}

/// How often to ask.
#[derive(Debug, Clone, Copy)]
pub struct Refresh {
    pub slot: Duration,
    pub schedule: Duration,
}

/// Asks until cancelled. `fresh` is told whether the view is.
pub async fn follow(
    validator: Validator,
    refresh: Refresh,
    view: watch::Sender<LeaderView>,
    fresh: impl Fn(bool) + Send,
) -> anyhow::Result<()> {
    let mut slots = interval(refresh.slot);
    slots.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut schedule_asked: Option<Instant> = None;
    let mut answering = true;
    loop {
        slots.tick().await;
        let mut answer = ask_slot(&validator, &view).await;
        let due = schedule_asked.is_none_or(|at| {
            at.elapsed() >= refresh.schedule
                || (at.elapsed() >= SCHEDULE_RETRY && runs_out(&view.borrow()))
        });
        if answer.is_ok() && due {
            schedule_asked = Some(Instant::now());
            answer = ask_schedule(&validator, &view).await;
        }
        fresh(answer.is_ok() && view.borrow().schedule.reachable() > 0);
        // Once per change, not per tick.
        match &answer {
            Err(error) if answering => {
                tracing::warn!(%error, "sending to the last known leaders until it answers");
            }
            Ok(()) if !answering => tracing::info!("the validator answers again"),
            _ => {}
        }
        answering = answer.is_ok();
    }
}

async fn ask_slot(validator: &Validator, view: &watch::Sender<LeaderView>) -> Result<(), AskError> {
    let slot = validator.slot().await?;
    view.send_if_modified(|view| {
        let newer = view.slot < Some(slot);
        if newer {
            view.slot = Some(slot);
        }
        newer
    });
    Ok(())
}

fn runs_out(view: &LeaderView) -> bool {
    view.slot
        .is_some_and(|slot| view.schedule.windows_ahead(window_of(slot)) < WINDOWS_AHEAD_MIN)
}

async fn ask_schedule(
    validator: &Validator,
    view: &watch::Sender<LeaderView>,
) -> Result<(), AskError> {
    let addresses = validator.tpu_addresses().await?;
    let finalized = validator.epoch("finalized").await?;
    let epoch = validator.epoch("processed").await?;
    let first_window = window_of(Slot(epoch.absolute_slot));
    let first = window_start(first_window);
    let leaders = match validator.slot_leaders(first, SLOTS_FETCHED).await {
        Ok(leaders) => leaders,
        // Near the end of an epoch whose successor is not decided yet: what is left of this one.
        Err(AskError::Refused { .. }) => {
            let begun = epoch.slot_index - epoch.slot_index % SLOTS_PER_WINDOW;
            let left = epoch.slots_in_epoch.saturating_sub(begun);
            validator
                .slot_leaders(first, left.min(SLOTS_FETCHED))
                .await?
        }
        Err(error) => return Err(error),
    };
    let schedule = Arc::new(Schedule::new(first_window, &leaders, addresses));
    view.send_modify(|view| {
        view.schedule = schedule;
        view.finalized_height = view.finalized_height.max(Some(finalized.block_height));
    });
    Ok(())
}
