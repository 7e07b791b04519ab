//! The oracle: what a callback reports, as the protobuf structs that prost encodes, made the plain way. For tests and for the
//! fuzz target, which takes this file as its own.

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaBlockInfoV4, ReplicaContactInfoV0_0_1,
    ReplicaDeshredTransactionInfoV2, ReplicaEntryInfoV2, ReplicaTransactionInfoV3, SlotStatus,
};
use event_schema::proto::{
    confirmed_block as storage,
    geyser::{
        self, SubscribeUpdate, SubscribeUpdateContactInfoNode, SubscribeUpdateContactInfoRemoved,
        SubscribeUpdateDeshred, SubscribeUpdateDeshredTransaction,
        SubscribeUpdateDeshredTransactionInfo, SubscribeUpdateGossip,
        subscribe_update::UpdateOneof, subscribe_update_deshred::UpdateOneof as DeshredOneof,
        subscribe_update_gossip::UpdateOneof as GossipOneof,
    },
};
use solana_message::VersionedMessage;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::{
    Reward, RewardType, TransactionStatusMeta, TransactionTokenBalance,
};

fn update(update: UpdateOneof) -> SubscribeUpdate {
    SubscribeUpdate {
        filters: Vec::new(),
        created_at: None,
        update_oneof: Some(update),
    }
}

pub fn account(slot: u64, is_startup: bool, account: &ReplicaAccountInfoV3<'_>) -> SubscribeUpdate {
    update(UpdateOneof::Account(geyser::SubscribeUpdateAccount {
        account: Some(geyser::SubscribeUpdateAccountInfo {
            pubkey: account.pubkey.to_vec(),
            lamports: account.lamports,
            owner: account.owner.to_vec(),
            executable: account.executable,
            rent_epoch: account.rent_epoch,
            data: account.data.to_vec(),
            write_version: account.write_version,
            txn_signature: account
                .txn
                .map(|transaction| transaction.signature().as_ref().to_vec()),
        }),
        slot,
        is_startup,
    }))
}

pub fn slot_status(slot: u64, parent: Option<u64>, status: &SlotStatus) -> SubscribeUpdate {
    let (plain, dead_error) = match status {
        SlotStatus::Processed => (geyser::SlotStatus::SlotProcessed, None),
        SlotStatus::Confirmed => (geyser::SlotStatus::SlotConfirmed, None),
        SlotStatus::Rooted => (geyser::SlotStatus::SlotFinalized, None),
        SlotStatus::FirstShredReceived => (geyser::SlotStatus::SlotFirstShredReceived, None),
        SlotStatus::Completed => (geyser::SlotStatus::SlotCompleted, None),
        SlotStatus::CreatedBank => (geyser::SlotStatus::SlotCreatedBank, None),
        SlotStatus::Dead(error) => (geyser::SlotStatus::SlotDead, Some(error.clone())),
    };
    update(UpdateOneof::Slot(geyser::SubscribeUpdateSlot {
        slot,
        parent,
        status: plain.into(),
        dead_error,
    }))
}

pub fn transaction(slot: u64, info: &ReplicaTransactionInfoV3<'_>) -> SubscribeUpdate {
    update(UpdateOneof::Transaction(
        geyser::SubscribeUpdateTransaction {
            transaction: Some(geyser::SubscribeUpdateTransactionInfo {
                signature: info.signature.as_ref().to_vec(),
                is_vote: info.is_vote,
                transaction: Some(executable(info.transaction)),
                meta: Some(status_meta(info.transaction_status_meta)),
                index: info.index as u64,
            }),
            slot,
        },
    ))
}

pub fn deshred(slot: u64, info: &ReplicaDeshredTransactionInfoV2<'_>) -> SubscribeUpdateDeshred {
    let loaded = info.loaded_addresses.cloned().unwrap_or_default();
    let keys =
        |keys: Vec<solana_address::Address>| keys.iter().map(|key| key.as_ref().to_vec()).collect();
    SubscribeUpdateDeshred {
        filters: Vec::new(),
        created_at: None,
        update_oneof: Some(DeshredOneof::DeshredTransaction(
            SubscribeUpdateDeshredTransaction {
                transaction: Some(SubscribeUpdateDeshredTransactionInfo {
                    signature: info.signature.as_ref().to_vec(),
                    is_vote: info.is_vote,
                    transaction: Some(executable(info.transaction)),
                    loaded_writable_addresses: keys(loaded.writable),
                    loaded_readonly_addresses: keys(loaded.readonly),
                    completed_data_set_starting_shred_index: info
                        .completed_data_set_starting_shred_index,
                    completed_data_set_ending_shred_index_exclusive: info
                        .completed_data_set_ending_shred_index_exclusive,
                }),
                slot,
            },
        )),
    }
}

