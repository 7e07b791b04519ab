//! The look-up tables beside the tables they are of, in both directions.

use crate::{Bed, ask};

/// Rows of one side that the other lacks.
async fn without(bed: &Bed, these: &str, those: &str) -> String {
    let sql = format!("SELECT count() FROM ({these} EXCEPT {those})");
    ask(&bed.door.url(), &sql).await
}

async fn same(bed: &Bed, these: &str, those: &str) {
    let url = bed.door.url();
    let count = async |of: &str| ask(&url, &format!("SELECT count() FROM ({of})")).await;
    let (one, other) = (count(these).await, count(those).await);
    assert_eq!(one, other, "{these}");
    assert_ne!(one, "0", "{these}");
    assert_eq!(without(bed, these, those).await, "0", "{these}");
    assert_eq!(without(bed, those, these).await, "0", "{those}");
}

pub async fn agree(bed: &Bed) {
    same(
        bed,
        "SELECT signature_hash, slot, tx_index FROM transactions_by_signature",
        "SELECT reinterpretAsUInt64(substring(signature, 1, 8)), slot, tx_index FROM transactions",
    )
    .await;
    same(
        bed,
        "SELECT account_hash, slot, tx_index FROM transactions_by_account",
        "SELECT reinterpretAsUInt64(substring(toFixedString(arrayJoin(account_keys), 32), 1, 8)), slot, tx_index FROM transactions WHERE NOT is_vote",
    )
    .await;
    for (table, asset, mint, amount) in [
        ("token_transfers", "token", "mint", "amount"),
        ("sol_transfers", "sol", "NULL", "lamports"),
    ] {
        for side in ["source", "destination"] {
            same(
                bed,
                &format!("SELECT base58Encode(account), slot, tx_index, path, event_index, kind, base58Encode(mint), amount, success FROM transfers_by_account WHERE asset = '{asset}' AND side = '{side}'"),
                &format!("SELECT base58Encode(assumeNotNull({side})), slot, tx_index, path, event_index, kind, base58Encode({mint}), {amount}, success FROM {table} WHERE {side} IS NOT NULL"),
            )
            .await;
        }
    }
    owners(bed).await;
    accounts_of_instructions(bed).await;
}

/// Who owned a token account that changed is in `balance_changes` too.
async fn owners(bed: &Bed) {
    for side in ["source", "destination"] {
        let sql = format!(
            "SELECT countIf(b.owner != t.account), count() FROM
                (SELECT * FROM transfers_by_account WHERE side = '{side}_owner' AND success = true) AS t
                INNER JOIN (SELECT slot, tx_index, path, event_index, {side} AS token_account FROM token_transfers) AS of USING (slot, tx_index, path, event_index)
                INNER JOIN (SELECT slot, tx_index, account, owner FROM balance_changes WHERE owner IS NOT NULL) AS b
                    ON b.slot = t.slot AND b.tx_index = t.tx_index AND b.account = of.token_account"
        );
        let answer = ask(&bed.door.url(), &sql).await;
        let (wrong, all) = answer.split_once('\t').unwrap();
        assert_eq!(wrong, "0", "{side}");
        assert_ne!(all, "0", "{side}");
    }
}

/// The view gives every instruction its keys, and an earlier version's rows theirs.
async fn accounts_of_instructions(bed: &Bed) {
    let url = bed.door.url();
    let sql = "SELECT count() = (SELECT count() FROM instructions), countIf(length(accounts) > 2) > 100, countIf(has(accounts, NULL)) FROM instructions_with_accounts";
    assert_eq!(ask(&url, sql).await, "1\t1\t0");
    // A token transfer's first account is its source.
    let sql = "SELECT count() > 10, countIf(i.accounts[1] != t.source) FROM instructions_with_accounts AS i
               INNER JOIN (SELECT slot, tx_index, path, source FROM token_transfers WHERE kind = 'transfer' AND event_index = 0) AS t
               ON t.slot = i.slot AND t.tx_index = i.tx_index AND t.path = i.path WHERE i.name = 'transfer'";
    assert_eq!(ask(&url, sql).await, "1\t0");
}
