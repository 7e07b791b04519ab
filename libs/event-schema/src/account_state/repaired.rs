//! The mark of a state that no source told.
//!
//! Where the updates of a block were lost, an RPC node is asked what its accounts are. The answer is a state, not an update: it
//! belongs to no block, so its header has the finalized slot as of which the node told it, [`Blockhash::default`], and
//! [`NO_WRITE`]. Its value is an account update like any other with [`RepairedState`] beside it, in a field that readers
//! who do not know it skip. It stands for everything that was written to the account up to that slot; what is written in
//! later slots follows it.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::AccountState;
use crate::identity::Blockhash;

/// Field of `SubscribeUpdate` that carries [`RepairedState`].
pub const REPAIRED_FIELD: u32 = 1003;
/// In the place of a write's number: nobody knows which write left this state.
pub const NO_WRITE: u32 = u32::MAX;

/// Where a state comes from that no source told.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RepairedState {
    /// `rpc:HOST`.
    #[prost(string, tag = "1")]
    pub source: String,
    /// The finalized slot as of which the node told it.
    #[prost(uint64, tag = "2")]
    pub as_of_slot: u64,
    /// The newest slot with a block whose updates were lost and that may have written to the account.
    #[prost(uint64, tag = "3")]
    pub lost_slot: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extension {
    #[prost(message, optional, tag = "1003")]
    repaired: Option<RepairedState>,
}

impl RepairedState {
    /// The update with the mark beside it.
    pub fn mark(&self, update: &[u8]) -> Bytes {
        let extension = Extension {
            repaired: Some(self.clone()),
        };
        let field = extension.encode_to_vec();
        let mut marked = BytesMut::with_capacity(update.len() + field.len());
        marked.put_slice(update);
        marked.put_slice(&field);
        marked.freeze()
    }

    /// The mark of an encoded `SubscribeUpdate`, if it has one.
    pub fn of(update: &Bytes) -> Option<Self> {
        let extension = Extension::decode(update.clone()).ok();
        extension.and_then(|extension| extension.repaired)
    }
}

impl AccountState {
    /// Says where the state comes from, when no source told it.
    pub fn repaired(&self) -> Option<RepairedState> {
        // Whoever looks at many states need not decode them all.
        let may_be = self.write == NO_WRITE && self.blockhash == Blockhash::default();
        may_be.then(|| RepairedState::of(&self.value)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::Slot,
        proto::geyser::{SubscribeUpdate, SubscribeUpdateAccount, subscribe_update::UpdateOneof},
    };

    #[test]
    fn who_knows_the_mark_reads_it_and_others_see_an_account() {
        let update = SubscribeUpdate {
            update_oneof: Some(UpdateOneof::Account(SubscribeUpdateAccount {
                slot: 7,
                ..SubscribeUpdateAccount::default()
            })),
            ..SubscribeUpdate::default()
        };
        let mark = RepairedState {
            source: "rpc:node".into(),
            as_of_slot: 7,
            lost_slot: 5,
        };
        let plain = Bytes::from(update.encode_to_vec());
        let marked = mark.mark(&plain);
        assert_eq!(SubscribeUpdate::decode(marked.clone()).unwrap(), update);
        assert_eq!(RepairedState::of(&marked), Some(mark.clone()));
        assert_eq!(RepairedState::of(&plain), None);
        let mut state = AccountState {
            slot: Slot(7),
            blockhash: Blockhash::default(),
            write: NO_WRITE,
            value: marked,
        };
        assert_eq!(state.repaired(), Some(mark));
        state.write = 0;
        assert_eq!(state.repaired(), None, "a write of a block");
    }
}