fn gossip(update: GossipOneof) -> SubscribeUpdateGossip {
    SubscribeUpdateGossip {
        created_at: None,
        seq: 0,
        update_oneof: Some(update),
    }
}

pub fn contact_info(info: &ReplicaContactInfoV0_0_1<'_>) -> SubscribeUpdateGossip {
    let text = |socket: &Option<std::net::SocketAddr>| socket.map(|socket| socket.to_string());
    gossip(GossipOneof::Node(SubscribeUpdateContactInfoNode {
        pubkey: info.pubkey.to_vec(),
        wallclock: info.wallclock,
        outset: info.outset,
        shred_version: info.shred_version.into(),
        version_major: info.version_major.into(),
        version_minor: info.version_minor.into(),
        version_patch: info.version_patch.into(),
        version_commit: info.version_commit,
        version_feature_set: info.version_feature_set,
        version_client_id: info.version_client_id.into(),
        gossip: text(&info.gossip),
        tpu_quic: text(&info.tpu_quic),
        tpu_forwards_quic: text(&info.tpu_forwards_quic),
        tpu_vote_udp: text(&info.tpu_vote_udp),
        tpu_vote_quic: text(&info.tpu_vote_quic),
        tvu_udp: text(&info.tvu_udp),
        tvu_quic: text(&info.tvu_quic),
        serve_repair_udp: text(&info.serve_repair_udp),
        serve_repair_quic: text(&info.serve_repair_quic),
        rpc: text(&info.rpc),
        rpc_pubsub: text(&info.rpc_pubsub),
        alpenglow: text(&info.alpenglow),
    }))
}

pub fn contact_info_removed(pubkey: &[u8]) -> SubscribeUpdateGossip {
    gossip(GossipOneof::Removed(SubscribeUpdateContactInfoRemoved {
        pubkey: pubkey.to_vec(),
    }))
}

pub fn entry(entry: &ReplicaEntryInfoV2<'_>) -> SubscribeUpdate {
    update(UpdateOneof::Entry(geyser::SubscribeUpdateEntry {
        slot: entry.slot,
        index: entry.index as u64,
        num_hashes: entry.num_hashes,
        hash: entry.hash.to_vec(),
        executed_transaction_count: entry.executed_transaction_count,
        starting_transaction_index: entry.starting_transaction_index as u64,
    }))
}

pub fn block_meta(block: &ReplicaBlockInfoV4<'_>) -> SubscribeUpdate {
    update(UpdateOneof::BlockMeta(geyser::SubscribeUpdateBlockMeta {
        slot: block.slot,
        blockhash: block.blockhash.into(),
        rewards: Some(storage::Rewards {
            rewards: block.rewards.rewards.iter().map(reward).collect(),
            num_partitions: block
                .rewards
                .num_partitions
                .map(|num_partitions| storage::NumPartitions { num_partitions }),
        }),
        block_time: block
            .block_time
            .map(|timestamp| storage::UnixTimestamp { timestamp }),
        block_height: block
            .block_height
            .map(|block_height| storage::BlockHeight { block_height }),
        parent_slot: block.parent_slot,
        parent_blockhash: block.parent_blockhash.into(),
        executed_transaction_count: block.executed_transaction_count,
        entries_count: block.entry_count,
    }))
}

pub fn executable(transaction: &VersionedTransaction) -> storage::Transaction {
    let message = &transaction.message;
    let header = message.header();
    storage::Transaction {
        signatures: transaction
            .signatures
            .iter()
            .map(|signature| signature.as_ref().to_vec())
            .collect(),
        message: Some(storage::Message {
            header: Some(storage::MessageHeader {
                num_required_signatures: header.num_required_signatures.into(),
                num_readonly_signed_accounts: header.num_readonly_signed_accounts.into(),
                num_readonly_unsigned_accounts: header.num_readonly_unsigned_accounts.into(),
            }),
            account_keys: message
                .static_account_keys()
                .iter()
                .map(|key| key.as_ref().to_vec())
                .collect(),
            recent_blockhash: message.recent_blockhash().as_ref().to_vec(),
            instructions: message
                .instructions()
                .iter()
                .map(|instruction| storage::CompiledInstruction {
                    program_id_index: instruction.program_id_index.into(),
                    accounts: instruction.accounts.clone(),
                    data: instruction.data.clone(),
                })
                .collect(),
            versioned: !matches!(message, VersionedMessage::Legacy(_)),
            address_table_lookups: message
                .address_table_lookups()
                .unwrap_or_default()
                .iter()
                .map(|lookup| storage::MessageAddressTableLookup {
                    account_key: lookup.account_key.as_ref().to_vec(),
                    writable_indexes: lookup.writable_indexes.clone(),
                    readonly_indexes: lookup.readonly_indexes.clone(),
                })
                .collect(),
            config: match message {
                VersionedMessage::V1(message) => Some(storage::TransactionConfig {
                    priority_fee: message.config.priority_fee,
                    compute_unit_limit: message.config.compute_unit_limit,
                    loaded_accounts_data_size_limit: message.config.loaded_accounts_data_size_limit,
                    heap_size: message.config.heap_size,
                }),
                _ => None,
            },
        }),
    }
}

