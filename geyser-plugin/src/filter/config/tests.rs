use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;

use super::*;
use crate::filter::{Filter, KEYS};

/// As an operator would write it, up to a compiled filter.
fn load(text: &str) -> Result<Filter, FilterError> {
    let value: Value = json5::from_str(text).expect("JSON5");
    Filter::compile(&FilterConfig::read(value)?)
}

const KEY: &str = "So11111111111111111111111111111111111111112";

#[test]
fn nothing_written_filters_nothing() {
    let read = FilterConfig::read(json!({})).unwrap();
    assert_eq!(read, FilterConfig::default());
    let inner_empty = json!({"accounts": {}, "transactions": {}});
    assert_eq!(FilterConfig::read(inner_empty).unwrap(), read);
}

#[test]
fn every_key_is_read() {
    let text = format!(
        "{{ accounts: {{ enabled: true, accounts: ['{KEY}'], owners: ['{KEY}'], exclude_accounts: ['{KEY}'],
            exclude_owners: ['{KEY}'], datasize: 165, token_account_state: true, nonempty_txn_signature: true,
            memcmp: [{{ offset: 0, base58: '{KEY}' }}, {{ offset: 1, base64: 'AQI=' }}, {{ offset: 2, bytes: [1, 0xff] }}],
            lamports: [{{ eq: 1 }}, {{ ne: 2 }}, {{ lt: 18446744073709551615 }}, {{ gt: 4 }}] }},
          transactions: {{ enabled: false, vote: false, failed: true, account_include: ['{KEY}'],
            account_exclude: [], account_required: ['{KEY}'] }},
          entries: false, block_meta: false, slots: false, deshred: false, contact_info: false,
          accounts_data_slice: [{{ offset: 0, length: 32 }}, {{ offset: 32, length: 8 }}] }}"
    );
    let value: Value = json5::from_str(&text).unwrap();
    let config = FilterConfig::read(value).unwrap();
    let key: Pubkey = KEY.parse().unwrap();
    assert_eq!(config.accounts.owners, [key]);
    assert_eq!(config.accounts.memcmp[2].bytes, Some(vec![1, 255]));
    // No digit is lost on the way.
    assert_eq!(config.accounts.lamports[2], LamportsConfig::Lt(u64::MAX));
    assert_eq!(
        (config.transactions.vote, config.transactions.failed),
        (Some(false), Some(true))
    );
    assert_eq!(
        config.accounts_data_slice[1],
        DataSliceConfig {
            offset: 32,
            length: 8
        }
    );
    assert!(Filter::compile(&config).is_ok());
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(FilterConfig::read(written).unwrap(), config);
}

