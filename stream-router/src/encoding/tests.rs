use event_schema::proto::{
    confirmed_block::{TransactionError as EncodedError, TransactionStatusMeta},
    geyser::SubscribeUpdateAccountInfo,
};
use serde_json::{Value, json};
use solana_pubkey::Pubkey;
use solana_rpc_client_types::config::UiAccountEncoding;
use solana_transaction_error::TransactionError;

use super::{mints::MintFacts, *};
use crate::subscription::View;

fn update(lamports: u64, data: Vec<u8>) -> SubscribeUpdateAccountInfo {
    SubscribeUpdateAccountInfo {
        pubkey: vec![1; 32],
        lamports,
        owner: vec![2; 32],
        rent_epoch: u64::MAX,
        data,
        ..Default::default()
    }
}

fn shown(update: &SubscribeUpdateAccountInfo, encoding: UiAccountEncoding) -> Value {
    let view = View {
        encoding,
        slice: None,
    };
    json!(ui_account(
        &BankAccount::new(update).unwrap(),
        view,
        &Mints::default()
    ))
}

#[test]
fn accounts_look_as_the_validator_shows_them() {
    let owner = Pubkey::from([2; 32]).to_string();
    assert_eq!(
        shown(&update(7, b"hello".to_vec()), UiAccountEncoding::Base64),
        json!({"lamports": 7, "data": ["aGVsbG8=", "base64"], "owner": owner,
            "executable": false, "rentEpoch": u64::MAX, "space": 5})
    );
    assert_eq!(
        shown(&update(7, b"hello".to_vec()), UiAccountEncoding::Binary)["data"],
        json!("Cn8eVZg")
    );
    assert_eq!(
        shown(&update(7, vec![0; 129]), UiAccountEncoding::Base58)["data"],
        json!(["error: data too large for bs58 encoding", "base58"])
    );
    assert_eq!(
        shown(&update(7, b"hello".to_vec()), UiAccountEncoding::JsonParsed)["data"],
        json!(["aGVsbG8=", "base64"])
    );
}

#[test]
fn a_closed_account_is_an_empty_one() {
    assert_eq!(
        shown(&update(0, vec![1; 9]), UiAccountEncoding::Base64),
        json!({"lamports": 0, "data": ["", "base64"], "owner": "11111111111111111111111111111111",
            "executable": false, "rentEpoch": 0, "space": 0})
    );
}

#[test]
fn errors_have_the_form_clients_know() {
    let encoded = |error: &TransactionError| TransactionStatusMeta {
        err: Some(EncodedError {
            err: bincode::serialize(error).unwrap(),
        }),
        ..Default::default()
    };
    assert_eq!(
        ui_error(Some(&TransactionStatusMeta::default())),
        Value::Null
    );
    // InstructionError(0, Custom(1)) in the storage convention: variant 8, index 0, variant 25, code 1.
    let bytes = [8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0];
    let meta = TransactionStatusMeta {
        err: Some(EncodedError {
            err: bytes.to_vec(),
        }),
        ..Default::default()
    };
    assert_eq!(
        ui_error(Some(&meta)),
        json!({"InstructionError": [0, {"Custom": 1}]})
    );
    let meta = encoded(&TransactionError::InsufficientFundsForRent { account_index: 2 });
    assert_eq!(
        ui_error(Some(&meta)),
        json!({"InsufficientFundsForRent": {"account_index": 2}})
    );
    let meta = encoded(&TransactionError::AccountNotFound);
    assert_eq!(ui_error(Some(&meta)), json!("AccountNotFound"));
}

#[test]
fn token_accounts_are_parsed_once_their_mint_is_known() {
    let mint = Pubkey::from([9; 32]);
    let mut data = vec![0; 165];
    data[..32].copy_from_slice(mint.as_ref());
    data[32..64].copy_from_slice(&[4; 32]);
    data[64..72].copy_from_slice(&1_500_000u64.to_le_bytes());
    data[108] = 1;
    let mut token = update(2_039_280, data);
    token.owner = spl_generic_token::token::id().to_bytes().to_vec();
    let account = BankAccount::new(&token).unwrap();
    let view = View {
        encoding: UiAccountEncoding::JsonParsed,
        slice: None,
    };
    let mut mints = Mints::default();
    assert_eq!(
        json!(ui_account(&account, view, &mints))["data"][1],
        "base64"
    );
    assert_eq!(keyed_account(&account, view, &mints), None);
    mints.remember(
        mint,
        MintFacts {
            decimals: 6,
            interest: None,
            scaled: None,
        },
    );
    let shown = json!(ui_account(&account, view, &mints));
    assert_eq!(
        shown["data"]["parsed"]["info"]["tokenAmount"]["uiAmountString"],
        "1.5"
    );
    assert!(keyed_account(&account, view, &mints).is_some());
}
