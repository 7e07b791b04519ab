//! Pure: events as subscribers see them. Accounts and errors go through Agave's own encoders, so that values equal the
//! validator's; what the validator looks up in its bank is taken from the stream here.
//!
//! jsonParsed needs the mint of a token account: decimals are learnt from the token balances of the transactions that
//! touch it and from mints seen in the stream. A token account whose mint was never seen falls back to base64, as the
//! validator does when it cannot find the mint.

use std::collections::HashMap;

use event_schema::proto::{
    confirmed_block::{TransactionError as EncodedError, TransactionStatusMeta},
    geyser::SubscribeUpdateAccountInfo,
};
use serde_json::{Value, json};
use solana_account::Account;
use solana_account_decoder::{
    UiAccount, UiAccountData, encode_ui_account,
    parse_account_data::{AccountAdditionalDataV3, SplTokenAdditionalDataV2},
    parse_token::get_token_account_mint,
};
use solana_pubkey::Pubkey;
use solana_rpc_client_types::config::UiAccountEncoding;
use solana_transaction_error::TransactionError;
use solana_transaction_status_client_types::UiTransactionError;
use spl_generic_token::is_known_spl_token_id;
use spl_token_2022_interface::{
    extension::{
        BaseStateWithExtensions, StateWithExtensions, interest_bearing_mint::InterestBearingConfig,
        scaled_ui_amount::ScaledUiAmountConfig,
    },
    state::Mint,
};

use crate::subscription::View;

/// An account as the bank holds it after the slot.
#[derive(Debug, Clone)]
pub struct BankAccount {
    pub pubkey: Pubkey,
    pub account: Account,
}

impl BankAccount {
    /// `None` when the update names no valid keys. An account without lamports is gone: the bank holds nothing of it.
    pub fn new(update: &SubscribeUpdateAccountInfo) -> Option<Self> {
        let pubkey = Pubkey::try_from(update.pubkey.as_slice()).ok()?;
        if update.lamports == 0 {
            return Some(Self {
                pubkey,
                account: Account::default(),
            });
        }
        Some(Self {
            pubkey,
            account: Account {
                lamports: update.lamports,
                data: update.data.clone(),
                owner: Pubkey::try_from(update.owner.as_slice()).ok()?,
                executable: update.executable,
                rent_epoch: update.rent_epoch,
            },
        })
    }

    pub fn is_gone(&self) -> bool {
        self.account.lamports == 0
    }
}

/// Mints seen in the stream, at most [`Mints::MEMORY`]; when full it starts over.
#[derive(Debug, Default)]
pub struct Mints {
    known: HashMap<Pubkey, MintFacts>,
    /// Of the newest block: interest and scaled amounts depend on it.
    pub unix_timestamp: i64,
}

#[derive(Debug, Clone, Copy)]
struct MintFacts {
    decimals: u8,
    interest: Option<InterestBearingConfig>,
    scaled: Option<ScaledUiAmountConfig>,
}

impl Mints {
    const MEMORY: usize = 200_000;

    pub fn learn_account(&mut self, account: &BankAccount) {
        if !is_known_spl_token_id(&account.account.owner) {
            return;
        }
        let Ok(mint) = StateWithExtensions::<Mint>::unpack(&account.account.data) else {
            return;
        };
        let facts = MintFacts {
            decimals: mint.base.decimals,
            interest: mint.get_extension::<InterestBearingConfig>().ok().copied(),
            scaled: mint.get_extension::<ScaledUiAmountConfig>().ok().copied(),
        };
        self.remember(account.pubkey, facts);
    }

    pub fn learn_balances(&mut self, meta: &TransactionStatusMeta) {
        let balances = meta
            .pre_token_balances
            .iter()
            .chain(&meta.post_token_balances);
        for balance in balances {
            let (Ok(mint), Some(amount)) = (
                balance.mint.parse::<Pubkey>(),
                balance.ui_token_amount.as_ref(),
            ) else {
                continue;
            };
            if self.known.contains_key(&mint) {
                continue;
            }
            let Ok(decimals) = u8::try_from(amount.decimals) else {
                continue;
            };
            let facts = MintFacts {
                decimals,
                interest: None,
                scaled: None,
            };
            self.remember(mint, facts);
        }
    }

    fn remember(&mut self, mint: Pubkey, facts: MintFacts) {
        if self.known.len() >= Self::MEMORY {
            self.known.clear();
        }
        self.known.insert(mint, facts);
    }

    fn of_token_account(&self, data: &[u8]) -> Option<AccountAdditionalDataV3> {
        let facts = self.known.get(&get_token_account_mint(data)?)?;
        let now = self.unix_timestamp;
        Some(AccountAdditionalDataV3 {
            spl_token_additional_data: Some(SplTokenAdditionalDataV2 {
                decimals: facts.decimals,
                interest_bearing_config: facts.interest.map(|config| (config, now)),
                scaled_ui_amount_config: facts.scaled.map(|config| (config, now)),
            }),
        })
    }
}

/// The account as `accountSubscribe` shows it. A data slice that was asked for is applied, which the validator's PubSub
/// accepts but does not do.
pub fn ui_account(account: &BankAccount, view: View, mints: &Mints) -> UiAccount {
    let parsed_token = view.encoding == UiAccountEncoding::JsonParsed
        && is_known_spl_token_id(&account.account.owner);
    let additional = parsed_token
        .then(|| mints.of_token_account(&account.account.data))
        .flatten();
    encode_ui_account(
        &account.pubkey,
        &account.account,
        view.encoding,
        additional,
        view.slice,
    )
}

/// The account as `programSubscribe` shows it. For the token programs, jsonParsed leaves out what cannot be parsed.
pub fn keyed_account(account: &BankAccount, view: View, mints: &Mints) -> Option<Value> {
    let shown = ui_account(account, view, mints);
    let is_parsed = matches!(shown.data, UiAccountData::Json(_));
    if view.encoding == UiAccountEncoding::JsonParsed
        && is_known_spl_token_id(&account.account.owner)
        && !is_parsed
    {
        return None;
    }
    Some(json!({ "pubkey": account.pubkey.to_string(), "account": shown }))
}

/// The `err` of a transaction: `null`, or the user-interface form of its error. Bytes that cannot be read are shown as
/// the error they certainly were: some failure.
pub fn ui_error(meta: Option<&TransactionStatusMeta>) -> Value {
    let Some(EncodedError { err }) = meta.and_then(|meta| meta.err.as_ref()) else {
        return Value::Null;
    };
    match bincode::deserialize::<TransactionError>(err) {
        Ok(error) => json!(UiTransactionError::from(error)),
        Err(_) => json!({ "Unreadable": bs58::encode(err).into_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
