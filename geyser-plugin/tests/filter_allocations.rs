//! Matching allocates nothing, nor does encoding what no block holds (what blocks hold, the bench counts): counted by the allocator itself, in a binary of its own.

// A counting allocator cannot be had otherwise.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use agave_geyser_plugin_interface::geyser_plugin_interface::{
    ReplicaAccountInfoV3, ReplicaContactInfoV0_0_1, ReplicaDeshredTransactionInfoV2,
    ReplicaTransactionInfoV3,
};
use geyser_plugin::encode;
use geyser_plugin::filter::{Filter, FilterConfig, Switch};
use serde_json::{Value, json};
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{
    VersionedMessage,
    v0::{self, LoadedAddresses},
};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status::TransactionStatusMeta;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(body: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    body();
    ALLOCATIONS.with(Cell::get) - before
}

/// `count` addresses, of which the first is `[1; 32]`.
fn addresses(count: u32) -> Vec<Value> {
    (0..count)
        .map(|number| {
            let mut key = [1; 32];
            key[..4].copy_from_slice(&(0x0101_0101 + number).to_le_bytes());
            json!(bs58::encode(key).into_string())
        })
        .collect()
}

fn filter(config: Value) -> Filter {
    let config = FilterConfig::read(config).expect("a configuration in order");
    Filter::compile(&config).expect("a filter in order")
}

#[test]
fn matching_allocates_nothing() {
    assert_eq!(allocations_of(|| drop(black_box(vec![1_u8]))), 1);

    let filters = [1, 4, 5, 100, 20_000].map(|count| {
        let keys = addresses(count);
        let required: Vec<Value> = keys.iter().take(200).cloned().collect();
        filter(json!({
            "accounts": {
                "accounts": keys, "owners": keys, "exclude_accounts": addresses(count)[1..], "memcmp": [
                    { "offset": 0, "bytes": [7, 7] }, { "offset": 200, "base64": "Bwc=" }],
                "datasize": 300, "lamports": [{ "gt": 4 }, { "ne": 9 }], "nonempty_txn_signature": false,
            },
            "transactions": {
                "vote": false, "failed": false, "account_include": keys, "account_required": required,
            },
            "accounts_data_slice": [{ "offset": 0, "length": 8 }, { "offset": 290, "length": 20 }],
        }))
    });
    let tokens = filter(json!({ "accounts": { "token_account_state": true } }));
    let switch = Switch::new(
        filters
            .into_iter()
            .chain([tokens, Filter::everything()])
            .collect(),
    );

    let data = [7; 300];
    let keys: Vec<Address> = (0..200_u32)
        .map(|number| {
            let mut key = [1; 32];
            key[..4].copy_from_slice(&(0x0101_0101 + number).to_le_bytes());
            Address::from(key)
        })
        .collect();
    let transaction = VersionedTransaction {
        signatures: Vec::new(),
        message: VersionedMessage::V0(v0::Message {
            account_keys: keys[..100].to_vec(),
            ..Default::default()
        }),
    };
    let meta = TransactionStatusMeta {
        loaded_addresses: LoadedAddresses {
            writable: keys[100..].to_vec(),
            readonly: Vec::new(),
        },
        ..Default::default()
    };
    let (signature, hash) = (Signature::default(), Hash::default());

    let (mut accounts, mut transactions, mut bytes) = (0, 0, 0);
    let allocations = allocations_of(|| {
        for round in 0..100 {
            let last = [1 + round % 2; 32];
            for filter in black_box(&switch).current().filters() {
                accounts += usize::from(filter.account(&ReplicaAccountInfoV3 {
                    pubkey: &last,
                    lamports: 5,
                    owner: &[1; 32],
                    executable: false,
                    rent_epoch: 0,
                    data: &data,
                    write_version: 0,
                    txn: None,
                }));
                transactions += usize::from(filter.transaction(&ReplicaTransactionInfoV3 {
                    signature: &signature,
                    message_hash: &hash,
                    is_vote: round % 2 == 1,
                    transaction: &transaction,
                    transaction_status_meta: &meta,
                    index: 0,
                }));
                bytes += filter.data_slices().length(&data);
                bytes += filter
                    .data_slices()
                    .pieces(&data)
                    .map(<[u8]>::len)
                    .sum::<usize>();
            }
        }
    });
    assert_eq!(allocations, 0);
    // What ran was the whole of it: every list filter takes the even rounds, the last takes all, no data is a token's.
    assert_eq!(accounts, 5 * 50 + 100);
    assert_eq!(transactions, 5 * 50 + 2 * 100);
    assert_eq!(bytes, 100 * 2 * (5 * 8 + 2 * 300));
}

#[test]
fn encoding_what_no_block_holds_allocates_nothing() {
    let transaction = VersionedTransaction {
        signatures: vec![Signature::default()],
        message: VersionedMessage::V0(v0::Message {
            account_keys: vec![Address::default(); 30],
            ..Default::default()
        }),
    };
    let loaded = LoadedAddresses {
        writable: vec![Address::default(); 9],
        readonly: vec![Address::default(); 9],
    };
    let deshred = ReplicaDeshredTransactionInfoV2 {
        signature: &transaction.signatures[0],
        is_vote: false,
        transaction: &transaction,
        loaded_addresses: Some(&loaded),
        completed_data_set_starting_shred_index: 1,
        completed_data_set_ending_shred_index_exclusive: 9,
    };
    let [four, six] = ["203.0.113.7:8001", "[2001:db8::1234:5678]:8001"].map(|s| s.parse().ok());
    let node = ReplicaContactInfoV0_0_1 {
        pubkey: &[1; 32],
        wallclock: 1,
        outset: 2,
        shred_version: 3,
        version_major: 4,
        version_minor: 2,
        version_patch: 2,
        version_commit: 5,
        version_feature_set: 6,
        version_client_id: 3,
        gossip: four,
        tpu_quic: six,
        tpu_forwards_quic: four,
        tpu_vote_udp: six,
        tpu_vote_quic: None,
        tvu_udp: four,
        tvu_quic: six,
        serve_repair_udp: four,
        serve_repair_quic: six,
        rpc: four,
        rpc_pubsub: None,
        alpenglow: six,
    };
    let mut room = vec![0; encode::deshred_most(&deshred).max(encode::CONTACT_INFO_MOST)];
    let mut written = 0;
    let allocations = allocations_of(|| {
        for _ in 0..100 {
            let mut out = encode::Out::new(&mut room);
            encode::deshred(&mut out, 7, &deshred);
            written += out.finish().unwrap_or(0);
            let mut out = encode::Out::new(&mut room);
            encode::contact_info(&mut out, &node);
            written += out.finish().unwrap_or(0);
            let mut out = encode::Out::new(&mut room);
            encode::contact_info_removed(&mut out, node.pubkey);
            written += out.finish().unwrap_or(0);
        }
    });
    assert_eq!(allocations, 0);
    assert!(written > 100 * 2_000, "{written}");
}
