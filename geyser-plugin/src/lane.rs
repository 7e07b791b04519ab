//! A lane is one partition of one observed topic, as a small number: sequences, seals and losses are kept per lane.

use event_schema::{ObservedTopic, Slot, partition_of, partition_of_slot};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u16);

/// How many partitions each topic has. Lanes are numbered accounts first, then transactions, then slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    pub accounts: u16,
    pub transactions: u16,
    pub slots: u16,
}

impl Lanes {
    /// Lane numbers travel in 10 bits (loss table, delivery tags); the greatest stands for "no lane".
    pub const MAX: usize = 1023;

    pub fn count(self) -> usize {
        usize::from(self.accounts) + usize::from(self.transactions) + usize::from(self.slots)
    }

    pub fn of_account(self, pubkey: &[u8]) -> Lane {
        // The remainder is below the u16 it is taken by.
        Lane(partition_of(pubkey, self.accounts.into()) as u16)
    }

    pub fn of_transaction(self, signature: &[u8]) -> Lane {
        Lane(self.accounts + partition_of(signature, self.transactions.into()) as u16)
    }

    pub fn of_slot(self, slot: u64) -> Lane {
        Lane(
            self.accounts
                + self.transactions
                + partition_of_slot(Slot(slot), self.slots.into()) as u16,
        )
    }

    pub fn place(self, lane: Lane) -> (ObservedTopic, u32) {
        let Lane(number) = lane;
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
        (partition < count).then(|| Lane(first + partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_lane_has_one_place(accounts in 1_u16..40, transactions in 1_u16..40, slots in 1_u16..40, slot: u64, key: [u8; 32]) {
            let lanes = Lanes { accounts, transactions, slots };
            for number in 0..lanes.count() {
                let lane = Lane(number as u16);
                let (topic, partition) = lanes.place(lane);
                prop_assert_eq!(lanes.at(topic, partition), Some(lane));
            }
            prop_assert_eq!(lanes.place(lanes.of_account(&key)), (ObservedTopic::Accounts, partition_of(&key, accounts.into())));
            prop_assert_eq!(lanes.place(lanes.of_transaction(&key)), (ObservedTopic::Transactions, partition_of(&key, transactions.into())));
            prop_assert_eq!(lanes.place(lanes.of_slot(slot)), (ObservedTopic::Slots, (slot % u64::from(slots)) as u32));
            prop_assert_eq!(lanes.at(ObservedTopic::Slots, slots.into()), None);
        }
    }
}
