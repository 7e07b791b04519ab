//! One canonical block as rows of every table. Pure and deterministic: the same block gives the same bytes, so that a
//! repeated insert can be recognised.
//!
//! What the block does not say stays unknown: `None`, a flag, or a count of what could not be resolved. It is never zero.

mod balances;
mod decoded;
mod lookups;
mod raw;
mod states;

use std::collections::HashMap;

use event_schema::{
    SlotBlock,
    proto::{
        confirmed_block::{Message, Reward, RewardType},
        geyser::{SubscribeUpdateAccount, SubscribeUpdateTransactionInfo},
    },
};

use super::{
    native::{Blob, Seconds, TableBlock, TableRow},
    tables::{
        AccountTransactionRow, AccountTransferRow, AccountUpdateRow, BalanceChangeRow, BlockRow,
        InstructionRow, Key, MintStateRow, ProgramStateRow, RawTransactionRow, RewardRow, RouteRow,
        SignatureRow, SolTransferRow, SwapRow, TokenTransferRow, TransactionRow,
    },
    tx_error,
    witness::Witness,
};
use crate::decode::{Trace, decode, idl::Idls, key_of_base58};

use decoded::Place;
use states::Write;

/// Declares the tables with rows of a block.
macro_rules! block_rows {
    ($($field:ident: $row:ty,)+) => {
        /// Rows of some blocks, in block order.
        #[derive(Debug, Default, Clone, PartialEq)]
        pub struct BlockRows {
            $(pub $field: Vec<$row>,)+
        }

        impl BlockRows {
            /// Names of the tables.
            pub const TABLES: &'static [&'static str] = &[$(<$row as TableRow>::TABLE,)+];

            /// One block per table, empty ones too.
            pub fn tables(&self) -> Vec<TableBlock> {
                vec![$(TableBlock::of(&self.$field),)+]
            }

            /// What tells their rows from all others, in the same order.
            pub fn witnesses(&self) -> Vec<Witness> {
                vec![$(Witness::of_slots(self.$field.iter().map(|row| row.slot)),)+]
            }
        }
    };
}

block_rows! {
    blocks: BlockRow,
    transactions: TransactionRow,
    raw_transactions: RawTransactionRow,
    instructions: InstructionRow,
    token_transfers: TokenTransferRow,
    sol_transfers: SolTransferRow,
    swaps: SwapRow,
    routes: RouteRow,
    balance_changes: BalanceChangeRow,
    signatures: SignatureRow,
    account_transactions: AccountTransactionRow,
    account_transfers: AccountTransferRow,
    account_updates: AccountUpdateRow,
    mint_states: MintStateRow,
    program_states: ProgramStateRow,
    rewards: RewardRow,
}

impl BlockRows {
    /// `idls`: for programs without a reader of ours.
    pub fn add(&mut self, block: &SlotBlock, idls: &Idls) {
        let slot = block.slot.0;
        let time = block
            .meta
            .block_time
            .and_then(|time| u32::try_from(time.timestamp).ok())
            .map(Seconds);
        self.blocks.push(block_row(block, time));
        let mut index_of_signature = HashMap::with_capacity(block.transactions.len());
        for update in &block.transactions {
            let index = u32::try_from(update.index).unwrap_or(u32::MAX);
            index_of_signature.insert(update.signature.as_slice(), index);
            self.raw_transactions.push(raw::row(slot, index, update));
            self.add_transaction(slot, index, update, time, idls);
        }
        for update in &block.accounts {
            self.add_account(slot, update, &index_of_signature);
        }
        let rewards = block
            .meta
            .rewards
            .iter()
            .flat_map(|rewards| &rewards.rewards)
            .zip(0_u32..);
        self.rewards
            .extend(rewards.map(|(reward, index)| reward_row(slot, index, reward)));
    }

    fn add_account(
        &mut self,
        slot: u64,
        update: &SubscribeUpdateAccount,
        index_of_signature: &HashMap<&[u8], u32>,
    ) {
        let Some(account) = &update.account else {
            return;
        };
        let signature = account.txn_signature.as_deref();
        let tx_index = signature.and_then(|signature| index_of_signature.get(signature).copied());
        let write = Write {
            slot,
            tx_index,
            account,
        };
        self.mint_states.extend(write.mint());
        self.program_states.extend(write.program());
        self.account_updates.extend(account_update(&write));
    }

