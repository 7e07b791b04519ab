//! Pure: the nodes of the cluster as the validators reported them, each as it was last.

use std::collections::BTreeMap;

use event_schema::proto::geyser::{
    GossipTopology, SubscribeUpdateContactInfoNode, SubscribeUpdateGossip,
    subscribe_update_gossip::UpdateOneof,
};

/// Ten times as many as there are on mainnet.
const NODES_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub struct Topology {
    nodes: BTreeMap<Vec<u8>, SubscribeUpdateContactInfoNode>,
    /// Of the newest change.
    revision: u64,
}

impl Topology {
    /// The change as it is told; `None` when nothing has changed. Of two reports about a node the one it made later counts.
    pub fn apply(&mut self, update: SubscribeUpdateGossip) -> Option<SubscribeUpdateGossip> {
        match update.update_oneof.as_ref()? {
            UpdateOneof::Node(node) => {
                let known = self.nodes.get(&node.pubkey);
                let is_new = known.is_none_or(|known| known.wallclock < node.wallclock);
                let has_room = known.is_some() || self.nodes.len() < NODES_MAX;
                if node.pubkey.len() != 32 || !is_new || !has_room {
                    return None;
                }
                self.nodes.insert(node.pubkey.clone(), node.clone());
            }
            UpdateOneof::Removed(removed) => drop(self.nodes.remove(&removed.pubkey)?),
            UpdateOneof::Ping(_) | UpdateOneof::Snapshot(_) => return None,
        }
        self.revision += 1;
        Some(SubscribeUpdateGossip {
            seq: self.revision,
            ..update
        })
    }

    /// For one who begins: changes that follow have greater numbers.
    pub fn snapshot(&self) -> SubscribeUpdateGossip {
        SubscribeUpdateGossip {
            seq: self.revision,
            update_oneof: Some(UpdateOneof::Snapshot(GossipTopology {
                nodes: self.nodes.values().cloned().collect(),
            })),
            ..SubscribeUpdateGossip::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use event_schema::proto::geyser::SubscribeUpdateContactInfoRemoved;

    use super::*;

    fn node(key: u8, wallclock: u64) -> SubscribeUpdateGossip {
        SubscribeUpdateGossip {
            update_oneof: Some(UpdateOneof::Node(SubscribeUpdateContactInfoNode {
                pubkey: vec![key; 32],
                wallclock,
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    fn removed(key: u8) -> SubscribeUpdateGossip {
        SubscribeUpdateGossip {
            update_oneof: Some(UpdateOneof::Removed(SubscribeUpdateContactInfoRemoved {
                pubkey: vec![key; 32],
            })),
            ..Default::default()
        }
    }

    #[test]
    fn a_node_is_as_it_said_last_and_every_change_has_a_number() {
        let mut topology = Topology::default();
        let mut revision = |update| topology.apply(update).map(|change| change.seq);
        assert_eq!(revision(node(1, 10)), Some(1));
        assert_eq!(revision(node(2, 10)), Some(2));
        // From another validator, or older.
        assert_eq!(revision(node(1, 10)), None);
        assert_eq!(revision(node(1, 9)), None);
        assert_eq!(revision(node(1, 11)), Some(3));
        assert_eq!(revision(removed(2)), Some(4));
        assert_eq!(revision(removed(2)), None);
        let snapshot = topology.snapshot();
        assert_eq!(snapshot.seq, 4);
        let Some(UpdateOneof::Snapshot(all)) = snapshot.update_oneof else {
            panic!("a snapshot");
        };
        assert_eq!(all.nodes.len(), 1);
        assert_eq!(all.nodes[0].wallclock, 11);
    }

    #[test]
    fn there_are_not_more_nodes_than_there_may_be() {
        let mut topology = Topology::default();
        for number in 0..NODES_MAX as u64 + 10 {
            let mut update = node(0, 1);
            if let Some(UpdateOneof::Node(node)) = &mut update.update_oneof {
                node.pubkey[..8].copy_from_slice(&number.to_le_bytes());
            }
            topology.apply(update);
        }
        assert_eq!(topology.nodes.len(), NODES_MAX);
    }
}
