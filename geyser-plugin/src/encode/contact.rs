//! How a node of the cluster is reached: one `SubscribeUpdateGossip`.
//!
//! Whether it is of the first report after loading, and the revision of a table that is not kept here, stay empty.

use std::net::SocketAddr;

use agave_geyser_plugin_interface::geyser_plugin_interface::ReplicaContactInfoV0_0_1;

use super::{Out, wire};

// Fields of `SubscribeUpdateGossip`.
const NODE: u32 = 1;
const REMOVED: u32 = 2;

pub fn contact_info(out: &mut Out<'_>, info: &ReplicaContactInfoV0_0_1<'_>) {
    wire::message(out, NODE, 2, |out| {
        wire::bytes(out, 1, info.pubkey);
        wire::uint64(out, 2, info.wallclock);
        wire::uint64(out, 3, info.outset);
        wire::uint64(out, 4, info.shred_version.into());
        wire::uint64(out, 5, info.version_major.into());
        wire::uint64(out, 6, info.version_minor.into());
        wire::uint64(out, 7, info.version_patch.into());
        wire::uint64(out, 8, info.version_commit.into());
        wire::uint64(out, 9, info.version_feature_set.into());
        wire::uint64(out, 10, info.version_client_id.into());
        for (field, socket) in (11_u32..).zip(sockets(info)) {
            if let Some(socket) = socket {
                wire::display(out, field, socket);
            }
        }
    });
}

/// In the order of their fields.
fn sockets<'a>(info: &'a ReplicaContactInfoV0_0_1<'_>) -> [Option<&'a SocketAddr>; 12] {
    [
        info.gossip.as_ref(),
        info.tpu_quic.as_ref(),
        info.tpu_forwards_quic.as_ref(),
        info.tpu_vote_udp.as_ref(),
        info.tpu_vote_quic.as_ref(),
        info.tvu_udp.as_ref(),
        info.tvu_quic.as_ref(),
        info.serve_repair_udp.as_ref(),
        info.serve_repair_quic.as_ref(),
        info.rpc.as_ref(),
        info.rpc_pubsub.as_ref(),
        info.alpenglow.as_ref(),
    ]
}

/// `pubkey` is not reported any more.
pub fn contact_info_removed(out: &mut Out<'_>, pubkey: &[u8]) {
    wire::message(out, REMOVED, 1, |out| wire::bytes(out, 1, pubkey));
}
