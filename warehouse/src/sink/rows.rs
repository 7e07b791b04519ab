//! One canonical block as rows of every table. Pure and deterministic: the same block gives the same bytes, so that a
//! repeated insert can be recognised.
//!
//! What the block does not say stays unknown: `None`, a flag, or a count of what could not be resolved. It is never zero.

mod balances;

use std::collections::HashMap;

use event_schema::{
    SlotBlock,
    proto::{
        confirmed_block::{InnerInstruction, Message, Reward, RewardType, TransactionStatusMeta},
        geyser::{SubscribeUpdateAccount, SubscribeUpdateTransactionInfo},
    },
};

use super::{
    native::{Blob, Seconds},
    tables::{
        AccountUpdateRow, BalanceChangeRow, BlockRow, InstructionRow, Key, RewardRow,
        TokenTransferRow, TransactionRow,
    },
    token_program, tx_error,
};

/// Rows of some blocks, in block order.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct BlockRows {
    pub blocks: Vec<BlockRow>,
    pub transactions: Vec<TransactionRow>,
    pub instructions: Vec<InstructionRow>,
    pub token_transfers: Vec<TokenTransferRow>,
    pub balance_changes: Vec<BalanceChangeRow>,
    pub account_updates: Vec<AccountUpdateRow>,
    pub rewards: Vec<RewardRow>,
}

impl BlockRows {
    /// Rows of all tables.
    pub fn total(&self) -> usize {
        self.blocks.len()
            + self.transactions.len()
            + self.instructions.len()
            + self.token_transfers.len()
            + self.balance_changes.len()
            + self.account_updates.len()
            + self.rewards.len()
    }

    pub fn add(&mut self, block: &SlotBlock) {
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
            self.add_transaction(slot, index, update, time);
        }
        self.account_updates.extend(
            block
                .accounts
                .iter()
                .filter_map(|update| account_update(slot, update, &index_of_signature)),
        );
        let rewards = block
            .meta
            .rewards
            .iter()
            .flat_map(|rewards| &rewards.rewards)
            .zip(0_u32..);
        self.rewards
            .extend(rewards.map(|(reward, index)| reward_row(slot, index, reward)));
    }

    fn add_transaction(
        &mut self,
        slot: u64,
        tx_index: u32,
        update: &SubscribeUpdateTransactionInfo,
        block_time: Option<Seconds>,
    ) {
        let empty = Message::default();
        let message = update
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.message.as_ref())
            .unwrap_or(&empty);
        let meta = update.meta.as_ref();
        let keys = account_keys(message, meta);
        let success = meta.map(|meta| meta.err.is_none());
        let place = Place {
            slot,
            tx_index,
            success,
            keys: &keys,
        };
        let mints = balances::mints(meta);
        let mut unresolved = 0_u16;
        let mut count = 0_u16;
        for instruction in walk(message, meta) {
            count = count.saturating_add(1);
            match place.key(instruction.program) {
                Some(program) => {
                    self.instructions
                        .push(place.instruction(&instruction, program));
                    self.token_transfers.extend(place.token_transfers(
                        &instruction,
                        &program,
                        &mints,
                    ));
                }
                None => unresolved = unresolved.saturating_add(1),
            }
        }
        if let Some(meta) = meta {
            self.balance_changes
                .extend(balances::changes(slot, tx_index, &keys, meta));
        }
        let failure = meta
            .and_then(|meta| meta.err.as_ref())
            .map(|error| tx_error::decode(&error.err))
            .unwrap_or_default();
        self.transactions.push(TransactionRow {
            slot,
            tx_index,
            signature: update.signature.as_slice().try_into().unwrap_or([0; 64]),
            is_vote: update.is_vote,
            version: version(message),
            fee_payer: keys.first().copied(),
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
            instructions: count,
            instructions_unresolved: unresolved,
            inner_known: meta.is_some_and(|meta| !meta.inner_instructions_none),
            logs_known: meta.is_some_and(|meta| !meta.log_messages_none),
            log_messages: meta
                .map(|meta| meta.log_messages.clone())
                .unwrap_or_default(),
            lamport_identity: balances::lamport_identity(meta),
            account_keys: keys,
            block_time,
        });
    }
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

/// Keys in the order instructions refer to them: the message's own, loaded writable, loaded readonly.
fn account_keys(message: &Message, meta: Option<&TransactionStatusMeta>) -> Vec<Key> {
    let loaded = meta.into_iter().flat_map(|meta| {
        meta.loaded_writable_addresses
            .iter()
            .chain(&meta.loaded_readonly_addresses)
    });
    // A key of a wrong length would shift all after it: the list ends there, and what refers past it stays unresolved.
    message
        .account_keys
        .iter()
        .chain(loaded)
        .map_while(|bytes| key(bytes))
        .collect()
}

