//! Tells subscribers of signatures and of logs what a block executed.

use serde_json::json;

use super::{Fanout, SubscriptionId, in_context};
use crate::{
    encoding::ui_error,
    live::LiveBlock,
    subscription::{Level, Subscription},
};

impl Fanout {
    /// Subscribers that asked for it learn that their transaction arrived, before it reaches their level.
    pub(super) fn tell_received(&mut self, block: &LiveBlock) {
        let any = Level::ALL
            .iter()
            .any(|level| !self.index.at(*level).signatures.is_empty());
        if !any {
            return;
        }
        for transaction in &block.transactions {
            let Ok(signature) = <[u8; 64]>::try_from(transaction.signature.as_slice()) else {
                continue;
            };
            for level in Level::ALL {
                let Some(ids) = self.index.at(level).signatures.get(&signature).cloned() else {
                    continue;
                };
                for id in ids {
                    let Some(subscriber) = self.subscribers.get_mut(&id) else {
                        continue;
                    };
                    let asked = matches!(
                        *subscriber.subscription,
                        Subscription::Signature { received: true, .. }
                    );
                    if asked && !subscriber.received_told {
                        subscriber.received_told = true;
                        let value = in_context(block, &json!("receivedSignature"));
                        self.notify(id, &value);
                    }
                }
            }
        }
    }

    pub(super) fn tell_transactions(&mut self, block: &LiveBlock, level: Level) {
        for transaction in &block.transactions {
            let index = self.index.at(level);
            let mut logs: Vec<SubscriptionId> = index.logs_with_votes.clone();
            if !transaction.is_vote {
                logs.extend_from_slice(&index.logs);
            }
            if !index.mentions.is_empty() {
                logs.extend(index.mentioned(transaction));
            }
            let signature = <[u8; 64]>::try_from(transaction.signature.as_slice()).ok();
            let waiting = signature
                .and_then(|signature| index.signatures.get(&signature))
                .cloned()
                .unwrap_or_default();
            let meta = transaction.meta.as_ref();
            if !waiting.is_empty() {
                let value = in_context(block, &json!({ "err": ui_error(meta) }));
                for id in waiting {
                    self.notify(id, &value);
                    self.unsubscribe(id);
                }
            }
            // A transaction that only paid its fee was not executed and has no logs.
            let Some(meta) = meta.filter(|meta| !meta.log_messages_none) else {
                continue;
            };
            if !logs.is_empty() {
                let value = in_context(
                    block,
                    &json!({
                        "signature": bs58::encode(&transaction.signature).into_string(),
                        "err": ui_error(Some(meta)),
                        "logs": meta.log_messages,
                    }),
                );
                for id in logs {
                    self.notify(id, &value);
                }
            }
        }
    }
}
