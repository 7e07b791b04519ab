//! What an event finds: at most one match per subscriber, with the names of all its filters that matched.

use std::sync::Arc;

use bytes::Bytes;

use super::{SubscriberId, blocks::BlockFilter, slices::DataSlice};

/// A subscriber that gets an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub subscriber: SubscriberId,
    /// Names of its filters that matched, encoded as field 1 of `SubscribeUpdate`.
    pub head: Bytes,
    /// Of accounts: which parts of the data it wants; none: all of it.
    pub slices: Option<Arc<[DataSlice]>>,
}

/// A subscriber that gets a block, as one of its filters wants it.
#[derive(Debug, Clone)]
pub struct BlockMatch {
    pub subscriber: SubscriberId,
    /// The filter's name, encoded as field 1 of `SubscribeUpdate`.
    pub head: Bytes,
    pub filter: Arc<BlockFilter>,
}

/// Makes one match per subscriber of those from `from` on: one filter may have been found in several ways, and several
/// filters of one subscriber may match.
pub fn settle(out: &mut Vec<Match>, from: usize) {
    out[from..].sort_unstable_by(|a, b| (a.subscriber, &a.head).cmp(&(b.subscriber, &b.head)));
    let (mut read, mut write) = (from, from);
    while read < out.len() {
        let of_one = |found: &&Match| found.subscriber == out[read].subscriber;
        let end = read + out[read..].iter().take_while(of_one).count();
        if out[read].head != out[end - 1].head {
            let mut heads: Vec<&Bytes> = out[read..end].iter().map(|found| &found.head).collect();
            heads.dedup();
            out[read].head = heads.into_iter().flatten().copied().collect();
        }
        out.swap(write, read);
        write += 1;
        read = end;
    }
    out.truncate(write);
}
