//! One subscriber that lacks something: reads it from the log at the subscriber's pace and hands over to the live stream.

use std::{sync::Arc, time::Duration};

use event_log::Action;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::{
    engine::{CaughtUp, Command, Had, Item, Reached, Scratch, Stamp, What, delivered, telling},
    filter::{FilterIndex, Filters, SubscriberId},
    outbox::{Ending, Outbox},
};
use crate::{
    archive::{Archive, ArchiveError},
    assembly::Block,
    subscription::Level,
};

const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub struct CatchUp {
    pub id: SubscriberId,
    pub epoch: u64,
    pub level: Level,
    /// With cursors.
    pub in_order: bool,
    pub filters: Filters,
    pub outbox: Outbox,
    pub archive: Arc<Archive>,
    pub engine: mpsc::Sender<Command>,
    /// Everything through this telling was given.
    pub number: u64,
    pub items: Vec<Item>,
    /// Items of the first telling that were given already.
    pub from: u32,
    /// Events that the subscriber has, and is not to get again.
    pub had: Had,
}

impl CatchUp {
    pub async fn run(mut self) {
        if let Err(ending) = self.give_all().await {
            self.outbox.end(ending);
            // The engine is gone only when the process ends.
            let _ = self.engine.send(Command::Disconnect { id: self.id }).await;
        }
    }

    async fn give_all(&mut self) -> Result<(), Ending> {
        loop {
            let mut index = FilterIndex::default();
            index.insert(self.id, self.filters.clone());
            for item in std::mem::take(&mut self.items) {
                if !self.give(&index, &item).await? {
                    return Ok(());
                }
                self.number = item.number;
                self.from = 0;
            }
            // Otherwise the hand-over would fill the queue at once.
            self.outbox.has_room().await;
            let (next, answer) = oneshot::channel();
            let caught_up = Command::CaughtUp {
                id: self.id,
                epoch: self.epoch,
                number: self.number,
                had: std::mem::take(&mut self.had),
                next,
            };
            if self.engine.send(caught_up).await.is_err() {
                return Err(Ending::Shutdown);
            }
            match answer.await {
                Err(_) => return Err(Ending::Shutdown),
                Ok(CaughtUp::Done) => return Ok(()),
                Ok(CaughtUp::More {
                    filters,
                    through,
                    items,
                    from,
                    had,
                }) => {
                    self.number = through;
                    self.filters = *filters;
                    self.items = items;
                    self.from = from;
                    self.had = had;
                }
                Ok(CaughtUp::TooOld(too_old)) => return Err(too_old.ending()),
            }
        }
    }

    /// False when the subscriber is gone.
    async fn give(&self, index: &FilterIndex, item: &Item) -> Result<bool, Ending> {
        let block = match &item.what {
            What::Reached(reached) if reached.level == self.level => {
                Some(self.read(reached).await?)
            }
            What::Reached(_) | What::Gap(_) => None,
        };
        let deliveries = telling(
            index,
            self.level,
            item,
            block.as_deref(),
            self.from,
            &self.had,
            &mut Scratch::default(),
        );
        let stamp = Stamp::now();
        for delivery in deliveries {
            let frame = delivered(delivery, self.in_order, self.level, item.number, &stamp);
            if !self.outbox.push_when_free(frame).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn read(&self, reached: &Reached) -> Result<Arc<Block>, Ending> {
        let slot = reached.block.slot;
        loop {
            let read = self
                .archive
                .block(reached.block, reached.offset, reached.not_before)
                .await;
            match read {
                Ok(block) => return Ok(block),
                Err(ArchiveError::Log(event_log::Error::OffsetOutOfRange { .. })) => {
                    return Err(Ending::SlotUnavailable {
                        first_available: None,
                    });
                }
                Err(ArchiveError::Log(error)) if error.action() == Action::Retry => {
                    warn!(%error, %slot, "a subscriber's replay waits for the log");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    warn!(%error, %slot, "a subscriber's replay ended");
                    return Err(Ending::Failed(error.to_string()));
                }
            }
        }
    }
}
