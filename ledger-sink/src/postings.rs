//! Double-entry postings of a transaction and of a block's rewards. Pure.
//!
//! An amount is the change of the account's balance; per asset the amounts of one entry sum to zero. What enters or leaves
//! the accounts of a transaction goes to a named contra account, so that nothing appears from nowhere:
//!
//! | contra account | receives |
//! |---|---|
//! | `network:fee:base`, `network:fee:priority` | the fee: 5,000 lamports per paid signature, and the rest |
//! | `network:rent` | rent the runtime collected, while it did |
//! | `network:reward:KIND` | pays what a block credits outside transactions (leader fee, staking, voting, rent) |
//! | `token:mint`, `token:burn` | pays what is minted, receives what is burned |
//! | `token:withheld:ACCOUNT` | Token-2022 fees lying on the account outside its amount |
//! | `token:wrap` | lamports seen as wrapped SOL |
//! | `token:unexplained` | what the record does not explain; only of transactions whose token identity is unknown |

use std::fmt;

use event_schema::Pubkey;
use event_schema::proto::confirmed_block::{Reward, RewardType};

use crate::chain::ChainTransaction;
use crate::identity::MintFlow;

/// Lamports per paid signature.
const BASE_FEE: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    Chain(Pubkey),
    FeeBase,
    FeePriority,
    Rent,
    Reward(RewardKind),
    Mint,
    Burn,
    Withheld(Pubkey),
    Wrap,
    Unexplained,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RewardKind {
    Fee,
    Rent,
    Staking,
    Voting,
    DeactivatedStake,
    Unspecified,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Chain(key) => key.fmt(f),
            Account::FeeBase => f.write_str("network:fee:base"),
            Account::FeePriority => f.write_str("network:fee:priority"),
            Account::Rent => f.write_str("network:rent"),
            Account::Reward(RewardKind::Fee) => f.write_str("network:reward:fee"),
            Account::Reward(RewardKind::Rent) => f.write_str("network:reward:rent"),
            Account::Reward(RewardKind::Staking) => f.write_str("network:reward:staking"),
            Account::Reward(RewardKind::Voting) => f.write_str("network:reward:voting"),
            Account::Reward(RewardKind::DeactivatedStake) => {
                f.write_str("network:reward:deactivated-stake")
            }
            Account::Reward(RewardKind::Unspecified) => f.write_str("network:reward:unspecified"),
            Account::Mint => f.write_str("token:mint"),
            Account::Burn => f.write_str("token:burn"),
            Account::Withheld(key) => write!(f, "token:withheld:{key}"),
            Account::Wrap => f.write_str("token:wrap"),
            Account::Unexplained => f.write_str("token:unexplained"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asset {
    /// Lamports.
    Sol,
    /// Raw units of a mint.
    Token(Pubkey),
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asset::Sol => f.write_str("SOL"),
            Asset::Token(mint) => mint.fmt(f),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    pub account: Account,
    pub asset: Asset,
    /// Raw units; positive when the balance rises. Never 0.
    pub amount: i128,
    /// The account's balance on chain after the entry, where the record tells it.
    pub balance_after: Option<u64>,
}

/// Collects postings, leaving out those of nothing.
#[derive(Default)]
struct Entry(Vec<Posting>);

impl Entry {
    fn post(&mut self, account: Account, asset: Asset, amount: i128, balance_after: Option<u64>) {
        if amount != 0 {
            self.0.push(Posting {
                account,
                asset,
                amount,
                balance_after,
            });
        }
    }
}

/// The lamport side of a transaction whose lamport identity is exact.
pub fn lamports(transaction: &ChainTransaction<'_>) -> Vec<Posting> {
    let mut entry = Entry::default();
    let balances = transaction
        .pre_balances
        .iter()
        .zip(transaction.post_balances);
    for (key, (pre, post)) in transaction.keys.iter().zip(balances) {
        entry.post(
            Account::Chain(*key),
            Asset::Sol,
            i128::from(*post) - i128::from(*pre),
            Some(*post),
        );
    }
    let base = transaction
        .fee
        .min(BASE_FEE.saturating_mul(transaction.paid_signatures));
    entry.post(Account::FeeBase, Asset::Sol, base.into(), None);
    entry.post(
        Account::FeePriority,
        Asset::Sol,
        (transaction.fee - base).into(),
        None,
    );
    let rent: i128 = transaction
        .rewards
        .iter()
        .map(|(_, lamports)| i128::from(*lamports))
        .sum();
    entry.post(Account::Rent, Asset::Sol, -rent, None);
    entry.0
}

/// One mint's side of a transaction.
pub fn tokens(transaction: &ChainTransaction<'_>, mint: Pubkey, flow: &MintFlow) -> Vec<Posting> {
    let mut entry = Entry::default();
    let asset = Asset::Token(mint);
    for (account, change) in &flow.changes {
        let row = transaction
            .post_tokens
            .iter()
            .find(|row| row.account == *account && row.mint == mint);
        let after = row.map_or(0, |row| row.amount);
        entry.post(
            Account::Chain(transaction.keys[*account]),
            asset,
            *change,
            Some(after),
        );
    }
    entry.post(Account::Mint, asset, -(flow.minted as i128), None);
    entry.post(Account::Burn, asset, flow.burned as i128, None);
    for (account, amount) in &flow.withheld {
        entry.post(Account::Withheld(*account), asset, (*amount).into(), None);
    }
    let rest = if flow.native {
        Account::Wrap
    } else {
        Account::Unexplained
    };
    entry.post(rest, asset, -flow.remainder, None);
    entry.0
}

/// What a block credits outside its transactions.
pub fn rewards(rewards: &[Reward]) -> Result<Vec<Posting>, String> {
    let mut entry = Entry::default();
    for reward in rewards {
        let key: Pubkey = reward
            .pubkey
            .parse()
            .map_err(|_| format!("reward: `{}` is not a key", reward.pubkey))?;
        let kind = match reward.reward_type() {
            RewardType::Fee => RewardKind::Fee,
            RewardType::Rent => RewardKind::Rent,
            RewardType::Staking => RewardKind::Staking,
            RewardType::Voting => RewardKind::Voting,
            RewardType::DeactivatedStake => RewardKind::DeactivatedStake,
            RewardType::Unspecified => RewardKind::Unspecified,
        };
        entry.post(
            Account::Chain(key),
            Asset::Sol,
            reward.lamports.into(),
            Some(reward.post_balance),
        );
        entry.post(
            Account::Reward(kind),
            Asset::Sol,
            -i128::from(reward.lamports),
            None,
        );
    }
    Ok(entry.0)
}
