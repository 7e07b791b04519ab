//! A transaction as it came, less its first signature, which `transactions` has.

use event_schema::proto::{Message as _, geyser::SubscribeUpdateTransactionInfo};

use crate::sink::{native::Blob, tables::RawTransactionRow};

/// How a message whose first field is a signature of 64 bytes begins: field 1, length-delimited, the length.
const SIGNATURE_HEAD: [u8; 2] = [0x0a, 64];

pub fn row(slot: u64, tx_index: u32, update: &SubscribeUpdateTransactionInfo) -> RawTransactionRow {
    let whole = update
        .transaction
        .as_ref()
        .map(|transaction| transaction.encode_to_vec())
        .unwrap_or_default();
    let rest = whole
        .strip_prefix(&SIGNATURE_HEAD)
        .filter(|_| update.signature.len() == 64)
        .and_then(|rest| rest.strip_prefix(update.signature.as_slice()))
        .map(<[u8]>::to_vec);
    RawTransactionRow {
        slot,
        tx_index,
        signature_apart: rest.is_some(),
        transaction: Blob(rest.unwrap_or(whole)),
        meta: update.meta.as_ref().map(|meta| Blob(meta.encode_to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use event_schema::proto::confirmed_block::{Message, Transaction};

    use super::*;

    fn update(known: &[u8], signatures: &[&[u8]]) -> SubscribeUpdateTransactionInfo {
        SubscribeUpdateTransactionInfo {
            signature: known.to_vec(),
            transaction: Some(Transaction {
                signatures: signatures.iter().map(|bytes| bytes.to_vec()).collect(),
                message: Some(Message {
                    account_keys: vec![vec![1; 32]],
                    ..Message::default()
                }),
            }),
            ..SubscribeUpdateTransactionInfo::default()
        }
    }

    /// As the view `transactions_whole` does it.
    fn whole(row: &RawTransactionRow, known: &[u8]) -> Vec<u8> {
        let head = [&SIGNATURE_HEAD[..], known].concat();
        let apart = if row.signature_apart {
            head
        } else {
            Vec::new()
        };
        [apart, row.transaction.0.clone()].concat()
    }

    #[test]
    fn the_signature_is_left_out_where_it_can_be_given_back() {
        let (a, b, short) = ([7; 64], [8; 64], [7; 63]);
        let cases: [(&[u8], &[&[u8]], bool); 6] = [
            (&a, &[&a], true),
            (&a, &[&a, &b], true),
            (&a, &[&b, &a], false),
            (&a, &[], false),
            (&a, &[&short], false),
            (&short, &[&short, &a], false),
        ];
        for (known, signatures, apart) in cases {
            let update = update(known, signatures);
            let row = row(1, 2, &update);
            assert_eq!(row.signature_apart, apart, "{signatures:?}");
            let read = Transaction::decode(whole(&row, known).as_slice()).unwrap();
            assert_eq!(Some(read), update.transaction);
            assert_eq!(row.meta, None);
        }
    }
}
