//! Pure: which accounts a block may have written, from what it carries besides account updates.
//!
//! Those that a transaction may write, and those that were paid a reward. More than were written: it does no harm to ask for one
//! that was not. Not named are the few accounts that the chain itself writes: sysvars (the next block writes them
//! again) and what an epoch's features change.

use std::collections::BTreeSet;

use event_schema::{
    Pubkey,
    proto::{confirmed_block::Message, geyser::SubscribeUpdateTransactionInfo},
};

use crate::{assembly::Block, observation::Body};

pub fn accounts(block: &Block) -> BTreeSet<Pubkey> {
    let mut accounts = BTreeSet::new();
    for content in &block.contents {
        match &content.body {
            Body::Transaction(info) => writable(info, &mut accounts),
            Body::Account(info) => accounts.extend(Pubkey::try_from(info.pubkey.as_slice()).ok()),
            Body::BlockMeta(view) => {
                let rewards = view.meta.rewards.iter().flat_map(|all| &all.rewards);
                accounts.extend(rewards.filter_map(|reward| reward.pubkey.parse::<Pubkey>().ok()));
            }
            Body::Entry => {}
        }
    }
    accounts
}

fn writable(info: &SubscribeUpdateTransactionInfo, out: &mut BTreeSet<Pubkey>) {
    let transaction = info.transaction.as_ref();
    if let Some(message) = transaction.and_then(|transaction| transaction.message.as_ref()) {
        let keys = message.account_keys.iter().enumerate();
        let written = keys.filter(|(index, _)| is_writable(message, *index));
        out.extend(written.filter_map(|(_, key)| Pubkey::try_from(key.as_slice()).ok()));
    }
    let loaded = info
        .meta
        .iter()
        .flat_map(|meta| &meta.loaded_writable_addresses);
    out.extend(loaded.filter_map(|key| Pubkey::try_from(key.as_slice()).ok()));
}

/// Of the keys in the message: signers first, and of each part those that are only read last.
fn is_writable(message: &Message, index: usize) -> bool {
    let Some(header) = &message.header else {
        return true;
    };
    let signers = header.num_required_signatures as usize;
    let part_end = if index < signers {
        signers.saturating_sub(header.num_readonly_signed_accounts as usize)
    } else {
        let read = header.num_readonly_unsigned_accounts as usize;
        message.account_keys.len().saturating_sub(read)
    };
    index < part_end
}

#[cfg(test)]
mod tests {
    use event_schema::proto::confirmed_block::{MessageHeader, Transaction, TransactionStatusMeta};

    use super::*;

    #[test]
    fn a_transactions_writable_accounts_are_those_agave_counts() {
        let key = |number: u8| vec![number; 32];
        let info = SubscribeUpdateTransactionInfo {
            transaction: Some(Transaction {
                message: Some(Message {
                    header: Some(MessageHeader {
                        num_required_signatures: 3,
                        num_readonly_signed_accounts: 1,
                        num_readonly_unsigned_accounts: 2,
                    }),
                    account_keys: (0..7).map(key).collect(),
                    ..Message::default()
                }),
                ..Transaction::default()
            }),
            meta: Some(TransactionStatusMeta {
                loaded_writable_addresses: vec![key(20), vec![1; 5]],
                loaded_readonly_addresses: vec![key(21)],
                ..TransactionStatusMeta::default()
            }),
            ..SubscribeUpdateTransactionInfo::default()
        };
        let mut out = BTreeSet::new();
        writable(&info, &mut out);
        // Two signers, then the unsigned ones without the last two, then the table's.
        let expected = [0, 1, 3, 4, 20].map(|number| Pubkey([number; 32]));
        assert_eq!(out, expected.into());
    }
}
