//! The plain alternative, to compare with: a plugin as one writes it first. Each callback converts what it is shown into the
//! protobuf structs, encodes them by prost, and sends the bytes to a [`Sink`]: over an unbounded channel, from which a thread
//! receives and drops them; in the bench of throughput, to Kafka.
//!
//! It does less than a plugin must: no sequence, no seal, no bound, nowhere to send to.

use std::{
    fmt,
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    GeyserPlugin, GeyserPluginError, ReplicaAccountInfoV3, ReplicaAccountInfoVersions,
    ReplicaBlockInfoV4, ReplicaBlockInfoVersions, ReplicaEntryInfoV2, ReplicaEntryInfoVersions,
    ReplicaTransactionInfoV3, ReplicaTransactionInfoVersions, Result, SlotStatus,
};
use event_schema::ObservedTopic;
use prost::Message as _;
use yellowstone_grpc_proto::{
    geyser::{
        self, SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
        SubscribeUpdateBlockMeta, SubscribeUpdateEntry, SubscribeUpdateSlot,
        SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
    },
    solana::storage::confirmed_block as storage,
};

mod conversion;

/// Where encoded updates go.
pub trait Sink: Send + Sync + 'static {
    /// `key` and `topic` are those our plugin would choose.
    fn send(&self, topic: ObservedTopic, key: &[u8], bytes: Vec<u8>) -> Result<()>;
}

/// See the module.
pub struct Baseline<S> {
    sink: S,
}

impl Baseline<Channel> {
    pub fn start() -> std::io::Result<Self> {
        Ok(Self::new(Channel::start()?))
    }
}

impl<S: Sink> Baseline<S> {
    pub fn new(sink: S) -> Self {
        Self { sink }
    }

    fn send(&self, topic: ObservedTopic, key: &[u8], update: UpdateOneof) -> Result<()> {
        let update = SubscribeUpdate {
            filters: Vec::new(),
            created_at: None,
            update_oneof: Some(update),
        };
        self.sink.send(topic, key, update.encode_to_vec())
    }

    fn send_slot(&self, slot: u64, update: UpdateOneof) -> Result<()> {
        self.send(ObservedTopic::Slots, &slot.to_be_bytes(), update)
    }
}

/// The unbounded channel and its receiver.
pub struct Channel {
    /// `None` only while it is dropped.
    updates: Option<Sender<Vec<u8>>>,
    receiver: Option<JoinHandle<()>>,
}

impl Channel {
    fn start() -> std::io::Result<Self> {
        let (updates, received) = mpsc::channel::<Vec<u8>>();
        let receiver = thread::Builder::new()
            .name("baselineDrop".into())
            .spawn(move || received.into_iter().for_each(drop))?;
        Ok(Self {
            updates: Some(updates),
            receiver: Some(receiver),
        })
    }
}

impl Sink for Channel {
    fn send(&self, _topic: ObservedTopic, _key: &[u8], bytes: Vec<u8>) -> Result<()> {
        match self.updates.as_ref().map(|updates| updates.send(bytes)) {
            Some(Ok(())) => Ok(()),
            _ => Err(GeyserPluginError::Custom("the receiver is gone".into())),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.updates = None;
        if let Some(receiver) = self.receiver.take() {
            // It only drops bytes; nothing in it panics.
            let _ = receiver.join();
        }
    }
}

impl<S> fmt::Debug for Baseline<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Baseline")
    }
}

impl<S: Sink> GeyserPlugin for Baseline<S> {
    fn name(&self) -> &'static str {
        "baseline"
    }

    fn update_account(
        &self,
        account: ReplicaAccountInfoVersions,
        slot: u64,
        is_startup: bool,
    ) -> Result<()> {
        match account {
            ReplicaAccountInfoVersions::V0_0_3(info) => {
                let update = account_update(info, slot, is_startup);
                self.send(ObservedTopic::Accounts, info.pubkey, update)
            }
            _ => Err(other_version()),
        }
    }

    fn update_slot_status(
        &self,
        slot: u64,
        parent: Option<u64>,
        status: &SlotStatus,
    ) -> Result<()> {
        self.send_slot(slot, slot_update(slot, parent, status))
    }

    fn notify_transaction(
        &self,
        transaction: ReplicaTransactionInfoVersions,
        slot: u64,
    ) -> Result<()> {
        match transaction {
            ReplicaTransactionInfoVersions::V0_0_3(info) => {
                let (key, update) = (info.signature.as_ref(), transaction_update(info, slot));
                self.send(ObservedTopic::Transactions, key, update)
            }
            _ => Err(other_version()),
        }
    }

    fn notify_entry(&self, entry: ReplicaEntryInfoVersions) -> Result<()> {
        match entry {
            ReplicaEntryInfoVersions::V0_0_2(info) => self.send_slot(info.slot, entry_update(info)),
            _ => Err(other_version()),
        }
    }

    fn notify_block_metadata(&self, block: ReplicaBlockInfoVersions) -> Result<()> {
        match block {
            ReplicaBlockInfoVersions::V0_0_4(info) => self.send_slot(info.slot, block_update(info)),
            _ => Err(other_version()),
        }
    }

    fn transaction_notifications_enabled(&self) -> bool {
        true
    }

    fn entry_notifications_enabled(&self) -> bool {
        true
    }
}

