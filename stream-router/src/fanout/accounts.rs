//! Tells subscribers of accounts and of programs what a block changed. A value is shown once per view, not per subscriber.

use std::collections::HashMap;

use serde_json::json;

use super::{
    Fanout, SubscriptionId, Told,
    index::{Interest, Topic},
};
use crate::{
    encoding::{BankAccount, in_context, keyed_account, ui_account},
    live::LiveBlock,
    subscription::{Level, Subscription, View, passes},
};

impl Fanout {
    pub(super) fn tell_accounts(&mut self, block: &LiveBlock, level: Level) {
        if !self.index.any(Interest::Accounts, level) {
            return;
        }
        for update in &block.accounts {
            let Some(account) = BankAccount::new(update) else {
                continue;
            };
            let by_key = Topic::Account(level, account.pubkey);
            let by_owner = Topic::Program(level, account.account.owner);
            let (by_key, by_owner) = (
                self.index.under(by_key).to_vec(),
                self.index.under(by_owner).to_vec(),
            );
            if !by_key.is_empty() {
                self.tell_account(block, &account, &by_key);
            }
            if !by_owner.is_empty() {
                self.tell_program(block, &account, &by_owner);
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
        let mut shown: HashMap<View, Told> = HashMap::new();
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
                    in_context(block.id.slot, json!(ui_account(account, view, &self.mints))).into()
                })
                .clone();
            self.notify(*id, &value);
        }
    }

    fn tell_program(&mut self, block: &LiveBlock, account: &BankAccount, ids: &[SubscriptionId]) {
        let mut shown: HashMap<View, Option<Told>> = HashMap::new();
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
                    keyed_account(account, view, &self.mints)
                        .map(|value| in_context(block.id.slot, &value).into())
                })
                .clone();
            if let Some(value) = value {
                self.notify(*id, &value);
            }
        }
    }
}
