//! The same by a real Agave validator, when it has been built: its TPU takes what we send, in every version.

mod bed;

use std::{path::Path, time::Duration};

use bed::{World, eventually};
use event_schema::{Blockhash, Signature};
use local_services::{Child, ChildSpec, cache_dir};
use serde_json::{Value, json};
use solana_hash::Hash;
use solana_keypair::{Keypair, Signer, read_keypair_file};
use solana_message::{Message, VersionedMessage, v0, v1};
use solana_system_interface::instruction as system;
use solana_transaction::versioned::VersionedTransaction;
use tx_sender::validator::Validator;

#[test]
fn a_real_leader_includes_what_is_sent() {
    let binary = cache_dir().join("target-validator/debug/localnet-validator");
    if !binary.is_file() {
        eprintln!(
            "skipped: the validator is not built ({} is not there)",
            binary.display()
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut child, rpc_url) = start(&binary, folder.path());
    let mut world = World::new(1);
    world.config.rpc_url = rpc_url.clone();
    // The machine may be busy with other tests.
    world.config.quic.ack_timeout_ms = 2_000;
    world.config.leaders.slot_poll_ms = 100;
    let sender = world.start();
    let payer = read_keypair_file(folder.path().join("mint.json")).unwrap();
    let validator = Validator::new(&rpc_url, Duration::from_secs(5)).unwrap();
    let blockhash = world.runtime.block_on(latest_blockhash(&rpc_url));
    for transaction in [
        legacy(&payer, blockhash.clone()),
        v0(&payer, blockhash.clone()),
        v1(&payer, blockhash.clone()),
    ] {
        let signature: Signature = sender.send(&transaction).parse().unwrap();
        eventually("it is in a block", || {
            let status = world
                .runtime
                .block_on(validator.signature_status(&signature))
                .unwrap();
            status.is_some_and(|status| {
                assert_eq!(status.error, None, "{:?}", transaction.version());
                true
            })
        });
        let known = world
            .runtime
            .block_on(validator.is_blockhash_valid(&Blockhash(blockhash.to_bytes())));
        assert!(known.unwrap());
    }
    eventually("its life was learnt from the validator", || {
        let page = sender.get("/v1/transactions").1;
        page["transactions"].as_array().is_some_and(|transactions| {
            transactions.len() == 3
                && transactions.iter().all(|transaction| {
                    transaction["lastValidBlockHeight"].is_u64()
                        && transaction["attemptsAcked"].as_u64() >= Some(1)
                })
        })
    });
    drop(sender);
    child.stop(Duration::from_secs(10));
}

/// The validator and its JSON-RPC address.
fn start(binary: &Path, folder: &Path) -> (Child, String) {
    // Below the ports that the system and the other tests hand out; each process its own stretch.
    let base = 12_000 + (std::process::id() % 60) * 130;
    let ready = folder.join("ready");
    let mut spec = ChildSpec::new("validator", binary, folder.join("validator.log")).output(&ready);
    for (flag, value) in [
        ("--ledger", folder.join("ledger").display().to_string()),
        (
            "--mint-keypair",
            folder.join("mint.json").display().to_string(),
        ),
        ("--rpc-port", base.to_string()),
        ("--gossip-port", (base + 2).to_string()),
        ("--dynamic-port", (base + 10).to_string()),
    ] {
        spec = spec.arg(flag).arg(value);
    }
    let mut child = Child::spawn(spec).unwrap();
    let mut rpc = None;
    child
        .wait_ready(Duration::from_secs(120), || {
            let output = std::fs::read_to_string(&ready).unwrap_or_default();
            let line = output.lines().find(|line| line.starts_with('{'));
            let told: Option<Value> = line.and_then(|line| serde_json::from_str(line).ok());
            rpc = told.and_then(|told| Some(told["rpc"].as_str()?.to_owned()));
            rpc.is_some()
        })
        .unwrap();
    (child, rpc.unwrap())
}

async fn latest_blockhash(rpc_url: &str) -> Hash {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "getLatestBlockhash", "params": [{"commitment": "processed"}]});
    let answer: Value = reqwest::Client::new()
        .post(rpc_url)
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let blockhash: Blockhash = answer["result"]["value"]["blockhash"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    Hash::new_from_array(blockhash.0)
}

/// Enough to make a new account rent exempt; each call its own receiver.
const LAMPORTS: u64 = 10_000_000;

fn legacy(payer: &Keypair, blockhash: Hash) -> VersionedTransaction {
    let instruction = system::transfer(&payer.pubkey(), &Keypair::new().pubkey(), LAMPORTS);
    let message = Message::new_with_blockhash(&[instruction], Some(&payer.pubkey()), &blockhash);
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[payer]).unwrap()
}

fn v0(payer: &Keypair, blockhash: Hash) -> VersionedTransaction {
    let instruction = system::transfer(&payer.pubkey(), &Keypair::new().pubkey(), LAMPORTS);
    let message =
        v0::Message::try_compile(&payer.pubkey(), &[instruction], &[], blockhash).unwrap();
    VersionedTransaction::try_new(VersionedMessage::V0(message), &[payer]).unwrap()
}

fn v1(payer: &Keypair, blockhash: Hash) -> VersionedTransaction {
    let instruction = system::transfer(&payer.pubkey(), &Keypair::new().pubkey(), LAMPORTS);
    let config = v1::TransactionConfig::empty()
        .with_compute_unit_limit(10_000)
        .with_loaded_accounts_data_size_limit(64 * 1024);
    let message =
        v1::Message::try_compile_with_config(&payer.pubkey(), &[instruction], blockhash, config)
            .unwrap();
    VersionedTransaction::try_new(VersionedMessage::V1(message), &[payer]).unwrap()
}
