//! The oracle is the plain way: every list is scanned, every condition tested on its own.

use std::collections::HashSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use event_schema::Pubkey;
use proptest::{collection::vec, option, prelude::*, sample::select};
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{LegacyMessage, MessageHeader, SanitizedMessage, legacy};
use solana_signature::Signature;
use solana_transaction::sanitized::SanitizedTransaction;

use super::*;
use crate::filter::tests::{config, key, keys, of_ten_thousand};

// --- inputs: few different keys, bytes and sizes, so that conditions are met about as often as not ---

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(0..3_u8, 0..12),
        (
            select(&[82, 164, 165, 166, 170, 355, 400][..]),
            0..3_u8,
            0..4_u8
        )
            .prop_map(|(length, state, account_type)| {
                let mut data = vec![1; length];
                data.iter_mut().skip(108).take(1).for_each(|at| *at = state);
                data.iter_mut()
                    .skip(165)
                    .take(1)
                    .for_each(|at| *at = account_type);
                data
            }),
    ]
}

#[derive(Debug)]
struct Account {
    pubkey: Vec<u8>,
    owner: Vec<u8>,
    lamports: u64,
    data: Vec<u8>,
    by_transaction: bool,
}

fn account() -> impl Strategy<Value = Account> {
    let key_bytes = || {
        prop_oneof![
            12 => key().prop_map(|key| key.0.to_vec()),
            1 => vec(0..20_u8, 0..40),
        ]
    };
    (key_bytes(), key_bytes(), 0..4_u64, data(), any::<bool>()).prop_map(
        |(pubkey, owner, lamports, data, by_transaction)| Account {
            pubkey,
            owner,
            lamports,
            data,
            by_transaction,
        },
    )
}

impl Account {
    fn takes(&self, filter: &AccountFilter) -> bool {
        let writer = self.by_transaction.then(some_transaction);
        filter.takes(&ReplicaAccountInfoV3 {
            pubkey: &self.pubkey,
            lamports: self.lamports,
            owner: &self.owner,
            executable: false,
            rent_epoch: 0,
            data: &self.data,
            write_version: 0,
            txn: writer.as_ref(),
        })
    }
}

fn some_transaction() -> SanitizedTransaction {
    let message = legacy::Message {
        header: MessageHeader {
            num_required_signatures: 1,
            ..Default::default()
        },
        account_keys: vec![Address::from([1; 32])],
        ..Default::default()
    };
    SanitizedTransaction::try_new_from_fields(
        SanitizedMessage::Legacy(LegacyMessage::new(message, &HashSet::new())),
        Hash::default(),
        false,
        vec![Signature::default()],
    )
    .expect("a plain transaction")
}

/// Bytes and the notation they are written in.
fn bytes_at() -> impl Strategy<Value = (u64, Vec<u8>, u8)> {
    (0..4_u64, vec(0..3_u8, 1..3), 0..3_u8)
}

fn written((offset, bytes, notation): &(u64, Vec<u8>, u8)) -> MemcmpConfig {
    let mut written = MemcmpConfig {
        offset: *offset,
        ..MemcmpConfig::default()
    };
    match notation {
        0 => written.base58 = Some(bs58::encode(bytes).into_string()),
        1 => written.base64 = Some(BASE64_STANDARD.encode(bytes)),
        _ => written.bytes = Some(bytes.clone()),
    }
    written
}

fn comparison() -> impl Strategy<Value = LamportsConfig> {
    (0..4_u8, 0..4_u64).prop_map(|(comparison, amount)| match comparison {
        0 => LamportsConfig::Eq(amount),
        1 => LamportsConfig::Ne(amount),
        2 => LamportsConfig::Lt(amount),
        _ => LamportsConfig::Gt(amount),
    })
}