#[test]
fn every_error_names_the_key_and_a_fix() {
    // What is written, the key the message names, a part of the fix.
    let table = "
        5 → → accounts
        { ownrs: [] } → ownrs → accounts_data_slice
        { entries: 'no' } → entries → true or false
        { slots: null } → slots → true or false
        { block_meta: 1 } → block_meta → true or false
        { accounts: 1 } → accounts → exclude_owners
        { accounts: { enabled: 1 } } → accounts.enabled → true or false
        { accounts: { owner: [] } } → accounts.owner → owners
        { accounts: { owners: 'x' } } → accounts.owners → base58
        { accounts: { owners: ['KEY', 'abc'] } } → accounts.owners[1] → base58
        { accounts: { accounts: ['0OIl'] } } → accounts.accounts[0] → base58
        { accounts: { exclude_accounts: [7] } } → accounts.exclude_accounts[0] → base58
        { accounts: { exclude_owners: [''] } } → accounts.exclude_owners[0] → base58
        { accounts: { datasize: -1 } } → accounts.datasize → whole number
        { accounts: { datasize: 1.5 } } → accounts.datasize → whole number
        { accounts: { datasize: 10485761 } } → accounts.datasize → 10485760
        { accounts: { token_account_state: null } } → accounts.token_account_state → true or false
        { accounts: { nonempty_txn_signature: 'x' } } → accounts.nonempty_txn_signature → null
        { accounts: { memcmp: {} } } → accounts.memcmp → a list
        { accounts: { memcmp: [{ offset: 0 }] } } → accounts.memcmp[0] → base58
        { accounts: { memcmp: [{ base58: '2' }] } } → accounts.memcmp[0] → offset
        { accounts: { memcmp: [{ ofset: 0 }] } } → accounts.memcmp[0].ofset → offset
        { accounts: { memcmp: [{ offset: '0', base58: '2' }] } } → accounts.memcmp[0].offset → whole number
        { accounts: { memcmp: [{ offset: 0, base58: '2', base64: 'AA==' }] } } → accounts.memcmp[0] → keep one
        { accounts: { memcmp: [{ offset: 0, base58: '2' }, { offset: 0, base58: '0' }] } } → accounts.memcmp[1].base58 → base58
        { accounts: { memcmp: [{ offset: 0, base58: '' }] } } → accounts.memcmp[0].base58 → 1 to 128
        { accounts: { memcmp: [{ offset: 0, base58: 'TEXT_OF_176' }] } } → accounts.memcmp[0].base58 → 128
        { accounts: { memcmp: [{ offset: 0, base64: 'A' }] } } → accounts.memcmp[0].base64 → base64
        { accounts: { memcmp: [{ offset: 0, base64: 'TEXT_OF_176' }] } } → accounts.memcmp[0].base64 → 128
        { accounts: { memcmp: [{ offset: 0, bytes: [] }] } } → accounts.memcmp[0].bytes → 1 to 128
        { accounts: { memcmp: [{ offset: 0, bytes: [256] }] } } → accounts.memcmp[0].bytes[0] → 0 to 255
        { accounts: { memcmp: [{ offset: 0, bytes: [BYTES_129] }] } } → accounts.memcmp[0].bytes → 128
        { accounts: { memcmp: [MEMCMP, MEMCMP, MEMCMP, MEMCMP, MEMCMP] } } → accounts.memcmp → at most 4
        { accounts: { memcmp: [{ offset: 10485760, bytes: [1] }] } } → accounts.memcmp[0].offset → smaller
        { accounts: { memcmp: [{ offset: 18446744073709551615, bytes: [1] }] } } → accounts.memcmp[0].offset → smaller
        { accounts: { datasize: 3, memcmp: [{ offset: 2, bytes: [1, 2] }] } } → accounts.memcmp[0].offset → smaller
        { accounts: { lamports: [{}] } } → accounts.lamports[0] → eq
        { accounts: { lamports: [{ eq: 1, ne: 2 }] } } → accounts.lamports[0] → eq
        { accounts: { lamports: [{ above: 1 }] } } → accounts.lamports[0] → eq
        { accounts: { lamports: [{ lt: -1 }] } } → accounts.lamports[0].lt → lamports
        { accounts: { lamports: [{ eq: 1 }, { eq: 1 }, { eq: 1 }, { eq: 1 }, { eq: 1 }] } } → accounts.lamports → at most 4
        { transactions: { vote: 'only' } } → transactions.vote → true, false or null
        { transactions: { failed: 0 } } → transactions.failed → true, false or null
        { transactions: { enabled: null } } → transactions.enabled → true or false
        { transactions: { signature: '' } } → transactions.signature → account_include
        { transactions: { account_include: ['x'] } } → transactions.account_include[0] → base58
        { transactions: { account_exclude: [{}] } } → transactions.account_exclude[0] → base58
        { transactions: { account_required: ['KEY'], account_exclude: ['KEY'] } } → transactions.account_required[0] → one of the two
        { accounts_data_slice: [{ offset: 0 }] } → accounts_data_slice[0] → offset, length
        { accounts_data_slice: [{ offset: 0, length: 1, end: 1 }] } → accounts_data_slice[0].end → offset, length
        { accounts_data_slice: [{ offset: 5, length: 1 }, { offset: 0, length: 1 }] } → accounts_data_slice[1].offset → sort
        { accounts_data_slice: [{ offset: 0, length: 5 }, { offset: 4, length: 1 }] } → accounts_data_slice[1].offset → merge
        { accounts_data_slice: [{ offset: 10485760, length: 1 }] } → accounts_data_slice[0] → smaller
        { accounts_data_slice: [{ offset: 1, length: 18446744073709551615 }] } → accounts_data_slice[0] → smaller
        { accounts_data_slice: [SLICES_65] } → accounts_data_slice → at most 64
    ";
    // serde alone would take a list for an object, its entries for the values in the keys' order.
    let lists_for_objects = "
        [] → → accounts
        { accounts: [] } → accounts → exclude_owners
        { transactions: [false] } → transactions → account_include
        { accounts: { memcmp: [[0, '2', null, null]] } } → accounts.memcmp[0] → offset
        { accounts_data_slice: [[0, 1]] } → accounts_data_slice[0] → offset
    ";
    let lines = table.lines().chain(lists_for_objects.lines());
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let parts: Vec<&str> = line.split('→').map(str::trim).collect();
        let text = parts[0]
            .replace("KEY", KEY)
            .replace("TEXT_OF_176", &"A".repeat(176))
            .replace("BYTES_129", &["1"; 129].join(","))
            .replace("MEMCMP", "{ offset: 0, base58: '2' }")
            .replace("SLICES_65", &["{ offset: 0, length: 0 }"; 65].join(","));
        let error = load(&text).expect_err(&text);
        assert_eq!(error.key, parts[1], "{text}: {error}");
        assert!(error.fix.contains(parts[2]), "{text}: {error}");
        assert!(
            !error.problem.is_empty() && error.to_string().contains(&error.path()),
            "{error}"
        );
    }
}

