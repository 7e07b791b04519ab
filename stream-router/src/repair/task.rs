//! The task beside the router: takes holes, asks nodes, offers blocks. Wiring only.

use std::{collections::HashMap, future::Future, sync::Arc};

use chain_blocks::rpc::{Nodes, Reply};
use event_schema::Slot;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};
use tracing::{info, warn};

use super::{
    Happening, Hole, Offer, RepairConfig, Tally,
    book::{Book, Rules},
    convert,
};
use crate::{assembly::Block, router::Mended};

/// See the module.
pub struct Repairs {
    nodes: Arc<Nodes>,
    book: Book<Box<Block>>,
    holes: mpsc::Receiver<Hole>,
    offers: mpsc::Sender<Offer>,
    tally: Tally,
    started: Instant,
    /// Why slots were put off, last.
    reasons: HashMap<Slot, String>,
}

/// How an errand ended.
enum Outcome {
    Published {
        parent: Slot,
    },
    Known,
    Skipped,
    Unlinked(Box<Block>),
    /// Nobody has it, and nobody will.
    Gone(String),
    Later(String),
}

type Errand = BoxFuture<'static, (Slot, Outcome)>;

impl Repairs {
    /// `holes`: from [`super::Asks::channel`]; `offers`: to the router's loop; at most `slots_max` slots are wanted at once.
    pub fn new(
        config: &RepairConfig,
        slots_max: u64,
        holes: mpsc::Receiver<Hole>,
        offers: mpsc::Sender<Offer>,
        tally: Tally,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            nodes: Arc::new(Nodes::new(&config.nodes()?)?),
            book: Book::new(Rules::new(config, slots_max)),
            holes,
            offers,
            tally,
            started: Instant::now(),
            reasons: HashMap::new(),
        })
    }

    pub fn nodes(&self) -> Arc<Nodes> {
        Arc::clone(&self.nodes)
    }

    /// Runs until `end`, or until nobody can leave holes any more.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        let mut errands: FuturesUnordered<Errand> = FuturesUnordered::new();
        tokio::pin!(end);
        loop {
            while let Some(slot) = self.book.next(self.now_ms()) {
                errands.push(self.ask(slot));
            }
            let due = self.book.due_ms().map(|due| self.at(due));
            let wake = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            // While as many are asked as may be, time alone changes nothing.
            let waits = !self.book.is_busy();
            tokio::select! {
                () = &mut end => return,
                hole = self.holes.recv() => match hole {
                    Some(hole) => self.want(hole),
                    None => return,
                },
                Some((slot, outcome)) = errands.next(), if !errands.is_empty() => {
                    self.ended(slot, outcome, &mut errands);
                }
                () = wake, if waits => {}
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn at(&self, ms: u64) -> Instant {
        self.started + Duration::from_millis(ms)
    }

    fn want(&mut self, hole: Hole) {
        let (new, refused) = self.book.want(hole);
        if new > 0 {
            self.tally.count(Happening::Asked, new);
            info!(
                slots = format!("{}..={}", hole.first, hole.last),
                "no source has them; asking RPC nodes"
            );
        }
        if refused > 0 {
            self.tally.count(Happening::Failed, refused);
            warn!(
                slots = refused,
                from = %hole.first,
                "too many slots are wanted already: these are not asked for before the router starts again"
            );
        }
    }

    fn ask(&self, slot: Slot) -> Errand {
        let (nodes, offers) = (Arc::clone(&self.nodes), self.offers.clone());
        let (named, tally) = (self.book.is_named(slot), self.tally.clone());
        Box::pin(async move { (slot, ask(&nodes, slot, named, &offers, &tally).await) })
    }

    fn ended(&mut self, slot: Slot, outcome: Outcome, errands: &mut FuturesUnordered<Errand>) {
        let now_ms = self.now_ms();
        let last_reason = self.reasons.remove(&slot);
        let put_off = match outcome {
            Outcome::Published { parent } => {
                self.tally.count(Happening::Done, 1);
                let spared = self.book.linked(slot, parent);
                self.tally.count(Happening::Skipped, spared);
                for (slot, block) in self.book.offer_again() {
                    let offers = self.offers.clone();
                    errands.push(Box::pin(async move {
                        let outcome = match offer(&offers, block).await {
                            Ok(outcome) => outcome,
                            Err(problem) => Outcome::Later(problem),
                        };
                        (slot, outcome)
                    }));
                }
                return;
            }
            Outcome::Known => {
                self.tally.count(Happening::Known, 1);
                return self.book.done(slot);
            }
            Outcome::Skipped => {
                self.tally.count(Happening::Skipped, 1);
                return self.book.done(slot);
            }
            Outcome::Gone(reason) => {
                self.tally.count(Happening::Failed, 1);
                warn!(%slot, reason, "no RPC node has the block; the gap stays");
                return self.book.done(slot);
            }
            Outcome::Unlinked(block) => {
                let reason = "its neighbours are not there".to_owned();
                (self.book.keep(slot, block, now_ms), reason)
            }
            Outcome::Later(reason) => (self.book.put_off(slot, now_ms), reason),
        };
        match put_off {
            (true, reason) => {
                if last_reason.as_ref() != Some(&reason) {
                    info!(%slot, reason, "the block could not be had yet; asking again later");
                }
                self.reasons.insert(slot, reason);
            }
            (false, reason) => {
                self.tally.count(Happening::Failed, 1);
                warn!(%slot, reason, "no RPC node gave the block in time (repair.deadline_seconds); the gap stays");
            }
        }
    }
}

/// Asks one node after another until one has a block that is believed.
async fn ask(
    nodes: &Nodes,
    slot: Slot,
    named: bool,
    offers: &mpsc::Sender<Offer>,
    tally: &Tally,
) -> Outcome {
    let (mut asked, mut gone) = (0, 0);
    let mut reasons = Vec::new();
    for node in nodes.in_turn() {
        asked += 1;
        let host = nodes.host(node);
        let reason = match nodes.ask(node, slot).await {
            Reply::Block(reply) => {
                let from = Arc::clone(&host);
                let block =
                    tokio::task::spawn_blocking(move || convert::block(slot, &from, *reply)).await;
                let believed = match block {
                    Ok(Ok(block)) => offer(offers, Box::new(block)).await,
                    Ok(Err(disbelief)) => Err(disbelief.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                match believed {
                    Ok(outcome) => {
                        nodes.prefer(node);
                        return outcome;
                    }
                    Err(problem) => {
                        tally.count(Happening::Refused, 1);
                        warn!(%slot, %host, problem, "the node's block is not believed");
                        problem
                    }
                }
            }
            Reply::NoBlock(_) if !named => {
                nodes.prefer(node);
                return Outcome::Skipped;
            }
            // A node that lost part of its ledger says "skipped, or missing" of every slot of that part.
            Reply::NoBlock(said) => {
                gone += 1;
                format!("{said}, but the block above names one in this slot")
            }
            Reply::Gone(said) => {
                gone += 1;
                said
            }
            Reply::NotYet(said) | Reply::VersionRefused(said) | Reply::Failed(said) => said,
        };
        reasons.push(format!("{host}: {reason}"));
    }
    let reasons = reasons.join("; ");
    if gone == asked {
        Outcome::Gone(reasons)
    } else {
        Outcome::Later(reasons)
    }
}

/// Hands the block to the router; an error says why the router refuses it.
async fn offer(offers: &mpsc::Sender<Offer>, block: Box<Block>) -> Result<Outcome, String> {
    let parent = block.parent.slot;
    let (verdict, answer) = oneshot::channel();
    let ended = || Ok(Outcome::Later("the router begins a new life".to_owned()));
    if offers.send(Offer { block, verdict }).await.is_err() {
        return ended();
    }
    match answer.await {
        Ok(Mended::Published) => Ok(Outcome::Published { parent }),
        Ok(Mended::Known) => Ok(Outcome::Known),
        Ok(Mended::Unlinked(block)) => Ok(Outcome::Unlinked(block)),
        Ok(Mended::Refused(contradiction)) => Err(contradiction.to_string()),
        Err(_) => ended(),
    }
}