    /// Everything of a transaction but its raw form.
    pub fn add_transaction(
        &mut self,
        slot: u64,
        tx_index: u32,
        update: &SubscribeUpdateTransactionInfo,
        block_time: Option<Seconds>,
        idls: &Idls,
    ) {
        let empty = Message::default();
        let message = update
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.message.as_ref())
            .unwrap_or(&empty);
        let meta = update.meta.as_ref();
        let trace = Trace::of(message, meta);
        let decoded = decode(message, meta, &trace);
        let success = meta.map(|meta| meta.err.is_none());
        let place = Place {
            slot,
            tx_index,
            block_time,
            success,
            trace: &trace,
            decoded: &decoded,
            idls,
        };
        self.instructions.extend(place.instructions());
        for row in place.token_transfers() {
            self.account_transfers
                .extend(lookups::token_transfer(&row, &trace, meta));
            self.token_transfers.push(row);
        }
        for row in place.sol_transfers() {
            self.account_transfers.extend(lookups::sol_transfer(&row));
            self.sol_transfers.push(row);
        }
        self.signatures
            .push(lookups::signature(slot, tx_index, &update.signature));
        // Votes name nothing but their validator's own accounts, and are most transactions there are.
        if !update.is_vote {
            self.account_transactions
                .extend(lookups::accounts(slot, tx_index, &trace.keys));
        }
        self.swaps.extend(place.swaps());
        self.routes.extend(place.routes());
        self.mint_states.extend(place.mints());
        self.program_states.extend(place.programs());
        if let Some(meta) = meta {
            self.balance_changes
                .extend(balances::changes(slot, tx_index, &trace.keys, meta));
        }
        let failure = meta
            .and_then(|meta| meta.err.as_ref())
            .map(|error| tx_error::decode(&error.err))
            .unwrap_or_default();
        let unresolved = trace.calls.iter().filter(|call| call.program.is_none());
        let (fees, identity) = (decoded.fees, decoded.token_identity);
        self.transactions.push(TransactionRow {
            slot,
            tx_index,
            signature: update.signature.as_slice().try_into().unwrap_or([0; 64]),
            is_vote: update.is_vote,
            version: version(message),
            fee_payer: trace.keys.first().copied(),
            fee: meta.map(|meta| meta.fee),
            success,
            error: failure.name,
            error_instruction: failure.instruction,
            error_custom: failure.custom,
            compute_units: meta.and_then(|meta| meta.compute_units_consumed),
            cost_units: meta.and_then(|meta| meta.cost_units),
            signatures: update.transaction.as_ref().map_or(0, |transaction| {
                u8::try_from(transaction.signatures.len()).unwrap_or(u8::MAX)
            }),
            recent_blockhash: key(&message.recent_blockhash),
            instructions: u16::try_from(trace.calls.len()).unwrap_or(u16::MAX),
            instructions_unresolved: u16::try_from(unresolved.count()).unwrap_or(u16::MAX),
            inner_known: meta.is_some_and(|meta| !meta.inner_instructions_none),
            logs_known: meta.is_some_and(|meta| !meta.log_messages_none),
            log_messages: meta
                .map(|meta| meta.log_messages.clone())
                .unwrap_or_default(),
            lamport_identity: balances::lamport_identity(meta),
            block_time,
            base_fee: fees.base,
            priority_fee: fees.priority,
            tip: fees.tip,
            unit_price: fees.unit_price,
            unit_limit: fees.unit_limit,
            heap_bytes: fees.heap_bytes,
            loaded_accounts_bytes: fees.loaded_accounts_bytes,
            token_identity: identity.word(),
            token_identity_reason: identity.reason(),
            account_keys: trace.keys,
        });
    }
}

/// The first eight bytes, little-endian, zero-filled.
fn first_eight(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let known = bytes.len().min(8);
    first[..known].copy_from_slice(&bytes[..known]);
    u64::from_le_bytes(first)
}

/// -1 for legacy messages, which carry no version.
fn version(message: &Message) -> i8 {
    match (message.versioned, message.config.is_some()) {
        (_, true) => 1,
        (true, false) => 0,
        (false, false) => -1,
    }
}

fn key(bytes: &[u8]) -> Option<Key> {
    bytes.try_into().ok()
}

fn block_row(block: &SlotBlock, block_time: Option<Seconds>) -> BlockRow {
    BlockRow {
        slot: block.slot.0,
        blockhash: block.blockhash.0,
        parent_slot: block.seal.parent_slot,
        parent_blockhash: key(&block.seal.parent_blockhash).unwrap_or_default(),
        block_time,
        block_height: block.meta.block_height.map(|height| height.block_height),
        transactions: count(block.transactions.len()),
        entries: count(block.entries.len()),
        account_updates: count(block.accounts.len()),
        sources: block.seal.sources.clone(),
        repaired: block.seal.repaired,
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn account_update(write: &Write<'_>) -> Option<AccountUpdateRow> {
    let account = write.account;
    Some(AccountUpdateRow {
        slot: write.slot,
        account: key(&account.pubkey)?,
        write_version: account.write_version,
        tx_index: write.tx_index,
        lamports: account.lamports,
        owner: key(&account.owner)?,
        executable: account.executable,
        rent_epoch: account.rent_epoch,
        data: Blob(account.data.clone()),
    })
}

fn reward_row(slot: u64, reward_index: u32, reward: &Reward) -> RewardRow {
    RewardRow {
        slot,
        reward_index,
        account: key_of_base58(&reward.pubkey),
        lamports: reward.lamports,
        post_balance: reward.post_balance,
        kind: match reward.reward_type() {
            RewardType::Unspecified => "unspecified",
            RewardType::Fee => "fee",
            RewardType::Rent => "rent",
            RewardType::Staking => "staking",
            RewardType::Voting => "voting",
            RewardType::DeactivatedStake => "deactivated_stake",
        },
        commission: reward.commission.parse().ok(),
        commission_bps: reward.commission_bps.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