#[test]
fn too_many_addresses_are_refused() {
    let mut config = FilterConfig::default();
    config.accounts.exclude_owners = vec![Pubkey::default(); 1_000_001];
    let error = Filter::compile(&config).unwrap_err();
    assert_eq!(error.key, "accounts.exclude_owners");
    config.accounts.exclude_owners.truncate(1_000_000);
    assert!(Filter::compile(&config).is_ok());

    let required = |count: u16| {
        let mut config = FilterConfig::default();
        config.transactions.account_required = (0..count)
            .map(|number| {
                let mut key = [0; 32];
                key[..2].copy_from_slice(&number.to_le_bytes());
                Pubkey(key)
            })
            .collect();
        Filter::compile(&config)
    };
    assert!(required(256).is_ok());
    let error = required(257).unwrap_err();
    assert!(
        error.key == "transactions.account_required" && error.fix.contains("account_include"),
        "{error}"
    );
}

/// As the plugin's configuration holds it: the message of the inner error must come through.
#[test]
fn errors_keep_their_place_inside_of_a_larger_file() {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Output {
        filters: FilterConfig,
    }
    let outer = |text: &str| {
        let value: Value = json5::from_str(text).unwrap();
        serde_json::from_value::<Output>(value).map_err(|error| error.to_string())
    };
    assert_eq!(outer("{}").unwrap().filters, FilterConfig::default());
    let message = outer("{ filters: { accounts: { datasize: 'big' } } }").unwrap_err();
    assert!(
        message.contains("`filters.accounts.datasize`") && message.contains("whole number"),
        "{message}"
    );
}

