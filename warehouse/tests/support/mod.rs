//! Canonical records as the router publishes them, and short ways to ask a door.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use event_log::{EventLog, MemoryLog, NewRecord, TopicSpec};
use event_schema::{
    Blockhash, CanonicalHeader, CanonicalSeal, Kind, Slot, Topics, partition_of_slot,
    proto::{
        Message as _,
        confirmed_block::{
            CompiledInstruction, InnerInstruction, InnerInstructions, Message, Transaction,
            TransactionStatusMeta, UnixTimestamp,
        },
        geyser::{
            SlotStatus, SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo,
            SubscribeUpdateBlockMeta, SubscribeUpdateSlot, SubscribeUpdateTransaction,
            SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
        },
    },
};

use service_host::Host;
use tokio::task::JoinHandle;
use warehouse::sink::{SinkConfig, run_on};

pub const PARTITIONS: u32 = 4;
/// `TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA`.
const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";

/// The topics that a sink reads and writes.
pub async fn create_topics(log: &dyn EventLog, topics: &Topics) -> event_log::Result<()> {
    let spec = |name: &str, partitions| TopicSpec {
        name: name.into(),
        partitions,
        compacted: false,
        config: Vec::new(),
        replication: 1,
    };
    log.ensure_topics(&[
        spec(&topics.canonical, PARTITIONS),
        spec(&topics.dead_letters, 1),
    ])
    .await
}

/// A sink over `log` into the door at `url`; it ends when its host is asked to drain.
pub fn start_sink(log: &MemoryLog, url: &str) -> (Host, JoinHandle<anyhow::Result<()>>) {
    let host = Host::detached();
    let config = SinkConfig {
        clickhouse_url: url.into(),
        flush_ms: 20,
        ..SinkConfig::default()
    };
    let task = tokio::spawn(run_on(Arc::new(log.clone()), config, host.clone()));
    (host, task)
}

pub fn blockhash(slot: u64, fork: u8) -> Blockhash {
    let mut hash = [fork; 32];
    hash[..8].copy_from_slice(&slot.to_le_bytes());
    Blockhash(hash)
}

fn record(
    topics: &Topics,
    kind: Kind,
    slot: u64,
    fork: u8,
    index: u32,
    value: Vec<u8>,
) -> NewRecord {
    NewRecord {
        topic: Arc::clone(&topics.canonical),
        partition: partition_of_slot(Slot(slot), PARTITIONS),
        key: Bytes::copy_from_slice(&slot.to_be_bytes()),
        header: Bytes::copy_from_slice(
            &CanonicalHeader {
                kind,
                slot: Slot(slot),
                blockhash: blockhash(slot, fork),
                index,
            }
            .encode(),
        ),
        value: value.into(),
    }
}

fn update(update: UpdateOneof) -> Vec<u8> {
    SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    }
    .encode_to_vec()
}

/// A transaction with one outer instruction and one inner token transfer; its payer pays 5,000 lamports.
fn transaction(slot: u64, fork: u8, index: u64) -> SubscribeUpdateTransactionInfo {
    let mut signature = vec![fork; 64];
    signature[..8].copy_from_slice(&slot.to_le_bytes());
    signature[8..16].copy_from_slice(&index.to_le_bytes());
    // Blank lines in binary data are what an embedded engine cuts at.
    signature[16..20].copy_from_slice(b"\n\n\n\n");
    let inner = InnerInstruction {
        program_id_index: 2,
        accounts: vec![0, 1, 0],
        data: [&[3][..], &(slot + index).to_le_bytes()].concat(),
        stack_height: Some(2),
    };
    SubscribeUpdateTransactionInfo {
        signature: signature.clone(),
        is_vote: index % 3 == 0,
        index,
        transaction: Some(Transaction {
            signatures: vec![signature],
            message: Some(Message {
                account_keys: vec![
                    vec![1; 32],
                    vec![2; 32],
                    bs58::decode(TOKEN).into_vec().unwrap(),
                    vec![10; 32],
                ],
                recent_blockhash: vec![8; 32],
                instructions: vec![CompiledInstruction {
                    program_id_index: 3,
                    accounts: vec![0],
                    data: b"\n\n\n\n".to_vec(),
                }],
                ..Message::default()
            }),
        }),
        meta: Some(TransactionStatusMeta {
            fee: 5_000,
            pre_balances: vec![1_000_000, 5, 1, 1],
            post_balances: vec![995_000, 5, 1, 1],
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: vec![inner],
            }],
            log_messages: vec!["Program log: hello".into(), "\n\n".into()],
            ..TransactionStatusMeta::default()
        }),
    }
}

