//! Blocks of any shape, as the facts that the ledger sees.

use super::*;

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) accounts: u8,
    pub(super) transactions: u8,
    pub(super) entries: u8,
    /// A block the validator led itself: its metadata counts no entries.
    pub(super) led: bool,
    pub(super) dead: bool,
    pub(super) late_accounts: u8,
    /// Deshredded transactions and contact info, before, among and after the rest.
    pub(super) beside: u8,
}

pub(super) fn plan() -> impl Strategy<Value = Plan> {
    (
        0..6_u8,
        0..6_u8,
        1..5_u8,
        any::<bool>(),
        proptest::bool::weighted(0.1),
        0..3_u8,
        0..5_u8,
    )
        .prop_map(
            |(accounts, transactions, entries, led, dead, late_accounts, beside)| Plan {
                accounts,
                transactions,
                entries,
                led,
                dead,
                late_accounts,
                beside,
            },
        )
}

pub(super) fn beside(slot: u64, plan: &Plan) -> impl Iterator<Item = (u64, Lane, Fact)> {
    let facts = (0..plan.beside).map(move |i| {
        let key = [i, slot as u8, 9];
        [
            (slot, LANES.of_transaction(&key), Fact::Deshred),
            (0, LANES.of_node(&key), Fact::ContactInfo),
        ]
    });
    facts.flatten()
}

pub(super) fn hash(slot: u64, index: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&slot.to_le_bytes());
    hash[8..16].copy_from_slice(&(index + 1).to_le_bytes());
    hash
}

pub(super) fn block_facts(slot: u64, plan: &Plan) -> Vec<(Lane, Fact)> {
    let slots = LANES.of_slot(slot);
    let entries = u64::from(plan.entries);
    let mut facts = Vec::new();
    facts.extend((0..plan.accounts).map(|i| (LANES.of_account(&[i, slot as u8]), Fact::Account)));
    facts.extend(
        (0..plan.transactions)
            .map(|i| (LANES.of_transaction(&[i, slot as u8, 9]), Fact::Transaction)),
    );
    facts.extend((0..entries).map(|index| {
        (
            slots,
            Fact::Entry {
                index,
                hash: hash(slot, index),
            },
        )
    }));
    facts.push((
        slots,
        Fact::Block {
            blockhash: hash(slot, entries - 1),
            transactions: plan.transactions.into(),
            entries: if plan.led { 0 } else { entries },
        },
    ));
    facts
}

pub(super) fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for i in (1..items.len()).rev() {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        items.swap(i, (*seed >> 33) as usize % (i + 1));
    }
}
