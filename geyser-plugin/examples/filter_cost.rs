//! What matching costs, in ns: `cargo run --release -p geyser-plugin --example filter_cost`.
//!
//! For lists of 1, 100 and 100,000 addresses; every lookup is of another key, as the validator's reports are.

use std::{hint::black_box, time::Instant};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaTransactionInfoV3,
};
use event_schema::Pubkey;
use geyser_plugin::filter::{Filter, FilterConfig, Switch};
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{VersionedMessage, legacy};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::TransactionStatusMeta;

const ROUNDS: usize = 9;
/// More keys than a cache holds lines for.
const INPUTS: usize = 4096;
/// As a busy swap names.
const ACCOUNTS_OF_TRANSACTION: usize = 30;

/// Of no pattern that a hash could profit from.
fn key(seed: u64) -> [u8; 32] {
    let mut state = seed;
    let mut key = [0; 32];
    for word in key.as_chunks_mut::<8>().0 {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *word = (mixed ^ (mixed >> 31)).to_le_bytes();
    }
    key
}

/// Median of the rounds, per call.
fn nanoseconds(mut one: impl FnMut(usize) -> bool) -> (f64, usize) {
    let mut taken = 0;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            taken = (0..INPUTS).filter(|input| black_box(one(*input))).count();
            started.elapsed().as_nanos() as f64 / INPUTS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    (rounds[ROUNDS / 2], taken)
}

fn report(what: &str, (nanoseconds, taken): (f64, usize)) {
    println!(
        "{what:<58} {nanoseconds:8.1} ns   {:3} % taken",
        taken * 100 / INPUTS
    );
}

fn account<'a>(
    pubkey: &'a [u8; 32],
    owner: &'a [u8; 32],
    data: &'a [u8],
) -> ReplicaAccountInfoV3<'a> {
    ReplicaAccountInfoV3 {
        pubkey,
        lamports: 1,
        owner,
        executable: false,
        rent_epoch: 0,
        data,
        write_version: 0,
        txn: None,
    }
}

fn compile(change: impl FnOnce(&mut FilterConfig)) -> Filter {
    let mut config = FilterConfig::default();
    change(&mut config);
    Filter::compile(&config).expect("a filter in order")
}

fn main() {
    let data = [0; 165];
    let inputs: Vec<[u8; 32]> = (0..INPUTS as u64)
        .map(|number| key(1 << 40 | number))
        .collect();
    let everything = Switch::new(vec![Filter::everything()]);
    report(
        "account, no filter, through the switch",
        nanoseconds(|input| {
            let filter = &black_box(&everything).current().filters()[0];
            filter.account(&account(&inputs[input], &inputs[input], &data))
        }),
    );
    for count in [1, 4, 5, 8, 100, 100_000] {
        let mut listed: Vec<Pubkey> = (0..count).map(|number| Pubkey(key(number))).collect();
        let started = Instant::now();
        let filter = compile(|config| config.accounts.owners.clone_from(&listed));
        let compiled = started.elapsed();
        println!(
            "--- {count} addresses: compiled in {compiled:.1?}, {} bytes",
            filter.held_bytes()
        );
        report(
            "account, owner not in the list",
            nanoseconds(|input| {
                black_box(&filter).account(&account(&inputs[0], &inputs[input], &data))
            }),
        );
        let hits: Vec<[u8; 32]> = (0..INPUTS)
            .map(|input| listed[input * 7919 % listed.len()].0)
            .collect();
        report(
            "account, owner in the list",
            nanoseconds(|input| {
                black_box(&filter).account(&account(&inputs[0], &hits[input], &data))
            }),
        );
        let messages: Vec<VersionedTransaction> = (0..INPUTS)
            .map(|input| VersionedTransaction {
                signatures: Vec::new(),
                message: VersionedMessage::Legacy(legacy::Message {
                    account_keys: (0..ACCOUNTS_OF_TRANSACTION)
                        .map(|at| Address::from(key(((input * 64 + at) as u64) << 20)))
                        .collect(),
                    ..Default::default()
                }),
            })
            .collect();
        let (signature, hash, meta) = (
            Signature::default(),
            Hash::default(),
            TransactionStatusMeta::default(),
        );
        let transaction = |input: usize| ReplicaTransactionInfoV3 {
            signature: &signature,
            message_hash: &hash,
            is_vote: false,
            transaction: &messages[input],
            transaction_status_meta: &meta,
            index: 0,
        };
        let filter = compile(|config| config.transactions.account_include.clone_from(&listed));
        report(
            "transaction of 30 accounts, none in account_include",
            nanoseconds(|input| black_box(&filter).transaction(&transaction(input))),
        );
        listed.truncate(256);
        let filter = compile(|config| config.transactions.account_required.clone_from(&listed));
        report(
            "transaction of 30 accounts, none in account_required",
            nanoseconds(|input| black_box(&filter).transaction(&transaction(input))),
        );
    }
}
