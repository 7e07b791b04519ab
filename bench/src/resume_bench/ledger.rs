//! Pure: which events were due to a subscriber, and which came, how often.

use std::collections::{HashMap, HashSet};

use event_schema::{
    Slot,
    proto::geyser::{
        SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateBlock,
        subscribe_update::UpdateOneof,
    },
};
use yellowstone_grpc_proto::geyser::CommitmentLevel;

use crate::observed::{
    prints::{self, Print},
    truth::{TrueBlock, Truth},
};

/// What came to one subscriber.
#[derive(Debug, Default)]
pub struct Ledger {
    came: HashMap<Print, u32>,
    /// Whole blocks by slot: what each held.
    blocks: HashMap<u64, Vec<Vec<Print>>>,
    /// The least slot of which an event came.
    first_slot: Option<u64>,
    pub updates: u64,
}

/// All but `due` must be 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Balance {
    pub due: u64,
    pub missing: u64,
    pub repeated: u64,
    pub foreign: u64,
    /// Whole blocks that are missing, there twice, or not what they should hold.
    pub wrong_blocks: u64,
}

impl Balance {
    pub fn faults(&self) -> u64 {
        self.missing + self.repeated + self.foreign + self.wrong_blocks
    }
}

impl Ledger {
    pub fn add(&mut self, update: &SubscribeUpdate) {
        let (slot, print) = match &update.update_oneof {
            Some(UpdateOneof::Account(account)) => (account.slot, prints::account(account)),
            Some(UpdateOneof::Transaction(update)) => {
                let Some(info) = &update.transaction else {
                    return;
                };
                (update.slot, prints::transaction(update.slot, info))
            }
            Some(UpdateOneof::Entry(entry)) => (entry.slot, prints::entry(entry)),
            Some(UpdateOneof::BlockMeta(meta)) => (meta.slot, prints::block_meta(meta)),
            Some(UpdateOneof::Block(block)) => {
                self.updates += 1;
                let held = self.blocks.entry(block.slot).or_default();
                held.push(prints_of(block));
                return;
            }
            _ => return,
        };
        self.updates += 1;
        self.first_slot = Some(self.first_slot.map_or(slot, |first| first.min(slot)));
        *self.came.entry(print).or_default() += 1;
    }

    pub fn first_slot(&self) -> Option<Slot> {
        self.first_slot.map(Slot)
    }

    /// Everything that is due of these slots, and nothing else, at this level. `with_blocks`: whole blocks are due as well.
    pub fn balance(
        &self,
        truth: &Truth,
        level: CommitmentLevel,
        slots: std::ops::RangeInclusive<Slot>,
        with_blocks: bool,
    ) -> Balance {
        let is_due = |block: &TrueBlock| level == CommitmentLevel::Processed || block.on_chain;
        let mut balance = Balance::default();
        let mut known: HashSet<Print> = HashSet::new();
        for (name, block) in truth.blocks.iter().filter(|(_, block)| is_due(block)) {
            known.extend(&block.prints);
            let due = slots.contains(&name.slot);
            for print in &block.prints {
                let times = self.came.get(print).copied().unwrap_or(0);
                balance.due += u64::from(due);
                balance.missing += u64::from(due && times == 0);
                balance.repeated += u64::from(times.saturating_sub(1));
            }
            if with_blocks && due {
                let held = self.blocks.get(&name.slot.0).map_or(&[][..], Vec::as_slice);
                let right = matches!(held, [only] if same_events(only, &block.prints));
                balance.wrong_blocks += u64::from(!right);
            }
        }
        let foreign = self.came.keys().filter(|print| !known.contains(print));
        balance.foreign = foreign.count() as u64;
        balance
    }
}

/// Metadata is the block's own form, so it is left out on both sides.
fn same_events(held: &[Print], truth: &[Print]) -> bool {
    let truth: HashSet<Print> = truth[..truth.len().saturating_sub(1)]
        .iter()
        .copied()
        .collect();
    let distinct: HashSet<Print> = held.iter().copied().collect();
    distinct.len() == held.len() && distinct == truth
}

fn prints_of(block: &SubscribeUpdateBlock) -> Vec<Print> {
    let accounts = block.accounts.iter().map(|info| {
        prints::account(&SubscribeUpdateAccount {
            account: Some(info.clone()),
            slot: block.slot,
            is_startup: false,
        })
    });
    let transactions = block.transactions.iter();
    accounts
        .chain(transactions.map(|info| prints::transaction(block.slot, info)))
        .chain(block.entries.iter().map(prints::entry))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prost::Message;

    use super::*;
    use crate::observed::{
        chain::{Chain, Temper},
        contents::{Contents, Shape, Values},
    };

    fn updates(values: &Values) -> Vec<SubscribeUpdate> {
        let content = values.accounts.iter().chain(&values.transactions);
        let content = content.chain(&values.entries).chain([&values.meta]);
        content
            .map(|value| SubscribeUpdate::decode(value.bytes.clone()).unwrap())
            .collect()
    }

    #[test]
    fn what_is_missing_or_comes_twice_is_counted() {
        let shape = Shape {
            transactions: 5,
            entries: 2,
        };
        let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
        let contents = Contents::load(&blocks, shape).unwrap();
        let mut chain = Chain::new(9, 70, Temper::RESTLESS);
        let (one, fork) = (chain.extend(), chain.beside(chain.tip()));
        let [values, beside] = [one, fork].map(|block| contents.values(&block, 0));
        let mut truth = Truth::default();
        truth.add(&one, &values, true);
        truth.add(&fork, &beside, true);
        let slots = one.name.slot..=fork.name.slot;
        let mut ledger = Ledger::default();
        updates(&values)
            .iter()
            .for_each(|update| ledger.add(update));
        let level = CommitmentLevel::Confirmed;
        let all = values.prints().len() as u64;
        let balance = ledger.balance(&truth, level, slots.clone(), false);
        assert_eq!((balance.due, balance.faults()), (all, 0));
        assert_eq!(
            ledger
                .balance(&truth, level, slots.clone(), true)
                .wrong_blocks,
            1
        );

        let level = CommitmentLevel::Processed;
        let balance = ledger.balance(&truth, level, slots.clone(), false);
        assert_eq!(balance.missing, beside.prints().len() as u64);

        updates(&beside)[1..3]
            .iter()
            .for_each(|update| ledger.add(update));
        ledger.add(&updates(&values)[0]);
        let balance = ledger.balance(&truth, CommitmentLevel::Confirmed, slots, false);
        assert_eq!((balance.repeated, balance.foreign), (1, 2));
        assert_eq!(ledger.first_slot(), Some(one.name.slot));
    }
}
