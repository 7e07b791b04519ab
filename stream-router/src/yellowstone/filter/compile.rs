//! A whole request, read and checked once.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use event_schema::proto::geyser::{CommitmentLevel, SlotStatus, SubscribeRequest};

use super::{
    accounts::{AccountFilter, KeyChange},
    blocks::BlockFilter,
    error::{FilterError, Place, quoted},
    head,
    keys::Key,
    limits::{AccountLimits, FilterLimits},
    slices::{self, DataSlice},
    transactions::TransactionFilter,
};
use crate::subscription::Level;

/// One compiled `SubscribeRequest`. Clones share the sets of keys.
#[derive(Debug, Clone)]
pub struct Filters {
    pub(super) level: Level,
    /// By name, as all lists here.
    pub(super) accounts: Vec<AccountFilter>,
    pub(super) slices: Option<Arc<[DataSlice]>>,
    pub(super) transactions: Vec<Arc<TransactionFilter>>,
    pub(super) statuses: Vec<Arc<TransactionFilter>>,
    pub(super) slots: Vec<SlotFilter>,
    pub(super) blocks: Vec<(Bytes, Arc<BlockFilter>)>,
    /// Names of all filters of the kind: each of them matches.
    pub(super) block_meta: Bytes,
    pub(super) entries: Bytes,
    /// For later changes of accounts.
    account_limits: Arc<AccountLimits>,
}

#[derive(Debug, Clone)]
pub struct SlotFilter {
    pub head: Bytes,
    own_level_only: bool,
    interslot: bool,
}

impl SlotFilter {
    pub fn wants(&self, status: SlotStatus, level: Level) -> bool {
        let reached = match status {
            SlotStatus::SlotProcessed => Some(Level::Processed),
            SlotStatus::SlotConfirmed => Some(Level::Confirmed),
            SlotStatus::SlotFinalized => Some(Level::Finalized),
            SlotStatus::SlotFirstShredReceived
            | SlotStatus::SlotCompleted
            | SlotStatus::SlotCreatedBank
            | SlotStatus::SlotDead => None,
        };
        match reached {
            Some(reached) => !self.own_level_only || reached == level,
            None => self.interslot && !self.own_level_only,
        }
    }
}

impl Filters {
    pub fn compile(request: &SubscribeRequest, limits: &FilterLimits) -> Result<Self, FilterError> {
        let named = Named {
            bytes_max: limits.name_bytes_max,
        };
        let slices = slices::compile(&request.accounts_data_slice, &limits.accounts)?;
        let accounts = named
            .sorted("accounts", &request.accounts, limits.accounts.max)?
            .into_iter()
            .map(|(name, sent)| AccountFilter::compile(name, sent, &limits.accounts))
            .collect::<Result<_, _>>()?;
        let transactions = |kind, sent, limits: &_| {
            let limits: &super::limits::TransactionLimits = limits;
            named
                .sorted(kind, sent, limits.max)?
                .into_iter()
                .map(|(name, sent)| {
                    TransactionFilter::compile(kind, name, sent, limits).map(Arc::new)
                })
                .collect::<Result<_, _>>()
        };
        let slots = named
            .sorted("slots", &request.slots, limits.slots.max)?
            .into_iter()
            .map(|(name, sent)| SlotFilter {
                head: head(name),
                own_level_only: sent.filter_by_commitment.unwrap_or_default(),
                interslot: sent.interslot_updates.unwrap_or_default(),
            })
            .collect();
        let blocks = named
            .sorted("blocks", &request.blocks, limits.blocks.max)?
            .into_iter()
            .map(|(name, sent)| {
                let filter = BlockFilter::compile(name, sent, slices.clone(), &limits.blocks)?;
                Ok((head(name), Arc::new(filter)))
            })
            .collect::<Result<_, FilterError>>()?;
        Ok(Self {
            level: level(request.commitment)?,
            accounts,
            transactions: transactions(
                "transactions",
                &request.transactions,
                &limits.transactions,
            )?,
            statuses: transactions(
                "transactions_status",
                &request.transactions_status,
                &limits.transactions_status,
            )?,
            slots,
            blocks,
            block_meta: heads(named.sorted(
                "blocks_meta",
                &request.blocks_meta,
                limits.blocks_meta.max,
            )?),
            entries: heads(named.sorted("entry", &request.entry, limits.entries.max)?),
            slices,
            account_limits: Arc::new(limits.accounts.clone()),
        })
    }

    /// The commitment asked for; processed when none was.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.transactions.is_empty()
            && self.statuses.is_empty()
            && self.slots.is_empty()
            && self.blocks.is_empty()
            && self.block_meta.is_empty()
            && self.entries.is_empty()
    }

    /// Changes the accounts of the accounts filter `name`: all or nothing. Gives the filter's place and what changed.
    pub(super) fn change_accounts(
        &mut self,
        name: &str,
        add: &[Key],
        remove: &[Key],
    ) -> Result<(usize, KeyChange), FilterError> {
        let at = self
            .accounts
            .binary_search_by(|filter| filter.name.as_str().cmp(name))
            .map_err(|_| {
                let place = Place {
                    kind: "accounts",
                    name,
                };
                place.whole(
                    "the request has no such filter",
                    "name one of its accounts filters",
                )
            })?;
        let filter = &mut self.accounts[at];
        let change = filter.change(add, remove, &self.account_limits)?;
        let keys = Arc::make_mut(filter.keys.get_or_insert_default());
        for key in &change.gone {
            keys.remove(key);
        }
        keys.extend(&change.new);
        Ok((at, change))
    }
}

fn level(commitment: Option<i32>) -> Result<Level, FilterError> {
    let Some(number) = commitment else {
        return Ok(Level::Processed);
    };
    match CommitmentLevel::try_from(number) {
        Ok(CommitmentLevel::Processed) => Ok(Level::Processed),
        Ok(CommitmentLevel::Confirmed) => Ok(Level::Confirmed),
        Ok(CommitmentLevel::Finalized) => Ok(Level::Finalized),
        Err(_) => Err(FilterError::new(
            "commitment",
            format!("{number} is unknown"),
            "send PROCESSED (0), CONFIRMED (1) or FINALIZED (2)",
        )),
    }
}

fn heads<T>(filters: Vec<(&String, &T)>) -> Bytes {
    let mut all = Vec::new();
    for (name, _) in filters {
        all.extend_from_slice(&head(name));
    }
    all.into()
}

/// Checks names.
struct Named {
    bytes_max: usize,
}

impl Named {
    fn sorted<'a, T>(
        &self,
        kind: &'static str,
        filters: &'a HashMap<String, T>,
        max: Option<usize>,
    ) -> Result<Vec<(&'a String, &'a T)>, FilterError> {
        if let Some(max) = max
            && filters.len() > max
        {
            return Err(FilterError::new(
                kind,
                format!("{} filters are sent", filters.len()),
                format!("at most {max} are allowed"),
            ));
        }
        let mut sorted: Vec<_> = filters.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| name.as_str());
        for (name, _) in &sorted {
            if name.len() > self.bytes_max {
                return Err(FilterError::new(
                    format!("{kind}[{}]", quoted(name)),
                    format!("the name has {} bytes", name.len()),
                    format!("give it one of at most {}", self.bytes_max),
                ));
            }
        }
        Ok(sorted)
    }
}
