//! A complete slot becomes a block in canonical order, if what it holds is one.

use std::sync::Arc;

use event_schema::{Kind, SourceId};

use super::{Block, SourceSlot};
use crate::observation::{Body, Content, MetaView};

/// What a complete slot amounts to.
#[derive(Debug)]
pub enum Built {
    Block(Box<Block>),
    /// Records of a block that was published already.
    Late(Vec<Content>),
}

/// Why sealed records do not make a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    #[error("sealed without block metadata")]
    NoMetadata,
    #[error("sealed with {0} different block metadata records")]
    SeveralBlocks(usize),
    #[error("the metadata counts {counted} {what}, {held} are sealed")]
    Count {
        what: &'static str,
        counted: u64,
        held: u64,
    },
}

impl SourceSlot {
    /// Call when [`Progress::Complete`]. Records with the same content identity become one.
    pub fn build(self, source: SourceId) -> Result<Built, Defect> {
        let was_published = !self.base.lanes.is_empty();
        let mut metas: Vec<Arc<MetaView>> = Vec::new();
        let contents = self.into_contents();
        for content in &contents {
            if let Body::BlockMeta(meta) = &content.body
                && !metas.iter().any(|known| known.block == meta.block)
            {
                metas.push(Arc::clone(meta));
            }
        }
        let contents = in_order(contents);
        let meta = match (metas.len(), metas.pop()) {
            (1, Some(meta)) => meta,
            (0, _) if was_published => return Ok(Built::Late(contents)),
            (0, _) => return Err(Defect::NoMetadata),
            (several, _) => return Err(Defect::SeveralBlocks(several)),
        };
        let count = |wanted: Kind| {
            contents
                .iter()
                .filter(|content| content.kind() == wanted)
                .count() as u64
        };
        let (accounts, transactions, entries) = (
            count(Kind::Account),
            count(Kind::Transaction),
            count(Kind::Entry),
        );
        agree("transactions", meta.transactions, transactions)?;
        // A source may be configured not to stream entries, and a validator counts none for the blocks it led itself.
        if entries > 0 && meta.entries > 0 {
            agree("entries", meta.entries, entries)?;
        }
        Ok(Built::Block(Box::new(Block {
            id: meta.block,
            parent: meta.parent,
            contents,
            accounts,
            transactions,
            entries,
            meta,
            source,
            repaired_from: Vec::new(),
            fetched_from: None,
        })))
    }
}

/// In canonical order; of those with the same identity the last.
fn in_order(mut contents: Vec<Content>) -> Vec<Content> {
    // Each partition is nearly in order by itself, which this sort makes use of.
    contents.sort_by(|one, other| one.id.cmp(&other.id));
    contents.dedup_by(|later, kept| {
        let same = later.id == kept.id;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    contents
}

fn agree(what: &'static str, counted: u64, held: u64) -> Result<(), Defect> {
    if counted == held {
        return Ok(());
    }
    Err(Defect::Count {
        what,
        counted,
        held,
    })
}
