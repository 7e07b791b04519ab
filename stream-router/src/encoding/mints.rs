//! What jsonParsed must know of a token account's mint. Decimals are learnt from the token balances of the transactions
//! that touch it and from mints seen in the stream. A token account whose mint was never seen falls back to base64, as the
//! validator does when it cannot find the mint.

use std::collections::HashMap;

use event_schema::proto::confirmed_block::TransactionStatusMeta;
use solana_account_decoder::{
    parse_account_data::{AccountAdditionalDataV3, SplTokenAdditionalDataV2},
    parse_token::get_token_account_mint,
};
use solana_pubkey::Pubkey;
use spl_generic_token::is_known_spl_token_id;
use spl_token_2022_interface::{
    extension::{
        BaseStateWithExtensions, StateWithExtensions, interest_bearing_mint::InterestBearingConfig,
        scaled_ui_amount::ScaledUiAmountConfig,
    },
    state::Mint,
};

use super::BankAccount;

/// Mints seen in the stream, at most [`Mints::MEMORY`]; when full it starts over.
#[derive(Debug, Default)]
pub struct Mints {
    known: HashMap<Pubkey, MintFacts>,
    /// Of the newest block: interest and scaled amounts depend on it.
    pub unix_timestamp: i64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MintFacts {
    pub(super) decimals: u8,
    pub(super) interest: Option<InterestBearingConfig>,
    pub(super) scaled: Option<ScaledUiAmountConfig>,
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

    pub(super) fn remember(&mut self, mint: Pubkey, facts: MintFacts) {
        if self.known.len() >= Self::MEMORY {
            self.known.clear();
        }
        self.known.insert(mint, facts);
    }

    pub(super) fn of_token_account(&self, data: &[u8]) -> Option<AccountAdditionalDataV3> {
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
