//! What travels in Heliograph's log: event values, typed identities, record headers and seals. No I/O, no clock.
//!
//! A record's value is one Yellowstone [`proto::geyser::SubscribeUpdate`] (or a [`Seal`], [`CanonicalSeal`] or [`Gap`]);
//! its single header [`HEADER_KEY`] says which, for which slot, and from whom. Reading order: [`identity`] (typed
//! numbers and keys), [`header`], [`seal`], [`chunk`] (values longer than a record), [`reassembly`] (chunks → values),
//! [`topic`], [`canonical`] (records → whole slots, for the sinks), [`account_state`] (records → the newest state of accounts).

pub mod account_state;
pub mod canonical;
pub mod chunk;
pub mod header;
pub mod identity;
pub mod reassembly;
pub mod seal;
pub mod topic;

pub use account_state::{AccountState, AccountStateReader, AsOf};
pub use canonical::{CanonicalEvent, Commitment, SlotAssembler, SlotBlock};
pub use chunk::{CHUNK_BYTES_MAX, Chunk, ChunkError, chunks_of};
pub use header::{CanonicalHeader, HEADER_KEY, HeaderError, Kind, ObservedHeader};
pub use identity::{
    Blockhash, Lamports, ParseIdentityError, Pubkey, Sequence, Signature, Slot, SourceId,
    TokenAmount, WriteVersion,
};
pub use reassembly::{Reassembled, Reassembler};
pub use seal::{CanonicalSeal, Gap, GapReason, Seal, SealHash, SealedPartition};
pub use topic::{ObservedTopic, Topics, partition_of, partition_of_slot};

/// The protobuf messages of the Yellowstone gRPC protocol, version 12.7.0.
pub mod proto {
    pub use prost::Message;
    pub use yellowstone_grpc_proto::{geyser, solana::storage::confirmed_block};
}