/// With its memcmp as plain bytes, for the oracle.
fn accounts_config() -> impl Strategy<Value = (AccountsConfig, Vec<(u64, Vec<u8>, u8)>)> {
    let lists = (keys(), keys(), keys(), keys());
    let state = (
        prop_oneof![2 => Just(Vec::new()), 1 => vec(bytes_at(), 0..3)],
        prop_oneof![3 => Just(None), 1 => select(&[5, 6, 165][..]).prop_map(Some)],
        prop::bool::weighted(0.3),
        prop_oneof![2 => Just(Vec::new()), 1 => vec(comparison(), 0..3)],
        option::weighted(0.3, any::<bool>()),
    );
    (prop::bool::weighted(0.95), lists, state).prop_map(
        |(
            enabled,
            (accounts, owners, exclude_accounts, exclude_owners),
            (memcmp, datasize, token_account_state, lamports, nonempty_txn_signature),
        )| {
            let config = AccountsConfig {
                enabled,
                accounts,
                owners,
                exclude_accounts,
                exclude_owners,
                memcmp: memcmp.iter().map(written).collect(),
                datasize,
                token_account_state,
                lamports,
                nonempty_txn_signature,
            };
            (config, memcmp)
        },
    )
}

// --- the plain way ---

fn plainly_takes_account(
    config: &AccountsConfig,
    memcmp: &[(u64, Vec<u8>, u8)],
    account: &Account,
) -> bool {
    let has = |list: &[Pubkey], key: &[u8]| {
        list.iter()
            .filter(|listed| listed.as_bytes() == key)
            .count()
            > 0
    };
    let mut reasons_against = Vec::new();
    let mut require = |holds: bool, what: &'static str| {
        if !holds {
            reasons_against.push(what);
        }
    };
    require(config.enabled, "disabled");
    if !config.accounts.is_empty() {
        require(has(&config.accounts, &account.pubkey), "account");
    }
    if !config.owners.is_empty() {
        require(has(&config.owners, &account.owner), "owner");
    }
    require(
        !has(&config.exclude_accounts, &account.pubkey),
        "excluded account",
    );
    require(
        !has(&config.exclude_owners, &account.owner),
        "excluded owner",
    );
    for (offset, bytes, _) in memcmp {
        let at: Vec<u8> = account
            .data
            .iter()
            .skip(*offset as usize)
            .take(bytes.len())
            .copied()
            .collect();
        require(at == *bytes, "memcmp");
    }
    if let Some(size) = config.datasize {
        require(account.data.len() as u64 == size, "size");
    }
    if config.token_account_state {
        require(plainly_token_account(&account.data), "token account");
    }
    for comparison in &config.lamports {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let (amount, passing) = match comparison {
            LamportsConfig::Eq(amount) => (amount, vec![Equal]),
            LamportsConfig::Ne(amount) => (amount, vec![Less, Greater]),
            LamportsConfig::Lt(amount) => (amount, vec![Less]),
            LamportsConfig::Gt(amount) => (amount, vec![Greater]),
        };
        require(passing.contains(&account.lamports.cmp(amount)), "lamports");
    }
    if let Some(wanted) = config.nonempty_txn_signature {
        require(account.by_transaction == wanted, "signature");
    }
    reasons_against.is_empty()
}

/// SPL Token's account: 165 bytes whose state, at 108, is not "uninitialised". Token-2022's extended account: longer, an
/// account type of 2 behind the 165 bytes, and never a multisig's 355 bytes.
fn plainly_token_account(data: &[u8]) -> bool {
    match data.len() {
        0..165 | 355 => false,
        165 => data[108] != 0,
        _ => data[108] != 0 && data[165] == 2,
    }
}

fn compile(config: &AccountsConfig) -> AccountFilter {
    AccountFilter::compile(config).expect("a filter in order")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn accounts_are_taken_as_the_plain_way_takes_them(
        (mut config, memcmp) in accounts_config(), accounts in vec(account(), 1..6),
    ) {
        // Comparing past a fixed size would be refused.
        if config.datasize.is_some_and(|size| memcmp.iter().any(|(offset, bytes, _)| offset + bytes.len() as u64 > size)) {
            config.datasize = None;
        }
        let filter = compile(&config);
        for account in &accounts {
            prop_assert_eq!(account.takes(&filter), plainly_takes_account(&config, &memcmp, account), "{:?}", account);
        }
    }
}