/// All records of a published block with so many transactions and one account update.
pub fn block(topics: &Topics, slot: u64, fork: u8, transactions: u64) -> Vec<NewRecord> {
    let transactions = (0..transactions).map(|index| transaction(slot, fork, index));
    block_of(topics, slot, fork, transactions.collect())
}

/// All records of a published block with these transactions and one account update.
pub fn block_of(
    topics: &Topics,
    slot: u64,
    fork: u8,
    transactions: Vec<SubscribeUpdateTransactionInfo>,
) -> Vec<NewRecord> {
    let account = SubscribeUpdateAccountInfo {
        pubkey: vec![1; 32],
        lamports: slot,
        owner: vec![0; 32],
        data: b"\n\n".to_vec(),
        write_version: slot,
        ..SubscribeUpdateAccountInfo::default()
    };
    block_with(topics, slot, fork, vec![account], transactions)
}

/// All records of a published block with these writes and transactions.
pub fn block_with(
    topics: &Topics,
    slot: u64,
    fork: u8,
    accounts: Vec<SubscribeUpdateAccountInfo>,
    transactions: Vec<SubscribeUpdateTransactionInfo>,
) -> Vec<NewRecord> {
    let counts = (transactions.len() as u64, accounts.len() as u64);
    let write = |account| {
        update(UpdateOneof::Account(SubscribeUpdateAccount {
            slot,
            account: Some(account),
            ..SubscribeUpdateAccount::default()
        }))
    };
    let writes = accounts
        .into_iter()
        .map(|account| (Kind::Account, write(account)));
    let mut values: Vec<_> = writes.collect();
    values.extend(transactions.into_iter().map(|transaction| {
        (
            Kind::Transaction,
            update(UpdateOneof::Transaction(SubscribeUpdateTransaction {
                slot,
                transaction: Some(transaction),
            })),
        )
    }));
    let block_time = Some(UnixTimestamp {
        timestamp: 1_700_000_000 + slot as i64,
    });
    values.push((
        Kind::BlockMeta,
        update(UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta {
            slot,
            block_time,
            ..SubscribeUpdateBlockMeta::default()
        })),
    ));
    let seal = CanonicalSeal {
        slot,
        blockhash: blockhash(slot, fork).0.to_vec(),
        parent_slot: slot.saturating_sub(1),
        parent_blockhash: vec![0; 32],
        transactions: counts.0,
        accounts: counts.1,
        ..CanonicalSeal::default()
    };
    values.push((Kind::Seal, seal.encode_to_vec()));
    values
        .into_iter()
        .zip(0..)
        .map(|((kind, value), index)| record(topics, kind, slot, fork, index, value))
        .collect()
}

pub fn status(topics: &Topics, slot: u64, fork: u8, status: SlotStatus) -> NewRecord {
    let value = update(UpdateOneof::Slot(SubscribeUpdateSlot {
        slot,
        status: status.into(),
        ..SubscribeUpdateSlot::default()
    }));
    record(topics, Kind::Status, slot, fork, 0, value)
}

/// A record that is no protobuf.
pub fn damaged(topics: &Topics, slot: u64) -> NewRecord {
    record(topics, Kind::Status, slot, 1, 0, vec![0xff, 0xff])
}

/// Status and text of `POST url` with `body`.
pub async fn post(url: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let response = reqwest::Client::new()
        .post(url)
        .body(body)
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The trimmed answer of a statement that must succeed.
pub async fn ask(url: &str, sql: &str) -> String {
    let (status, text) = post(url, sql.to_owned()).await;
    assert_eq!(status, 200, "{sql}: {text}");
    text.trim_end().to_owned()
}

/// Waits until `sql` answers `expected`, also through a door that is being started again.
pub async fn until(url: &str, sql: &str, expected: &str) {
    let started = Instant::now();
    loop {
        let response = reqwest::Client::new()
            .post(url)
            .body(sql.to_owned())
            .send()
            .await;
        let text = match response {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        if text.trim_end() == expected {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "{sql}: {text:?}, not {expected:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
