//! A plugin whose callbacks do nothing but read the clock, for as long as a callback of their kind is promised to take. What
//! such a callback takes beyond that, the scheduler took: a column to read the others' p99 and maximum against, which an
//! empty callback, too short to be interrupted as often, cannot be.

use std::{
    hint,
    time::{Duration, Instant},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    GeyserPlugin, ReplicaAccountInfoVersions, ReplicaBlockInfoVersions, ReplicaEntryInfoVersions,
    ReplicaTransactionInfoVersions, Result, SlotStatus,
};

/// See the module.
#[derive(Debug)]
pub struct ClockPlugin;

const SHORT: Duration = Duration::from_nanos(150);
const VOTE: Duration = Duration::from_nanos(700);
const NON_VOTE: Duration = Duration::from_nanos(2_500);

fn read_for(length: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < length {
        hint::spin_loop();
    }
    Ok(())
}

impl GeyserPlugin for ClockPlugin {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn update_account(&self, _: ReplicaAccountInfoVersions, _: u64, _: bool) -> Result<()> {
        read_for(SHORT)
    }

    fn update_slot_status(&self, _: u64, _: Option<u64>, _: &SlotStatus) -> Result<()> {
        read_for(SHORT)
    }

    fn notify_transaction(&self, info: ReplicaTransactionInfoVersions, _: u64) -> Result<()> {
        match info {
            ReplicaTransactionInfoVersions::V0_0_3(info) if info.is_vote => read_for(VOTE),
            _ => read_for(NON_VOTE),
        }
    }

    fn notify_entry(&self, _: ReplicaEntryInfoVersions) -> Result<()> {
        read_for(SHORT)
    }

    fn notify_block_metadata(&self, _: ReplicaBlockInfoVersions) -> Result<()> {
        read_for(NON_VOTE)
    }

    fn transaction_notifications_enabled(&self) -> bool {
        true
    }

    fn entry_notifications_enabled(&self) -> bool {
        true
    }
}