#[test]
fn the_property_sees_both_answers_often() {
    let taken = of_ten_thousand(
        (accounts_config(), account()),
        |((config, memcmp), account)| plainly_takes_account(&config, &memcmp, &account),
    );
    assert!((300..9000).contains(&taken), "{taken}");
}

fn plain_account() -> Account {
    Account {
        pubkey: vec![1; 32],
        owner: vec![2; 32],
        lamports: 5,
        data: vec![10, 11, 12, 13],
        by_transaction: true,
    }
}

#[test]
fn truth_table() {
    let table = "
        {}                                                              → true
        { enabled: false }                                              → false
        { accounts: [@1] }                                              → true
        { accounts: [@9] }                                              → false
        { accounts: [@9, @1] }                                          → true
        { owners: [@2] }                                                → true
        { owners: [@1] }                                                → false
        { accounts: [@1], owners: [@2] }                                → true
        { accounts: [@1], owners: [@9] }                                → false
        { accounts: [@9], owners: [@2] }                                → false
        { exclude_accounts: [@9], exclude_owners: [@9] }                → true
        { accounts: [@1], exclude_accounts: [@1] }                      → false
        { owners: [@2], exclude_accounts: [@9, @1] }                    → false
        { accounts: [@1], exclude_owners: [@2] }                        → false
        { memcmp: [{ offset: 0, bytes: [10] }] }                        → true
        { memcmp: [{ offset: 2, bytes: [12, 13] }] }                    → true
        { memcmp: [{ offset: 1, base64: 'Cww=' }] }                     → true
        { memcmp: [{ offset: 0, base58: 'B' }] }                        → true
        { memcmp: [{ offset: 0, bytes: [10] }, { offset: 1, bytes: [12] }] } → false
        { memcmp: [{ offset: 3, bytes: [13, 14] }] }                    → false
        { memcmp: [{ offset: 4, bytes: [0] }] }                         → false
        { memcmp: [{ offset: 10485759, bytes: [0] }] }                  → false
        { datasize: 4 }                                                 → true
        { datasize: 0 }                                                 → false
        { token_account_state: true }                                   → false
        { lamports: [{ eq: 5 }] }                                       → true
        { lamports: [{ ne: 5 }] }                                       → false
        { lamports: [{ lt: 5 }] }                                       → false
        { lamports: [{ lt: 6 }] }                                       → true
        { lamports: [{ gt: 5 }] }                                       → false
        { lamports: [{ gt: 4 }, { lt: 6 }] }                            → true
        { lamports: [{ gt: 4 }, { lt: 5 }] }                            → false
        { nonempty_txn_signature: true }                                → true
        { nonempty_txn_signature: false }                               → false
    ";
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let (text, taken) = line.split_once('→').expect("a condition and its answer");
        let filter = compile(&config(&format!("{{ accounts: {text} }}")).accounts);
        assert_eq!(
            plain_account().takes(&filter).to_string(),
            taken.trim(),
            "{line}"
        );
    }
}

#[test]
fn token_accounts_are_told_by_size_state_and_type() {
    let filter = compile(&AccountsConfig {
        token_account_state: true,
        ..AccountsConfig::default()
    });
    for length in [0, 82, 108, 109, 164, 165, 166, 170, 354, 355, 356, 1000] {
        for state in 0..4 {
            for account_type in 0..4 {
                let mut data = vec![0; length];
                data.iter_mut().skip(108).take(1).for_each(|at| *at = state);
                data.iter_mut()
                    .skip(165)
                    .take(1)
                    .for_each(|at| *at = account_type);
                let taken = plainly_token_account(&data);
                let account = Account {
                    data,
                    ..plain_account()
                };
                assert_eq!(
                    account.takes(&filter),
                    taken,
                    "{length} {state} {account_type}"
                );
            }
        }
    }
}
