//! A lane is one partition of one topic of one output, as a small number: sequences, seals and losses are kept per lane.

use event_schema::{ObservedTopic, Slot, partition_of, partition_of_slot};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u16);

/// How many partitions each topic of an output has. Lanes are numbered accounts first, then transactions, then slots; the
/// outputs follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    pub accounts: u16,
    pub transactions: u16,
    pub slots: u16,
    /// The output's first lane.
    pub first: u16,
}

impl Lanes {
    /// Of all outputs together. Lane numbers travel in 10 bits (loss table, delivery tags); the greatest stands for "no lane".
    pub const MAX: usize = 1023;

    pub fn count(self) -> usize {
        usize::from(self.accounts) + usize::from(self.transactions) + usize::from(self.slots)
    }

    /// Index of the lane among this output's.
    pub fn index(self, lane: Lane) -> usize {
        usize::from(lane.0 - self.first)
    }

    pub fn contains(self, lane: Lane) -> bool {
        lane.0 >= self.first && usize::from(lane.0 - self.first) < self.count()
    }

    pub fn of_account(self, pubkey: &[u8]) -> Lane {
        // The remainder is below the u16 it is taken by.
        Lane(self.first + partition_of(pubkey, self.accounts.into()) as u16)
    }

    pub fn of_transaction(self, signature: &[u8]) -> Lane {
        Lane(self.first + self.accounts + partition_of(signature, self.transactions.into()) as u16)
    }

    pub fn of_slot(self, slot: u64) -> Lane {
        Lane(
            self.first
                + self.accounts
                + self.transactions
                + partition_of_slot(Slot(slot), self.slots.into()) as u16,
        )
    }

    /// In the topic of slots, so that what is reported of one node keeps its order.
    pub fn of_node(self, pubkey: &[u8]) -> Lane {
        Lane(
            self.first
                + self.accounts
                + self.transactions
                + partition_of(pubkey, self.slots.into()) as u16,
        )
    }

    pub fn place(self, lane: Lane) -> (ObservedTopic, u32) {
        let number = lane.0 - self.first;
        if number < self.accounts {
            (ObservedTopic::Accounts, number.into())
        } else if number < self.accounts + self.transactions {
            (ObservedTopic::Transactions, (number - self.accounts).into())
        } else {
            (
                ObservedTopic::Slots,
                (number - self.accounts - self.transactions).into(),
            )
        }
    }

    /// `None` for a partition that is not configured.
    pub fn at(self, topic: ObservedTopic, partition: u32) -> Option<Lane> {
        let (first, count) = match topic {
            ObservedTopic::Accounts => (0, self.accounts),
            ObservedTopic::Transactions => (self.accounts, self.transactions),
            ObservedTopic::Slots => (self.accounts + self.transactions, self.slots),
        };
        let partition = u16::try_from(partition).ok()?;
        (partition < count).then(|| Lane(self.first + first + partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_lane_has_one_place(accounts in 1_u16..40, transactions in 1_u16..40, slots in 1_u16..40, first in 0_u16..900, slot: u64, key: [u8; 32]) {
            let lanes = Lanes { accounts, transactions, slots, first };
            for number in 0..lanes.count() {
                let lane = Lane(first + number as u16);
                prop_assert!(lanes.contains(lane) && lanes.index(lane) == number);
                let (topic, partition) = lanes.place(lane);
                prop_assert_eq!(lanes.at(topic, partition), Some(lane));
            }
            prop_assert_eq!(lanes.place(lanes.of_account(&key)), (ObservedTopic::Accounts, partition_of(&key, accounts.into())));
            prop_assert_eq!(lanes.place(lanes.of_transaction(&key)), (ObservedTopic::Transactions, partition_of(&key, transactions.into())));
            prop_assert_eq!(lanes.place(lanes.of_slot(slot)), (ObservedTopic::Slots, (slot % u64::from(slots)) as u32));
            prop_assert_eq!(lanes.place(lanes.of_node(&key)), (ObservedTopic::Slots, partition_of(&key, slots.into())));
            prop_assert_eq!(lanes.at(ObservedTopic::Slots, slots.into()), None);
        }
    }
}
