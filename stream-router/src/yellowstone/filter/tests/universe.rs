//! A small world: ten keys, three signatures, short data.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::OnceLock,
};

use event_schema::proto::{
    confirmed_block::{
        Message, TokenBalance, Transaction, TransactionError, TransactionStatusMeta, UiTokenAmount,
    },
    geyser::*,
};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use subscribe_request_filter_accounts_filter::Filter;
use subscribe_request_filter_accounts_filter_lamports::Cmp;
use subscribe_request_filter_accounts_filter_memcmp::Data;

pub const KEYS: usize = 10;
const SEEDS: [u64; 2] = [0x796c_6c77_7374_6e21, 7];

pub fn key(index: usize) -> [u8; 32] {
    std::array::from_fn(|at| (index as u8 + 1).wrapping_mul(at as u8 + 37))
}

pub fn text(index: usize) -> String {
    bs58::encode(key(index)).into_string()
}

pub fn texts(indices: &[usize]) -> Vec<String> {
    indices.iter().copied().map(text).collect()
}

pub fn signature(index: usize) -> [u8; 64] {
    [index as u8 + 1; 64]
}

/// A cuckoo set of the keys whose bits are set.
pub fn cuckoo(members: u16, seed: u64) -> CuckooFilter {
    let hash = |value: &dyn Fn(&mut dyn Hasher)| {
        #[allow(deprecated)]
        let mut hasher = std::hash::SipHasher::new_with_keys(seed, seed.rotate_left(32));
        value(&mut hasher);
        hasher.finish()
    };
    const BUCKETS: u64 = 8;
    let mut buckets = [[0u16; 4]; BUCKETS as usize];
    for index in (0..KEYS).filter(|index| (members >> index) & 1 == 1) {
        let of_key = hash(&|mut hasher| key(index).hash(&mut hasher));
        let fingerprint = ((of_key >> 32) as u16).max(1);
        let first = of_key % BUCKETS;
        let second = first ^ (hash(&|hasher| hasher.write_u16(fingerprint)) % BUCKETS);
        // Either will do; the second is where a full bucket's keys go.
        let mut candidates = [first, second];
        candidates.rotate_left(index % 2);
        let place = candidates
            .into_iter()
            .flat_map(|bucket| (0..4).map(move |entry| (bucket as usize, entry)))
            .find(|(bucket, entry)| buckets[*bucket][*entry] == 0)
            .expect("ten keys fit into 32 places");
        buckets[place.0][place.1] = fingerprint;
    }
    CuckooFilter {
        data: buckets
            .iter()
            .flatten()
            .flat_map(|it| it.to_le_bytes())
            .collect(),
        bucket_count: BUCKETS as u32,
        entries_per_bucket: 4,
        fingerprint_bits: 16,
        hash_seed: seed,
        hash_algorithm: CuckooHashAlgorithm::SipHash as i32,
    }
}

/// Which keys a set of [`cuckoo`] was made of, remembered rather than computed.
pub fn members(set: &CuckooFilter) -> Vec<String> {
    static KNOWN: OnceLock<HashMap<(u64, Vec<u8>), u16>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let all = SEEDS
            .into_iter()
            .flat_map(|seed| (0..1 << KEYS).map(move |it| (seed, it)));
        all.map(|(seed, members)| ((seed, cuckoo(members, seed).data), members))
            .collect()
    });
    let members = known[&(set.hash_seed, set.data.clone())];
    (0..KEYS)
        .filter(|index| (members >> index) & 1 == 1)
        .map(text)
        .collect()
}

fn cuckoos() -> impl Strategy<Value = Option<CuckooFilter>> {
    let set = (0u16..1 << KEYS, 0..SEEDS.len()).prop_map(|(all, seed)| cuckoo(all, SEEDS[seed]));
    option::weighted(0.2, set)
}

fn some_keys(max: usize) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => subsequence((0..KEYS).collect::<Vec<_>>(), 1..=max).prop_map(|some| texts(&some)),
    ]
}

fn short() -> impl Strategy<Value = Vec<u8>> {
    vec(0u8..2, 0..6)
}

fn datas() -> impl Strategy<Value = Vec<u8>> {
    let token = (
        prop_oneof![Just(165usize), Just(355), 164usize..168],
        0u8..2,
        0u8..3,
    )
        .prop_map(|(length, state, kind)| {
            let mut data = vec![1; length];
            data[108] = state;
            if let Some(byte) = data.get_mut(165) {
                *byte = kind;
            }
            data
        });
    prop_oneof![4 => short(), 1 => token]
}

