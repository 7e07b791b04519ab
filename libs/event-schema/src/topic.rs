//! Topic names and who chooses the partition: always the writer, so that it can number each partition's records.

use std::sync::Arc;

use crate::identity::Slot;

/// The topics a plugin writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObservedTopic {
    /// Key: account address.
    Accounts = 1,
    /// Also as they come in shreds. Key: signature.
    Transactions = 2,
    /// Slot statuses, entries, block metadata. Key: slot, big-endian. And contact info. Key: the node's identity, which also
    /// chooses the partition, as an account's address does.
    Slots = 3,
}

impl ObservedTopic {
    pub const ALL: [Self; 3] = [Self::Accounts, Self::Transactions, Self::Slots];
}

impl TryFrom<u32> for ObservedTopic {
    type Error = u32;

    fn try_from(number: u32) -> Result<Self, u32> {
        Self::ALL
            .into_iter()
            .find(|topic| *topic as u32 == number)
            .ok_or(number)
    }
}

/// Full topic names under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    pub observed_accounts: Arc<str>,
    pub observed_transactions: Arc<str>,
    pub observed_slots: Arc<str>,
    pub canonical: Arc<str>,
    /// The newest confirmed state of accounts; see [`crate::account_state`].
    pub accounts: Arc<str>,
    /// Which router publishes.
    pub leadership: Arc<str>,
    pub router_state: Arc<str>,
    pub dead_letters: Arc<str>,
}

impl Topics {
    /// The prefix every part uses unless told otherwise.
    pub const DEFAULT_PREFIX: &'static str = "heliograph";

    pub fn new(prefix: &str) -> Self {
        let name = |suffix: &str| Arc::from(format!("{prefix}.{suffix}"));
        Self {
            observed_accounts: name("observed.accounts"),
            observed_transactions: name("observed.transactions"),
            observed_slots: name("observed.slots"),
            canonical: name("canonical"),
            accounts: name("accounts"),
            leadership: name("leadership"),
            router_state: name("router-state"),
            dead_letters: name("dead-letters"),
        }
    }

    pub fn observed(&self, topic: ObservedTopic) -> &Arc<str> {
        match topic {
            ObservedTopic::Accounts => &self.observed_accounts,
            ObservedTopic::Transactions => &self.observed_transactions,
            ObservedTopic::Slots => &self.observed_slots,
        }
    }

    pub fn observed_by_name(&self, name: &str) -> Option<ObservedTopic> {
        ObservedTopic::ALL
            .into_iter()
            .find(|topic| self.observed(*topic).as_ref() == name)
    }
}

/// Partition of an account or transaction record: CRC-32 (IEEE) of the key, modulo. `partitions` of 0 counts as 1.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    crc32fast::hash(key) % partitions.max(1)
}

/// Partition of a slot's records in `observed.slots` and `canonical`. `partitions` of 0 counts as 1.
pub fn partition_of_slot(slot: Slot, partitions: u32) -> u32 {
    // The remainder is smaller than a u32.
    (slot.0 % u64::from(partitions.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        let topics = Topics::new("x");
        for topic in ObservedTopic::ALL {
            assert_eq!(topics.observed_by_name(topics.observed(topic)), Some(topic));
            assert_eq!(ObservedTopic::try_from(topic as u32), Ok(topic));
        }
    }

    #[test]
    fn partitions_are_a_promise_to_readers() {
        // Fixed values: changing them would scatter a key's history over partitions.
        assert_eq!(partition_of(b"123456789", 1000), 0xcbf4_3926 % 1000);
        assert_eq!(partition_of_slot(Slot(10), 4), 2);
    }
}