fn other_version() -> GeyserPluginError {
    GeyserPluginError::Custom("not the version that interface 4.2 passes".into())
}

pub fn account_update(info: &ReplicaAccountInfoV3<'_>, slot: u64, is_startup: bool) -> UpdateOneof {
    UpdateOneof::Account(SubscribeUpdateAccount {
        account: Some(SubscribeUpdateAccountInfo {
            pubkey: info.pubkey.to_vec(),
            lamports: info.lamports,
            owner: info.owner.to_vec(),
            executable: info.executable,
            rent_epoch: info.rent_epoch,
            data: info.data.to_vec(),
            write_version: info.write_version,
            txn_signature: info.txn.map(|txn| txn.signature().as_ref().to_vec()),
        }),
        slot,
        is_startup,
    })
}

pub fn transaction_update(info: &ReplicaTransactionInfoV3<'_>, slot: u64) -> UpdateOneof {
    UpdateOneof::Transaction(SubscribeUpdateTransaction {
        transaction: Some(SubscribeUpdateTransactionInfo {
            signature: info.signature.as_ref().to_vec(),
            is_vote: info.is_vote,
            transaction: Some(conversion::transaction(info.transaction)),
            meta: Some(conversion::meta(info.transaction_status_meta)),
            index: info.index as u64,
        }),
        slot,
    })
}

fn slot_update(slot: u64, parent: Option<u64>, status: &SlotStatus) -> UpdateOneof {
    UpdateOneof::Slot(SubscribeUpdateSlot {
        slot,
        parent,
        status: match status {
            SlotStatus::Processed => geyser::SlotStatus::SlotProcessed,
            SlotStatus::Confirmed => geyser::SlotStatus::SlotConfirmed,
            SlotStatus::Rooted => geyser::SlotStatus::SlotFinalized,
            SlotStatus::FirstShredReceived => geyser::SlotStatus::SlotFirstShredReceived,
            SlotStatus::Completed => geyser::SlotStatus::SlotCompleted,
            SlotStatus::CreatedBank => geyser::SlotStatus::SlotCreatedBank,
            SlotStatus::Dead(_) => geyser::SlotStatus::SlotDead,
        }
        .into(),
        dead_error: match status {
            SlotStatus::Dead(error) => Some(error.clone()),
            _ => None,
        },
    })
}

fn entry_update(info: &ReplicaEntryInfoV2<'_>) -> UpdateOneof {
    UpdateOneof::Entry(SubscribeUpdateEntry {
        slot: info.slot,
        index: info.index as u64,
        num_hashes: info.num_hashes,
        hash: info.hash.to_vec(),
        executed_transaction_count: info.executed_transaction_count,
        starting_transaction_index: info.starting_transaction_index as u64,
    })
}

fn block_update(info: &ReplicaBlockInfoV4<'_>) -> UpdateOneof {
    UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
        slot: info.slot,
        blockhash: info.blockhash.into(),
        rewards: Some(storage::Rewards {
            rewards: info
                .rewards
                .rewards
                .iter()
                .map(conversion::reward)
                .collect(),
            num_partitions: info
                .rewards
                .num_partitions
                .map(|num_partitions| storage::NumPartitions { num_partitions }),
        }),
        block_time: info
            .block_time
            .map(|timestamp| storage::UnixTimestamp { timestamp }),
        block_height: info
            .block_height
            .map(|block_height| storage::BlockHeight { block_height }),
        parent_slot: info.parent_slot,
        parent_blockhash: info.parent_blockhash.into(),
        executed_transaction_count: info.executed_transaction_count,
        entries_count: info.entry_count,
    })
}