fn reward(reward: &Reward) -> storage::Reward {
    storage::Reward {
        pubkey: reward.pubkey.clone(),
        lamports: reward.lamports,
        post_balance: reward.post_balance,
        reward_type: match reward.reward_type {
            None => storage::RewardType::Unspecified,
            Some(RewardType::Fee) => storage::RewardType::Fee,
            Some(RewardType::Rent) => storage::RewardType::Rent,
            Some(RewardType::Staking) => storage::RewardType::Staking,
            Some(RewardType::Voting) => storage::RewardType::Voting,
            Some(RewardType::DeactivatedStake) => storage::RewardType::DeactivatedStake,
        }
        .into(),
        commission: reward
            .commission
            .map(|percent| percent.to_string())
            .unwrap_or_default(),
        commission_bps: reward
            .commission_bps
            .map(|points| points.to_string())
            .unwrap_or_default(),
    }
}

fn token_balances(balances: &Option<Vec<TransactionTokenBalance>>) -> Vec<storage::TokenBalance> {
    let balances = balances.iter().flatten();
    balances
        .map(|balance| storage::TokenBalance {
            account_index: balance.account_index.into(),
            mint: balance.mint.clone(),
            ui_token_amount: Some(storage::UiTokenAmount {
                ui_amount: balance.ui_token_amount.ui_amount.unwrap_or_default(),
                decimals: balance.ui_token_amount.decimals.into(),
                amount: balance.ui_token_amount.amount.clone(),
                ui_amount_string: balance.ui_token_amount.ui_amount_string.clone(),
            }),
            owner: balance.owner.clone(),
            program_id: balance.program_id.clone(),
        })
        .collect()
}

pub fn status_meta(meta: &TransactionStatusMeta) -> storage::TransactionStatusMeta {
    storage::TransactionStatusMeta {
        err: meta
            .status
            .as_ref()
            .err()
            .map(|error| storage::TransactionError {
                err: bincode::serialize(error).unwrap(),
            }),
        fee: meta.fee,
        pre_balances: meta.pre_balances.clone(),
        post_balances: meta.post_balances.clone(),
        inner_instructions: meta
            .inner_instructions
            .iter()
            .flatten()
            .map(|inner| storage::InnerInstructions {
                index: inner.index.into(),
                instructions: inner
                    .instructions
                    .iter()
                    .map(|inner| storage::InnerInstruction {
                        program_id_index: inner.instruction.program_id_index.into(),
                        accounts: inner.instruction.accounts.clone(),
                        data: inner.instruction.data.clone(),
                        stack_height: inner.stack_height,
                    })
                    .collect(),
            })
            .collect(),
        inner_instructions_none: meta.inner_instructions.is_none(),
        log_messages: meta.log_messages.clone().unwrap_or_default(),
        log_messages_none: meta.log_messages.is_none(),
        pre_token_balances: token_balances(&meta.pre_token_balances),
        post_token_balances: token_balances(&meta.post_token_balances),
        rewards: meta.rewards.iter().flatten().map(reward).collect(),
        loaded_writable_addresses: meta
            .loaded_addresses
            .writable
            .iter()
            .map(|key| key.as_ref().to_vec())
            .collect(),
        loaded_readonly_addresses: meta
            .loaded_addresses
            .readonly
            .iter()
            .map(|key| key.as_ref().to_vec())
            .collect(),
        return_data: meta.return_data.as_ref().map(|data| storage::ReturnData {
            program_id: data.program_id.as_ref().to_vec(),
            data: data.data.clone(),
        }),
        return_data_none: meta.return_data.is_none(),
        compute_units_consumed: meta.compute_units_consumed,
        cost_units: meta.cost_units,
    }
}