/// An instruction wherever it stands in the transaction.
struct Instruction<'a> {
    path: u32,
    stack_height: Option<u8>,
    program: u32,
    accounts: &'a [u8],
    data: &'a [u8],
}

/// Outer instructions, each followed by the inner ones it caused. `path` is the outer number in the upper 16 bits and
/// 0 for the outer one itself, 1, 2, … for its inner ones in order of execution.
fn walk<'a>(message: &'a Message, meta: Option<&'a TransactionStatusMeta>) -> Vec<Instruction<'a>> {
    let mut inner_of: HashMap<u32, Vec<&'a InnerInstruction>> = HashMap::new();
    for group in meta.into_iter().flat_map(|meta| &meta.inner_instructions) {
        inner_of
            .entry(group.index)
            .or_default()
            .extend(&group.instructions);
    }
    let mut all = Vec::new();
    for (outer, number) in message.instructions.iter().zip(0_u32..) {
        all.push(Instruction {
            path: number << 16,
            stack_height: Some(1),
            program: outer.program_id_index,
            accounts: &outer.accounts,
            data: &outer.data,
        });
        let inner = inner_of.remove(&number).unwrap_or_default();
        all.extend(inner.into_iter().zip(1_u32..).map(|(inner, order)| {
            Instruction {
                path: (number << 16) | order.min(0xffff),
                stack_height: inner
                    .stack_height
                    .and_then(|height| u8::try_from(height).ok()),
                program: inner.program_id_index,
                accounts: &inner.accounts,
                data: &inner.data,
            }
        }));
    }
    all
}

/// Where rows of one transaction stand.
struct Place<'a> {
    slot: u64,
    tx_index: u32,
    success: Option<bool>,
    keys: &'a [Key],
}

impl Place<'_> {
    fn key(&self, index: u32) -> Option<Key> {
        self.keys.get(usize::try_from(index).ok()?).copied()
    }

    fn instruction(&self, instruction: &Instruction<'_>, program: Key) -> InstructionRow {
        let mut first = [0; 8];
        let known = instruction.data.len().min(8);
        first[..known].copy_from_slice(&instruction.data[..known]);
        InstructionRow {
            slot: self.slot,
            tx_index: self.tx_index,
            path: instruction.path,
            stack_height: instruction.stack_height,
            program,
            discriminator: u64::from_le_bytes(first),
            data: Blob(instruction.data.to_vec()),
            accounts: instruction
                .accounts
                .iter()
                .filter_map(|index| self.key(u32::from(*index)))
                .collect(),
            success: self.success,
        }
    }

    fn token_transfers(
        &self,
        instruction: &Instruction<'_>,
        program: &Key,
        mints: &HashMap<u32, Key>,
    ) -> Vec<TokenTransferRow> {
        let located = token_program::movements(program, instruction.data, instruction.accounts);
        let row = |(located, event_index): (token_program::Located<'_>, u16)| {
            let movement = located.movement;
            let index = |place: Option<u8>| {
                place
                    .and_then(|place| located.accounts.get(usize::from(place)))
                    .copied()
                    .map(u32::from)
            };
            let account = |place: Option<u8>| index(place).and_then(|index| self.key(index));
            // A plain transfer names no mint; the balances of either side do, when the transaction lists them.
            let of_balance =
                |place: Option<u8>| index(place).and_then(|index| mints.get(&index)).copied();
            TokenTransferRow {
                slot: self.slot,
                tx_index: self.tx_index,
                path: instruction.path,
                event_index,
                kind: movement.kind,
                program: *program,
                mint: account(movement.mint)
                    .or_else(|| of_balance(movement.source))
                    .or_else(|| of_balance(movement.destination)),
                source: account(movement.source),
                destination: account(movement.destination),
                authority: account(movement.authority),
                amount: movement.amount,
                decimals: movement.decimals,
                fee: movement.fee,
                success: self.success,
            }
        };
        located.into_iter().zip(0_u16..).map(row).collect()
    }
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

fn account_update(
    slot: u64,
    update: &SubscribeUpdateAccount,
    index_of_signature: &HashMap<&[u8], u32>,
) -> Option<AccountUpdateRow> {
    let account = update.account.as_ref()?;
    Some(AccountUpdateRow {
        slot,
        account: key(&account.pubkey)?,
        write_version: account.write_version,
        tx_index: account
            .txn_signature
            .as_ref()
            .and_then(|signature| index_of_signature.get(signature.as_slice()))
            .copied(),
        lamports: account.lamports,
        owner: key(&account.owner)?,
        executable: account.executable,
        rent_epoch: account.rent_epoch,
        data: Blob(account.data.clone()),
    })
}

fn reward_row(slot: u64, reward_index: u32, reward: &Reward) -> RewardRow {
    let mut account = [0; 32];
    let decoded = bs58::decode(&reward.pubkey)
        .onto(&mut account)
        .is_ok_and(|length| length == 32);
    RewardRow {
        slot,
        reward_index,
        account: decoded.then_some(account),
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