fn memcmps() -> impl Strategy<Value = Filter> {
    let offset = prop_oneof![9 => 0u64..4, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)];
    (offset, vec(0u8..2, 0..4), 0..3).prop_map(|(offset, bytes, form)| {
        let data = match form {
            0 => Data::Bytes(bytes),
            1 => Data::Base58(bs58::encode(bytes).into_string()),
            _ => Data::Base64(base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                bytes,
            )),
        };
        Filter::Memcmp(SubscribeRequestFilterAccountsFilterMemcmp {
            offset,
            data: Some(data),
        })
    })
}

fn lamports() -> impl Strategy<Value = Filter> {
    let amount = prop_oneof![4 => 0u64..4, 1 => Just(u64::MAX)];
    (amount, 0..4).prop_map(|(amount, how)| {
        let cmp = match how {
            0 => Cmp::Eq(amount),
            1 => Cmp::Ne(amount),
            2 => Cmp::Lt(amount),
            _ => Cmp::Gt(amount),
        };
        Filter::Lamports(SubscribeRequestFilterAccountsFilterLamports { cmp: Some(cmp) })
    })
}

fn states() -> impl Strategy<Value = Vec<SubscribeRequestFilterAccountsFilter>> {
    let size = prop_oneof![3 => 0u64..6, 1 => Just(165u64)];
    (
        vec(memcmps(), 0..2),
        vec(lamports(), 0..2),
        option::weighted(0.2, size.prop_map(Filter::Datasize)),
        option::weighted(0.1, Just(Filter::TokenAccountState(true))),
    )
        .prop_map(|(memcmps, lamports, size, token)| {
            let all = memcmps.into_iter().chain(lamports).chain(size).chain(token);
            all.map(|filter| SubscribeRequestFilterAccountsFilter {
                filter: Some(filter),
            })
            .collect()
        })
}

fn account_filters() -> impl Strategy<Value = SubscribeRequestFilterAccounts> {
    (
        some_keys(4),
        some_keys(3),
        prop_oneof![2 => Just(Vec::new()), 1 => states()],
        option::weighted(0.2, any::<bool>()),
        cuckoos(),
    )
        .prop_map(
            |(account, owner, filters, signed, cuckoo)| SubscribeRequestFilterAccounts {
                account,
                owner,
                filters,
                nonempty_txn_signature: signed,
                cuckoo_accounts_filter: cuckoo,
            },
        )
}

fn transaction_filters() -> impl Strategy<Value = SubscribeRequestFilterTransactions> {
    (
        option::weighted(0.3, any::<bool>()),
        option::weighted(0.3, any::<bool>()),
        option::weighted(0.1, 0usize..3),
        some_keys(3),
        some_keys(2),
        prop_oneof![2 => Just(Vec::new()), 1 => some_keys(2)],
        cuckoos(),
        option::weighted(0.4, 0i32..2),
    )
        .prop_map(
            |(vote, failed, sig, include, exclude, required, cuckoo, tokens)| {
                SubscribeRequestFilterTransactions {
                    vote,
                    failed,
                    signature: sig.map(|it| bs58::encode(signature(it)).into_string()),
                    account_include: include,
                    account_exclude: exclude,
                    account_required: required,
                    cuckoo_account_include: cuckoo,
                    token_accounts: tokens,
                }
            },
        )
}

fn block_filters() -> impl Strategy<Value = SubscribeRequestFilterBlocks> {
    let flag = || option::of(any::<bool>());
    (some_keys(3), flag(), flag(), flag(), cuckoos()).prop_map(
        |(account_include, transactions, accounts, entries, cuckoo)| SubscribeRequestFilterBlocks {
            account_include,
            include_transactions: transactions,
            include_accounts: accounts,
            include_entries: entries,
            cuckoo_account_include: cuckoo,
        },
    )
}

fn named<T: std::fmt::Debug>(
    filters: impl Strategy<Value = T>,
    max: usize,
) -> impl Strategy<Value = HashMap<String, T>> {
    proptest::collection::hash_map("[abc]|", filters, 0..=max)
}

