//! From a callback to the ring: which outputs take the record, and what becomes of a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use agave_geyser_plugin_interface::geyser_plugin_interface::ReplicaAccountInfoV3;
use event_schema::Kind;

use crate::{
    counters::LossReason,
    encode,
    filter::{DataSlices, Filter},
    instance::Instance,
    observation::{Fact, Front, Outputs},
};

/// A panic outside of encoding: nothing of the record is known, so the slot's own lane states the loss.
#[inline]
pub(super) fn contain(instance: &Instance, kind: Kind, slot: u64, body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        instance.counters.panics.add(1);
        instance.counters.lost_one(LossReason::Panic, kind);
        if !kind.is_beside_blocks() {
            let lanes = instance.handoff.outputs()[0];
            instance.handoff.losses.add(slot, lanes.of_slot(slot), kind);
        }
    }
}

/// The validator passed something this interface version does not.
#[cold]
pub(super) fn unreadable(instance: &Instance, slot: u64, fact: Fact) {
    let front = Front {
        slot,
        fact,
        recorded: Outputs::first(1),
        seen: Outputs::first(1),
        key: &slot.to_be_bytes(),
    };
    instance.handoff.lose(&front, LossReason::Unreadable);
}

/// The outputs whose filters say yes.
#[inline]
pub(super) fn takers(filters: &[Filter], takes: impl Fn(&Filter) -> bool) -> Outputs {
    let mut takers = Outputs::default();
    for (output, filter) in filters.iter().enumerate() {
        if takes(filter) {
            takers.0 |= 1 << output;
        }
    }
    takers
}

/// Hands over what some outputs record and the others take note of.
#[inline]
pub(super) fn hand_over(
    instance: &Instance,
    slot: u64,
    fact: Fact,
    key: &[u8],
    recorded: Outputs,
    most: impl FnOnce() -> usize,
    encode: impl FnOnce(&mut encode::Out<'_>),
) {
    let seen = instance.handoff.all();
    let front = Front {
        slot,
        fact,
        recorded,
        seen,
        key,
    };
    if recorded.is_none() {
        instance.counters.filtered();
        instance.handoff.offer(front, 0, |_| {});
        return;
    }
    if recorded.count() > 1 {
        instance.counters.copies.add(recorded.count() as u64 - 1);
    }
    instance.handoff.offer(front, most(), encode);
}

/// As [`hand_over`], of what no block holds: nobody else takes note of it.
#[inline]
pub(super) fn hand_over_beside(
    instance: &Instance,
    slot: u64,
    fact: Fact,
    key: &[u8],
    recorded: Outputs,
    most: impl FnOnce() -> usize,
    encode: impl FnOnce(&mut encode::Out<'_>),
) {
    if recorded.is_none() {
        instance.counters.filtered();
        return;
    }
    if recorded.count() > 1 {
        instance.counters.copies.add(recorded.count() as u64 - 1);
    }
    let front = Front {
        slot,
        fact,
        recorded,
        seen: recorded,
        key,
    };
    instance.handoff.offer(front, most(), encode);
}

/// As [`hand_over`], with the account's data cut as each output wants it. Outputs that do not record an account need not
/// know of it.
#[inline]
pub(super) fn hand_over_account(
    instance: &Instance,
    slot: u64,
    fact: Fact,
    filters: &[Filter],
    recorded: Outputs,
    account: &ReplicaAccountInfoV3<'_>,
) {
    if recorded.is_none() {
        instance.counters.filtered();
        return;
    }
    if recorded.count() > 1 {
        instance.counters.copies.add(recorded.count() as u64 - 1);
    }
    let offer = |recorded: Outputs, slices: &DataSlices| {
        let front = Front {
            slot,
            fact,
            recorded,
            seen: recorded,
            key: account.pubkey,
        };
        instance
            .handoff
            .offer(front, encode::account_most(account), |out| {
                encode::account(out, slot, fact == Fact::StartupAccount, account, slices);
            });
    };
    let whole = takers(filters, |filter| filter.data_slices().is_whole());
    let whole = Outputs(recorded.0 & whole.0);
    if !whole.is_none() {
        offer(whole, &DataSlices::default());
    }
    for output in Outputs(recorded.0 & !whole.0).iter() {
        offer(Outputs(1 << output), filters[output].data_slices());
    }
}
