//! What the keys under `filters` mean: for the reference that operators read, and for error messages.

use std::fmt::Write as _;

/// Path, default as JSON, form and meaning. `[]` stands for the entries of a list. A test keeps it complete.
pub const KEYS: &[(&str, &str, &str)] = &[
    (
        "filters.accounts.enabled",
        "true",
        "true or false: whether account updates are sent",
    ),
    (
        "filters.accounts.accounts",
        "[]",
        "a list of base58 addresses, at most 1,000,000: only these accounts; empty means any",
    ),
    (
        "filters.accounts.owners",
        "[]",
        "a list of base58 addresses, at most 1,000,000: only accounts of these programs; empty means any; an account must pass this list and `accounts`",
    ),
    (
        "filters.accounts.exclude_accounts",
        "[]",
        "a list of base58 addresses, at most 1,000,000: never these accounts, whatever else says yes",
    ),
    (
        "filters.accounts.exclude_owners",
        "[]",
        "a list of base58 addresses, at most 1,000,000: never accounts of these programs, whatever else says yes",
    ),
    (
        "filters.accounts.memcmp",
        "[]",
        "a list of at most 4 objects, each an offset and one of base58, base64 and bytes: only accounts whose data has all these bytes",
    ),
    (
        "filters.accounts.memcmp[].offset",
        "required",
        "a whole number: where in the account's data the bytes begin; offset and length together at most 10485760",
    ),
    (
        "filters.accounts.memcmp[].base58",
        "null",
        "a base58 text of 1 to 128 bytes, for example an address",
    ),
    (
        "filters.accounts.memcmp[].base64",
        "null",
        "a base64 text, padded, of 1 to 128 bytes",
    ),
    (
        "filters.accounts.memcmp[].bytes",
        "null",
        "a list of 1 to 128 numbers from 0 to 255",
    ),
    (
        "filters.accounts.datasize",
        "null",
        "a whole number of bytes, at most 10485760, or null: only accounts with exactly that much data",
    ),
    (
        "filters.accounts.token_account_state",
        "false",
        "true or false: only initialised token accounts of SPL Token or Token-2022, told by their data alone; name the programs in `owners` to be sure",
    ),
    (
        "filters.accounts.lamports",
        "[]",
        "a list of at most 4 objects, each with one of eq, ne, lt and gt: only accounts whose balance passes all",
    ),
    (
        "filters.accounts.lamports[].eq",
        "none",
        "a whole number of lamports: the balance is this",
    ),
    (
        "filters.accounts.lamports[].ne",
        "none",
        "a whole number of lamports: the balance is not this",
    ),
    (
        "filters.accounts.lamports[].lt",
        "none",
        "a whole number of lamports: the balance is less",
    ),
    (
        "filters.accounts.lamports[].gt",
        "none",
        "a whole number of lamports: the balance is more",
    ),
    (
        "filters.accounts.nonempty_txn_signature",
        "null",
        "true, false or null: only writes by transactions, only those by the validator itself (sysvars, fees, rewards, start-up), or both",
    ),
    (
        "filters.transactions.enabled",
        "true",
        "true or false: whether transactions are sent",
    ),
    (
        "filters.transactions.vote",
        "null",
        "true, false or null: only simple votes, none of them, or both",
    ),
    (
        "filters.transactions.failed",
        "null",
        "true, false or null: only failed transactions, only successful ones, or both",
    ),
    (
        "filters.transactions.account_include",
        "[]",
        "a list of base58 addresses, at most 1,000,000: only transactions that name one of them, in the message or through a lookup table; empty means any",
    ),
    (
        "filters.transactions.account_exclude",
        "[]",
        "a list of base58 addresses, at most 1,000,000: never transactions that name one of them, in the message or through a lookup table",
    ),
    (
        "filters.transactions.account_required",
        "[]",
        "a list of at most 256 base58 addresses: only transactions that name all of them, in the message or through a lookup table",
    ),
    (
        "filters.entries",
        "true",
        "true or false: whether entries are sent",
    ),
    (
        "filters.block_meta",
        "true",
        "true or false: whether block metadata is sent",
    ),
    (
        "filters.slots",
        "true",
        "true or false: whether slot statuses are sent",
    ),
    (
        "filters.deshred",
        "true",
        "true or false: whether deshredded transactions are sent, if `deshred` is true; of the conditions under `transactions` all but `failed` must hold for them too",
    ),
    (
        "filters.contact_info",
        "true",
        "true or false: whether contact info is sent, if `contact_info` is true",
    ),
    (
        "filters.accounts_data_slice",
        "[]",
        "a list of at most 64 objects with offset and length, sorted and not overlapping: only these pieces of an account's data are sent, one after the other; empty means all, a single piece of length 0 means none",
    ),
    (
        "filters.accounts_data_slice[].offset",
        "required",
        "a whole number of bytes: where the piece begins",
    ),
    (
        "filters.accounts_data_slice[].length",
        "required",
        "a whole number of bytes: how long the piece is; of an account whose data ends earlier, the piece is left out whole; offset and length together at most 10485760",
    ),
];

/// What may be written at a path under `filters`, for an error message.
pub(super) fn form_of(key: &str) -> String {
    let mut path = without_indices(key);
    loop {
        if let Some(form) = form_at(&path) {
            return format!("`{path}` takes {form}");
        }
        // An unknown key, or an entry of a list: what holds it is known.
        let cut = path.rfind(['.', '[']).unwrap_or(0);
        path.truncate(cut);
        if path.is_empty() {
            return "see the reference of `filters`".to_owned();
        }
    }
}

/// At this path under `filters` stands an object.
pub(super) fn is_object(key: &str) -> bool {
    has_below(&without_indices(key), ".")
}

/// At this path, or in the entries of its list, stand objects.
pub(super) fn leads_to_objects(key: &str) -> bool {
    let path = without_indices(key);
    has_below(&path, ".") || has_below(&path, "[]")
}

fn has_below(path: &str, separator: &str) -> bool {
    KEYS.iter().any(|(key, _, _)| {
        key.strip_prefix(path)
            .is_some_and(|rest| rest.starts_with(separator))
    })
}

fn form_at(path: &str) -> Option<String> {
    if let Some((_, _, meaning)) = KEYS.iter().find(|(key, _, _)| *key == path) {
        return Some((*meaning).to_owned());
    }
    let mut inner: Vec<&str> = KEYS
        .iter()
        .filter_map(|(key, _, _)| key.strip_prefix(path)?.strip_prefix('.'))
        .filter_map(|rest| rest.split(['.', '[']).next())
        .collect();
    inner.dedup();
    (!inner.is_empty()).then(|| format!("an object of {}", inner.join(", ")))
}

/// `accounts.memcmp[2].base58` → `filters.accounts.memcmp[].base58`.
fn without_indices(key: &str) -> String {
    let mut path = String::from("filters");
    for part in key.split('.').filter(|part| !part.is_empty()) {
        // Writing to a string cannot fail.
        let _ = match part.split_once('[') {
            Some((name, _)) => write!(path, ".{name}[]"),
            None => write!(path, ".{part}"),
        };
    }
    path
}
