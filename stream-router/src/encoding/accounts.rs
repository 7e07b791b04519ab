//! Accounts as `accountSubscribe` and `programSubscribe` show them.

use event_schema::proto::geyser::SubscribeUpdateAccountInfo;
use serde_json::{Value, json};
use solana_account::Account;
use solana_account_decoder::{UiAccount, UiAccountData, encode_ui_account};
use solana_pubkey::Pubkey;
use solana_rpc_client_types::config::UiAccountEncoding;
use spl_generic_token::is_known_spl_token_id;

use super::Mints;
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
