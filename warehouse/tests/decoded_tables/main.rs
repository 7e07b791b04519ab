//! Decoded rows in a real engine.

#[path = "../built_door/mod.rs"]
mod built_door;
mod candles;
#[path = "../decode_proof/mod.rs"]
mod decode_proof;
mod idls;
mod recorded_blocks;
mod rollups;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use built_door::start_door;
use decode_proof::recorded;
use event_log::{EventLog, MemoryLog};
use event_schema::{
    Topics,
    proto::{
        confirmed_block::{
            CompiledInstruction, InnerInstruction, InnerInstructions, Message, TokenBalance,
            Transaction, TransactionStatusMeta, UiTokenAmount,
        },
        geyser::{SlotStatus, SubscribeUpdateTransactionInfo},
    },
};
use local_services::ClickHouseDoor;
use service_host::Host;
use sha2::{Digest, Sha256};
use support::{ask, block_of, create_topics, status, until};
use warehouse::{
    decode::{Trace, decode, programs},
    sink::{SinkConfig, run_on},
};

struct Bed {
    door: ClickHouseDoor,
    log: MemoryLog,
    topics: Topics,
}

impl Bed {
    async fn start() -> Self {
        let bed = Self {
            door: start_door().await,
            log: MemoryLog::new(),
            topics: Topics::new("heliograph"),
        };
        create_topics(&bed.log, &bed.topics).await.unwrap();
        bed
    }

    fn sink(&self, idl_folder: PathBuf) -> (Host, tokio::task::JoinHandle<anyhow::Result<()>>) {
        let host = Host::detached();
        let config = SinkConfig {
            clickhouse_url: self.door.url(),
            flush_ms: 20,
            idl_folder,
            ..SinkConfig::default()
        };
        let task = tokio::spawn(run_on(Arc::new(self.log.clone()), config, host.clone()));
        (host, task)
    }

    async fn publish(
        &self,
        slot: u64,
        transactions: Vec<SubscribeUpdateTransactionInfo>,
        statuses: &[SlotStatus],
    ) {
        let writer = self.log.writer().await.unwrap();
        let mut records = block_of(&self.topics, slot, 1, transactions);
        records.extend(statuses.iter().map(|to| status(&self.topics, slot, 1, *to)));
        writer.append(records).await.unwrap();
    }

    async fn ask(&self, sql: &str) -> String {
        ask(&self.door.url(), sql).await
    }

    async fn until(&self, sql: &str, expected: &str) {
        until(&self.door.url(), sql, expected).await;
    }
}

const POOL: u8 = 40;
const BASE: [u8; 32] = [7; 32];

fn balance(index: u32, mint: [u8; 32], amount: u64) -> TokenBalance {
    TokenBalance {
        account_index: index,
        mint: bs58::encode(mint).into_string(),
        owner: bs58::encode([50; 32]).into_string(),
        ui_token_amount: Some(UiTokenAmount {
            decimals: 6,
            amount: amount.to_string(),
            ..UiTokenAmount::default()
        }),
        ..TokenBalance::default()
    }
}

/// A swap in a constant product pool by its own instruction: `sol` lamports, wrapped, for `tokens`.
fn swap(index: u64, sol: u64, tokens: u64, fails: bool) -> SubscribeUpdateTransactionInfo {
    const VAULT_IN: u32 = 6;
    const VAULT_OUT: u32 = 7;
    let moved = |from: u8, to: u8, amount: u64, authority: u8| InnerInstruction {
        program_id_index: 8,
        accounts: vec![from, to, authority],
        data: [&[3_u8][..], &amount.to_le_bytes()].concat(),
        stack_height: Some(2),
    };
    let key = |byte: u8| vec![byte; 32];
    let mut keys = vec![
        key(1),
        key(2),
        key(3),
        key(POOL),
        key(4),
        key(5),
        key(60),
        key(61),
    ];
    keys.extend([programs::TOKEN.to_vec(), programs::RAYDIUM_CPMM.to_vec()]);
    let holds = |sol_in, tokens_out| {
        vec![
            balance(4, programs::WRAPPED_SOL, 10_000_000_000 - sol_in),
            balance(5, BASE, tokens_out),
            balance(VAULT_IN, programs::WRAPPED_SOL, 1_000_000 + sol_in),
            balance(VAULT_OUT, BASE, 10_000_000_000 - tokens_out),
        ]
    };
    let (sol_moved, tokens_moved) = if fails { (0, 0) } else { (sol, tokens) };
    let mut signature = vec![9; 64];
    signature[..8].copy_from_slice(&index.to_le_bytes());
    SubscribeUpdateTransactionInfo {
        signature: signature.clone(),
        is_vote: false,
        index,
        transaction: Some(Transaction {
            signatures: vec![signature],
            message: Some(Message {
                account_keys: keys,
                recent_blockhash: vec![8; 32],
                instructions: vec![CompiledInstruction {
                    program_id_index: 9,
                    accounts: vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 8],
                    data: [
                        &[143, 190, 90, 218, 196, 30, 51, 222][..],
                        &sol.to_le_bytes(),
                        &0_u64.to_le_bytes(),
                    ]
                    .concat(),
                }],
                ..Message::default()
            }),
        }),
        meta: Some(TransactionStatusMeta {
            err: fails.then(|| event_schema::proto::confirmed_block::TransactionError {
                err: vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0],
            }),
            fee: 5_000,
            pre_balances: vec![1_000_000; 10],
            post_balances: [vec![995_000], vec![1_000_000; 9]].concat(),
            pre_token_balances: holds(0, 0),
            post_token_balances: holds(sol_moved, tokens_moved),
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: vec![moved(4, 6, sol, 0), moved(7, 5, tokens, 1)],
            }],
            ..TransactionStatusMeta::default()
        }),
    }
}