pub fn requests() -> impl Strategy<Value = SubscribeRequest> {
    let slots = (option::of(any::<bool>()), option::of(any::<bool>())).prop_map(
        |(filter_by_commitment, interslot_updates)| SubscribeRequestFilterSlots {
            filter_by_commitment,
            interslot_updates,
        },
    );
    let slices = prop_oneof![
        3 => Just(Vec::new()),
        1 => vec((0u64..3, 0u64..3), 1..3).prop_map(|parts| {
            let mut end = 0;
            let slice = |(gap, length)| {
                let offset = end + gap;
                end = offset + length;
                SubscribeRequestAccountsDataSlice { offset, length }
            };
            parts.into_iter().map(slice).collect()
        }),
    ];
    (
        named(account_filters(), 3),
        named(transaction_filters(), 3),
        named(transaction_filters(), 2),
        named(slots, 2),
        named(block_filters(), 2),
        named(Just(SubscribeRequestFilterBlocksMeta {}), 2),
        named(Just(SubscribeRequestFilterEntry {}), 2),
        option::of(0i32..3),
        slices,
    )
        .prop_map(
            |(
                accounts,
                transactions,
                statuses,
                slots,
                blocks,
                metas,
                entry,
                commitment,
                slices,
            )| {
                SubscribeRequest {
                    accounts,
                    transactions,
                    transactions_status: statuses,
                    slots,
                    blocks,
                    blocks_meta: metas,
                    entry,
                    commitment,
                    accounts_data_slice: slices,
                    ping: None,
                    from_slot: None,
                }
            },
        )
}

/// Bytes that should be a key: nearly always one.
fn key_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        30 => (0..KEYS).prop_map(|index| key(index).to_vec()),
        1 => vec(any::<u8>(), 0..40),
    ]
}

pub fn accounts() -> impl Strategy<Value = SubscribeUpdateAccountInfo> {
    let lamports = prop_oneof![6 => 0u64..4, 1 => Just(u64::MAX)];
    (
        key_bytes(),
        key_bytes(),
        lamports,
        datas(),
        option::of((0usize..3).prop_map(|index| signature(index).to_vec())),
    )
        .prop_map(|(pubkey, owner, lamports, data, txn_signature)| {
            SubscribeUpdateAccountInfo {
                pubkey,
                owner,
                lamports,
                data,
                txn_signature,
                executable: lamports == 1,
                rent_epoch: 3,
                write_version: 9,
            }
        })
}

/// At most one per account index, as in every block.
fn token_balances() -> impl Strategy<Value = Vec<TokenBalance>> {
    let owner = prop_oneof![6 => (0..KEYS).prop_map(text), 1 => Just(String::new())];
    let amount = option::weighted(0.9, 0u8..2);
    proptest::collection::btree_map(0u32..3, (owner, amount), 0..3).prop_map(|balances| {
        let balance =
            |(account_index, (owner, amount)): (u32, (String, Option<u8>))| TokenBalance {
                account_index,
                owner,
                ui_token_amount: amount.map(|amount| UiTokenAmount {
                    amount: amount.to_string(),
                    ..UiTokenAmount::default()
                }),
                ..TokenBalance::default()
            };
        balances.into_iter().map(balance).collect()
    })
}

pub fn transactions() -> impl Strategy<Value = SubscribeUpdateTransactionInfo> {
    let meta = (
        any::<bool>(),
        vec(key_bytes(), 0..2),
        vec(key_bytes(), 0..2),
        token_balances(),
        token_balances(),
    )
        .prop_map(
            |(failed, writable, readonly, before, after)| TransactionStatusMeta {
                err: failed.then(|| TransactionError { err: vec![8] }),
                loaded_writable_addresses: writable,
                loaded_readonly_addresses: readonly,
                pre_token_balances: before,
                post_token_balances: after,
                ..TransactionStatusMeta::default()
            },
        );
    (
        0usize..3,
        any::<bool>(),
        option::weighted(0.95, vec(key_bytes(), 0..4)),
        option::weighted(0.95, meta),
    )
        .prop_map(
            |(sig, is_vote, keys, meta)| SubscribeUpdateTransactionInfo {
                signature: signature(sig).to_vec(),
                is_vote,
                transaction: keys.map(|account_keys| Transaction {
                    signatures: vec![signature(sig).to_vec()],
                    message: Some(Message {
                        account_keys,
                        ..Message::default()
                    }),
                }),
                meta,
                index: 1,
            },
        )
}
