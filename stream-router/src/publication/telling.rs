//! Effects of the router → the records that tell them, and what a next life must know of them.

use event_schema::{Gap, Kind};
use tracing::{info, warn};

use super::{Publication, batch::Telling};
use crate::{commitment::Standing, router::Effect, slot_tree::BlockId, state::History};

impl Publication {
    pub(super) fn write(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Publish(block) => {
                    if let Some(host) = &block.fetched_from {
                        info!(
                            slot = %block.id.slot,
                            block = %block.id.blockhash,
                            from = %host,
                            transactions = block.transactions,
                            "no source had the block; fetched by RPC"
                        );
                    }
                    if !block.repaired_from.is_empty() {
                        info!(
                            slot = %block.id.slot,
                            from = %block.source,
                            filled_from = ?block.repaired_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
                            "no source had the block whole; repaired"
                        );
                    }
                    let number = self.tell(effect);
                    self.pending.add(|out| self.canonical.block(block, out));
                    let history = History {
                        published: number,
                        ..History::default()
                    };
                    self.histories.insert(block.id, history);
                    self.remember(block.id);
                    if let Some(accounts) = &mut self.accounts {
                        accounts.published(block, number);
                    }
                }
                Effect::Standing(change) => {
                    let number = self.tell(effect);
                    self.pending
                        .add(|out| out.extend(self.canonical.standing(*change)));
                    if let Some(history) = self.histories.get_mut(&change.block) {
                        match change.standing {
                            Standing::Confirmed => history.confirmed = Some(number),
                            Standing::Finalized => history.finalized = Some(number),
                            Standing::Processed | Standing::Abandoned => {}
                        }
                    }
                    self.remember(change.block);
                    if let Some(accounts) = &mut self.accounts {
                        accounts.standing(*change, number);
                    }
                }
                Effect::Closed {
                    slot,
                    source,
                    block,
                    extent,
                } => {
                    let record = self.state.closed(*slot, *source, *block, extent.clone());
                    self.pending.push(record);
                }
                Effect::ClosedForgotten { slot, source } => {
                    self.pending.push(self.state.forget_closed(*slot, *source));
                }
                Effect::PublishedForgotten(block) => {
                    self.histories.remove(block);
                    self.pending.push(self.state.forget_block(*block));
                }
                Effect::Gap(gap) => self.tell_gap(effect, gap),
                Effect::ParentGap { block, gap } => {
                    warn!(slots = format!("{}..={}", gap.first_slot, gap.last_slot), detail = %gap.detail, "gap");
                    self.tell_gap(effect, gap);
                    self.remember(*block);
                }
                Effect::Late {
                    slot,
                    source,
                    kind,
                    bytes,
                    reason,
                } => {
                    self.dead_letters += 1;
                    let letters =
                        self.canonical
                            .dead_letters((*slot, *source), *kind, bytes, reason);
                    self.pending.add(|out| out.extend(letters));
                }
                Effect::Unreadable {
                    slot,
                    source,
                    records,
                    problem,
                } => {
                    warn!(%slot, %source, reason = %problem, "chunks dead-lettered");
                    for bytes in records {
                        self.dead_letters += 1;
                        let letters = self.canonical.dead_letters(
                            (*slot, *source),
                            Kind::Chunk,
                            bytes,
                            problem,
                        );
                        self.pending.add(|out| out.extend(letters));
                    }
                }
                Effect::Early { .. }
                | Effect::Beside { .. }
                | Effect::SlotUpdate(_)
                | Effect::SlotCreated { .. }
                | Effect::PassedOver
                | Effect::Rooted(_) => {}
            }
        }
    }

    pub(super) fn tell_gap(&mut self, effect: &Effect, gap: &Gap) {
        let number = self.tell(effect);
        self.pending.push(self.canonical.gap(gap));
        self.pending.add(|out| self.state.gap(number, gap, out));
    }

    /// Notes that the records that follow tell this effect.
    fn tell(&mut self, effect: &Effect) -> u64 {
        let number = self.state.count();
        self.pending.told.push(Telling {
            effect: effect.clone(),
            number,
            first: self.pending.records.len(),
        });
        number
    }

    /// Writes down what a next life must know of the block.
    pub(super) fn remember(&mut self, block: BlockId) {
        let Some(published) = self.router.published(block) else {
            return;
        };
        let history = self.histories.get(&block).copied().unwrap_or_default();
        let standing = (published.parent, published.told, published.gap_told);
        let record = self.state.block(block, standing, history);
        self.pending.push(record);
    }
}
