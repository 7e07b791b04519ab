//! Tells subscribers of accounts and of programs what a block changed. A value is shown once per view, not per subscriber.

use std::collections::HashMap;

use serde_json::json;

use super::{Fanout, SubscriptionId, in_context};
use crate::{
    encoding::{BankAccount, keyed_account, ui_account},
    live::LiveBlock,
    subscription::{Level, Subscription, View, passes},
};

impl Fanout {
    pub(super) fn tell_accounts(&mut self, block: &LiveBlock, level: Level) {
        let index = self.index.at(level);
        if index.accounts.is_empty() && index.programs.is_empty() {
            return;
        }
        for update in &block.accounts {
            let Some(account) = BankAccount::new(update) else {
                continue;
            };
            let index = self.index.at(level);
            let by_key = index.accounts.get(&account.pubkey).cloned();
            let by_owner = index.programs.get(&account.account.owner).cloned();
            if let Some(ids) = by_key {
                self.tell_account(block, &account, &ids);
            }
            if let Some(ids) = by_owner {
                self.tell_program(block, &account, &ids);
            }
        }
    }

    fn tell_account(&mut self, block: &LiveBlock, account: &BankAccount, ids: &[SubscriptionId]) {
        // A gone account was last modified nowhere: it is told once until it exists again.
        let modified = if account.is_gone() {
            0
        } else {
            block.id.slot.0
        };
        let mut shown: HashMap<View, String> = HashMap::new();
        for id in ids {
            let Some(subscriber) = self.subscribers.get_mut(id) else {
                continue;
            };
            let Subscription::Account { view, .. } = *subscriber.subscription else {
                continue;
            };
            if subscriber.last_slot.replace(modified) == Some(modified) {
                continue;
            }
            let value = shown
                .entry(view)
                .or_insert_with(|| {
                    in_context(block, &json!(ui_account(account, view, &self.mints)))
                })
                .clone();
            self.notify(*id, &value);
        }
    }

    fn tell_program(&mut self, block: &LiveBlock, account: &BankAccount, ids: &[SubscriptionId]) {
        let mut shown: HashMap<View, Option<String>> = HashMap::new();
        for id in ids {
            let Some(subscriber) = self.subscribers.get(id) else {
                continue;
            };
            let Subscription::Program { filters, view, .. } = &*subscriber.subscription else {
                continue;
            };
            if !passes(filters, &account.account.data) {
                continue;
            }
            let view = *view;
            let value = shown
                .entry(view)
                .or_insert_with(|| {
                    keyed_account(account, view, &self.mints).map(|value| in_context(block, &value))
                })
                .clone();
            if let Some(value) = value {
                self.notify(*id, &value);
            }
        }
    }
}
