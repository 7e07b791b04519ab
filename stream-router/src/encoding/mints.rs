//! What jsonParsed must know of a token account's mint. Decimals are learnt from the token balances of the transactions
//! that touch it and from mints seen in the stream. A token account whose mint was never seen falls back to base64, as the
//! validator does when it cannot find the mint.

use std::collections::HashMap;

use event_schema::proto::geyser::{SubscribeUpdateAccountInfo, SubscribeUpdateTransactionInfo};
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

use crate::{lazy::Lazy, scan};

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

    /// Learns from the account if it is a mint. Most are not: no account is decoded for this.
    pub fn learn_account(&mut self, account: &Lazy<SubscribeUpdateAccountInfo>) {
        if let Some(view) = account.undecoded().and_then(|it| scan::account_view(it)) {
            let (pubkey, owner) = (view.pubkey.0.into(), view.owner.0.into());
            self.learn_mint(pubkey, owner, view.lamports, view.data);
        } else if let (Ok(pubkey), Ok(owner)) = (
            Pubkey::try_from(account.pubkey.as_slice()),
            Pubkey::try_from(account.owner.as_slice()),
        ) {
            self.learn_mint(pubkey, owner, account.lamports, &account.data);
        }
    }

    fn learn_mint(&mut self, pubkey: Pubkey, owner: Pubkey, lamports: u64, data: &[u8]) {
        // An account without lamports is gone.
        if lamports == 0 || !is_known_spl_token_id(&owner) {
            return;
        }
        let Ok(mint) = StateWithExtensions::<Mint>::unpack(data) else {
            return;
        };
        let facts = MintFacts {
            decimals: mint.base.decimals,
            interest: mint.get_extension::<InterestBearingConfig>().ok().copied(),
            scaled: mint.get_extension::<ScaledUiAmountConfig>().ok().copied(),
        };
        self.remember(pubkey, facts);
    }

    /// Learns from the transaction's token balances, without decoding it.
    pub fn learn_balances(&mut self, transaction: &Lazy<SubscribeUpdateTransactionInfo>) {
        if let Some(update) = transaction.undecoded() {
            // Every one that was scanned can be walked through.
            let _ = scan::token_balances(update, |mint, decimals| self.learn(mint, decimals));
        } else if let Some(meta) = &transaction.meta {
            let before = meta.pre_token_balances.iter();
            for balance in before.chain(&meta.post_token_balances) {
                if let Some(amount) = &balance.ui_token_amount {
                    self.learn(&balance.mint, amount.decimals);
                }
            }
        }
    }

    fn learn(&mut self, mint: &str, decimals: u32) {
        let (Ok(mint), Ok(decimals)) = (mint.parse::<Pubkey>(), u8::try_from(decimals)) else {
            return;
        };
        if self.known.contains_key(&mint) {
            return;
        }
        let facts = MintFacts {
            decimals,
            interest: None,
            scaled: None,
        };
        self.remember(mint, facts);
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
