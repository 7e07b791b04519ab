//! Pure: what an event says, in eight bytes; the same whichever validator reported it.
//!
//! Write versions are left out: every validator process counts its own.

use event_schema::proto::geyser::{
    SubscribeUpdateAccount, SubscribeUpdateBlockMeta, SubscribeUpdateEntry,
    SubscribeUpdateTransactionInfo,
};
use prost::Message;

/// Two events with the same print are one.
pub type Print = u64;

pub fn account(update: &SubscribeUpdateAccount) -> Print {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&update.slot.to_le_bytes());
    hasher.update(&[u8::from(update.is_startup)]);
    if let Some(info) = &update.account {
        for part in [&info.pubkey, &info.owner, &info.data] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(&info.lamports.to_le_bytes());
        hasher.update(&info.rent_epoch.to_le_bytes());
        hasher.update(&[u8::from(info.executable)]);
        hasher.update(info.txn_signature.as_deref().unwrap_or_default());
    }
    first_eight(&hasher)
}

/// Of the transaction as it stands in the block of this slot.
pub fn transaction(slot: u64, info: &SubscribeUpdateTransactionInfo) -> Print {
    message(slot, info)
}

pub fn entry(entry: &SubscribeUpdateEntry) -> Print {
    message(entry.slot, entry)
}

pub fn block_meta(meta: &SubscribeUpdateBlockMeta) -> Print {
    message(meta.slot, meta)
}

fn message(slot: u64, message: &impl Message) -> Print {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&slot.to_le_bytes());
    hasher.update(&message.encode_to_vec());
    first_eight(&hasher)
}

fn first_eight(hasher: &blake3::Hasher) -> Print {
    let mut half = [0; 8];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use event_schema::proto::geyser::SubscribeUpdateAccountInfo;

    use super::*;

    fn update(lamports: u64, write_version: u64) -> SubscribeUpdateAccount {
        SubscribeUpdateAccount {
            slot: 4,
            is_startup: false,
            account: Some(SubscribeUpdateAccountInfo {
                pubkey: vec![1; 32],
                lamports,
                write_version,
                ..SubscribeUpdateAccountInfo::default()
            }),
        }
    }

    #[test]
    fn write_versions_make_no_difference_and_everything_else_does() {
        assert_eq!(account(&update(5, 1)), account(&update(5, 9)));
        assert_ne!(account(&update(5, 1)), account(&update(6, 1)));
        let mut longer = update(5, 1);
        if let Some(info) = &mut longer.account {
            info.owner = vec![0];
        }
        assert_ne!(account(&update(5, 1)), account(&longer));
        let info = |index| SubscribeUpdateTransactionInfo {
            index,
            ..SubscribeUpdateTransactionInfo::default()
        };
        assert_ne!(transaction(1, &info(0)), transaction(1, &info(1)));
        assert_ne!(transaction(1, &info(0)), transaction(2, &info(0)));
    }
}
