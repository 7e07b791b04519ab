//! What is reported to a plugin: accounts that nobody recorded, in a stated mix of sizes, and the names of what is measured.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

/// Account updates per transaction, as on mainnet.
pub const ACCOUNTS_PER_TRANSACTION: usize = 3;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Kind {
    AccountEmpty,
    #[serde(rename = "account_165")]
    Account165,
    #[serde(rename = "account_1k")]
    Account1k,
    #[serde(rename = "account_10k")]
    Account10k,
    #[serde(rename = "account_1m")]
    Account1m,
    VoteTransaction,
    NonVoteTransaction,
    Entry,
    BlockMeta,
    SlotStatus,
    /// Of all transactions, votes and others. This and the next only for plugins that ask for them.
    Deshred,
    ContactInfo,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::AccountEmpty,
        Self::Account165,
        Self::Account1k,
        Self::Account10k,
        Self::Account1m,
        Self::VoteTransaction,
        Self::NonVoteTransaction,
        Self::Entry,
        Self::BlockMeta,
        Self::SlotStatus,
        Self::Deshred,
        Self::ContactInfo,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountEmpty => "account_empty",
            Self::Account165 => "account_165",
            Self::Account1k => "account_1k",
            Self::Account10k => "account_10k",
            Self::Account1m => "account_1m",
            Self::VoteTransaction => "vote_transaction",
            Self::NonVoteTransaction => "non_vote_transaction",
            Self::Entry => "entry",
            Self::BlockMeta => "block_meta",
            Self::SlotStatus => "slot_status",
            Self::Deshred => "deshred",
            Self::ContactInfo => "contact_info",
        }
    }
}

/// A class of account sizes: its bytes of data, and how many of [`ACCOUNTS_PER_CYCLE`] accounts are of it.
#[derive(Debug, Clone, Copy)]
pub struct SizeClass {
    pub kind: Kind,
    pub bytes: usize,
    pub share: usize,
}

/// Mostly token accounts; on average 1,435 bytes. The largest makes a Kafka record above a broker's usual limit of 1 MiB.
pub const SIZES: [SizeClass; 5] = [
    SizeClass {
        kind: Kind::AccountEmpty,
        bytes: 0,
        share: 200,
    },
    SizeClass {
        kind: Kind::Account165,
        bytes: 165,
        share: 1_300,
    },
    SizeClass {
        kind: Kind::Account1k,
        bytes: 1 << 10,
        share: 380,
    },
    SizeClass {
        kind: Kind::Account10k,
        bytes: 10 << 10,
        share: 119,
    },
    SizeClass {
        kind: Kind::Account1m,
        bytes: 1 << 20,
        share: 1,
    },
];

/// The sum of the shares.
pub const ACCOUNTS_PER_CYCLE: usize = 2_000;

/// How many different keys and owners there are.
const KEYS: usize = 8_192;
const OWNERS: usize = 16;

/// Synthetic accounts; the same seed makes the same ones.
#[derive(Debug)]
pub struct Accounts {
    /// Which of [`SIZES`] the accounts of a cycle are, shuffled once.
    order: Vec<u8>,
    keys: Vec<[u8; 32]>,
    owners: Vec<[u8; 32]>,
    /// Of the largest size; smaller ones are its beginnings.
    data: Vec<u8>,
}

/// One update.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    pub kind: Kind,
    pub pubkey: &'a [u8; 32],
    pub owner: &'a [u8; 32],
    pub lamports: u64,
    pub data: &'a [u8],
}

impl Accounts {
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut order: Vec<u8> = (0_u8..)
            .zip(SIZES)
            .flat_map(|(class, size)| std::iter::repeat_n(class, size.share))
            .collect();
        order.shuffle(&mut random);
        let largest = SIZES.iter().map(|size| size.bytes).max().unwrap_or(0);
        let mut data = vec![0; largest];
        // Every second run of 32 bytes is random (keys, amounts), the others stay zero: about what accounts compress to.
        for run in data.chunks_mut(32).step_by(2) {
            random.fill(run);
        }
        Self {
            order,
            keys: (0..KEYS).map(|_| random.random()).collect(),
            owners: (0..OWNERS).map(|_| random.random()).collect(),
            data,
        }
    }

    /// The identity of the `n`th node of a cluster.
    pub fn node(&self, n: u64) -> &[u8; 32] {
        &self.keys[n as usize % self.keys.len()]
    }

    /// The `n`th update of an endless series.
    pub fn get(&self, n: u64) -> Account<'_> {
        let at = n as usize;
        let size = SIZES[usize::from(self.order[at % self.order.len()])];
        Account {
            kind: size.kind,
            pubkey: &self.keys[at.wrapping_mul(31) % self.keys.len()],
            owner: &self.owners[at % self.owners.len()],
            lamports: 2_039_280 + n,
            data: &self.data[..size.bytes],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_has_exactly_the_stated_shares() {
        assert_eq!(
            SIZES.iter().map(|size| size.share).sum::<usize>(),
            ACCOUNTS_PER_CYCLE
        );
        let accounts = Accounts::new(7);
        // From anywhere, not only from the first one.
        for first in [0, 77, 123_456_789] {
            for size in SIZES {
                let drawn = (first..first + ACCOUNTS_PER_CYCLE as u64)
                    .filter(|n| accounts.get(*n).kind == size.kind)
                    .count();
                assert_eq!(drawn, size.share, "{:?}", size.kind);
            }
        }
        for n in 0..ACCOUNTS_PER_CYCLE as u64 {
            let account = accounts.get(n);
            let size = SIZES.iter().find(|size| size.kind == account.kind).unwrap();
            assert_eq!(account.data.len(), size.bytes);
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_accounts() {
        let [one, two] = [Accounts::new(3), Accounts::new(3)];
        let other = Accounts::new(4);
        let key = |accounts: &Accounts| *accounts.get(9).pubkey;
        assert_eq!(key(&one), key(&two));
        assert_ne!(key(&one), key(&other));
        assert_eq!(one.data, two.data);
    }

    #[test]
    fn large_accounts_do_not_come_in_a_row() {
        let accounts = Accounts::new(7);
        let longest = (0..ACCOUNTS_PER_CYCLE as u64)
            .map(|n| accounts.get(n).kind == Kind::Account10k)
            .fold((0, 0), |(run, longest), is| {
                let run = if is { run + 1 } else { 0 };
                (run, run.max(longest))
            })
            .1;
        assert!(longest < 10, "{longest} in a row");
    }
}
