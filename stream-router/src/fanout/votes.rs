//! Tells subscribers of votes what validators voted in a block.

use super::{Fanout, index::Topic};
use crate::{encoding::LandedVote, live::LiveBlock};

impl Fanout {
    pub(super) fn tell_votes(&mut self, block: &LiveBlock) {
        let ids = self.index.under(Topic::Votes).to_vec();
        if ids.is_empty() {
            return;
        }
        for transaction in &block.transactions {
            let Some(vote) = LandedVote::new(transaction) else {
                continue;
            };
            if !self.told_votes.is_news(&vote) {
                continue;
            }
            let value = vote.shown().into();
            for id in &ids {
                self.notify(*id, &value);
            }
        }
    }
}