#[test]
fn the_reference_is_complete() {
    let mut config = FilterConfig::default();
    let mut written = BTreeMap::new();
    leaves(
        &mut written,
        "filters",
        &serde_json::to_value(&config).unwrap(),
    );
    // What lists hold, by an entry of each.
    config.accounts.memcmp.push(MemcmpConfig::default());
    config.accounts.lamports = vec![
        LamportsConfig::Eq(0),
        LamportsConfig::Ne(0),
        LamportsConfig::Lt(0),
        LamportsConfig::Gt(0),
    ];
    config.accounts_data_slice.push(DataSliceConfig {
        offset: 0,
        length: 0,
    });
    let mut in_lists = BTreeMap::new();
    leaves(
        &mut in_lists,
        "filters",
        &serde_json::to_value(&config).unwrap(),
    );
    in_lists.retain(|path, _| path.contains("[]"));

    let described: BTreeMap<&str, &str> = KEYS
        .iter()
        .map(|(path, default, _)| (*path, *default))
        .collect();
    assert_eq!(described.len(), KEYS.len(), "a key is described twice");
    let all: Vec<&str> = written
        .keys()
        .chain(in_lists.keys())
        .map(String::as_str)
        .collect();
    for path in &all {
        assert!(described.contains_key(path), "`{path}` is not described");
    }
    for (path, default) in described {
        assert!(all.contains(&path), "`{path}` is described, but not read");
        if let Some(real) = written.get(path) {
            assert_eq!(default, real, "{path}");
        }
    }
}

fn leaves(into: &mut BTreeMap<String, String>, path: &str, value: &Value) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                leaves(into, &format!("{path}.{key}"), value);
            }
        }
        Value::Array(entries) if !entries.is_empty() => {
            for entry in entries.iter().filter(|entry| entry.is_object()) {
                leaves(into, &format!("{path}[]"), entry);
            }
        }
        leaf => {
            into.insert(path.to_owned(), leaf.to_string());
        }
    }
}

// --- any JSON ---

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just(KEY.to_owned()),
        "[1-9A-HJ-NP-Za-km-z]{0,200}",
        "[A-Za-z0-9+/]{0,200}={0,2}",
        ".{0,12}",
    ];
    let known = KEYS
        .iter()
        .filter_map(|(path, _, _)| path.rsplit(['.', '[', ']']).find(|part| !part.is_empty()))
        .collect::<Vec<_>>();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0..200_u64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        let key = prop_oneof![3 => select(known.clone()).prop_map(String::from), 1 => ".{0,6}"];
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts a value at a described path, in a list's only entry where the path has one.
fn at_path(path: &str, value: Value) -> Value {
    path.split('.')
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .fold(value, |inner, part| match part.strip_suffix("[]") {
            None => json!({ part: inner }),
            Some(list) => {
                let mut entry = inner;
                if list != "lamports"
                    && let Some(entry) = entry.as_object_mut()
                {
                    entry.entry("offset").or_insert(json!(0));
                    if list == "accounts_data_slice" {
                        entry.entry("length").or_insert(json!(1));
                    }
                }
                json!({ list: [entry] })
            }
        })
}

fn check_any(value: Value) -> Result<Option<FilterError>, TestCaseError> {
    let result = FilterConfig::read(value).and_then(|config| {
        let filter = Filter::compile(&config)?;
        Ok((config, filter))
    });
    match result {
        Ok((config, _)) => {
            let written = serde_json::to_value(&config).expect("plain data");
            prop_assert_eq!(FilterConfig::read(written), Ok(config));
            Ok(None)
        }
        Err(error) => {
            prop_assert!(error.path().starts_with("filters"), "{}", error);
            prop_assert!(
                !error.problem.is_empty() && !error.fix.is_empty(),
                "{}",
                error
            );
            Ok(Some(error))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_json_is_read_or_refused_with_a_message(value in any_json()) {
        check_any(value)?;
    }

    /// One wrong value among defaults: the message names its key, or the entry of a list that it spoils.
    #[test]
    fn a_wrong_value_is_refused_by_the_name_of_its_key((path, _, _) in select(KEYS), value in any_json()) {
        if let Some(error) = check_any(at_path(path, value))? {
            let plain = |path: &str| path.replace("[0]", "").replace("[]", "");
            let (named, written) = (plain(&error.path()), plain(path));
            prop_assert!(named.starts_with(&written) || written.starts_with(&named) && named.len() > "filters".len(), "{}", error);
        }
    }
}
