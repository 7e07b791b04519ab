//! The task beside the router that asks nodes for accounts, and reads blocks of earlier lives from the log. Wiring only: which
//! accounts, and what an answer is worth, `account_state` decides. Decision 0032.
//!
//! An errand comes from one life of the router's loop and answers to it. When that life has ended, nobody is asked any more.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use chain_blocks::rpc::{AccountsReply, Nodes};
use event_log::Action;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

use super::{Happening, RepairConfig, Tally};
use crate::{
    account_state::{Answer, Ask, Place, Wanted},
    archive::{Archive, ArchiveError},
};

/// Errands that wait for the task, besides those that it is on.
const ERRANDS: usize = 1;

/// Something that the accounts topic needs.
pub struct Errand {
    pub wanted: Wanted,
    /// Where earlier blocks are read: not the loop's own, which must not wait for this.
    pub archive: Arc<Archive>,
    pub answers: mpsc::Sender<Answer>,
}

/// See the module.
pub struct AccountRepairs {
    errands: mpsc::Receiver<Errand>,
    concurrency: usize,
    asker: Arc<Asker>,
}

impl AccountRepairs {
    pub fn new(
        config: &RepairConfig,
        nodes: Arc<Nodes>,
        tally: Tally,
    ) -> (mpsc::Sender<Errand>, Self) {
        let (sender, errands) = mpsc::channel(ERRANDS);
        let asker = Asker {
            nodes,
            tally,
            backoff: Duration::from_millis(config.backoff_ms),
            backoff_max: Duration::from_millis(config.backoff_max_ms),
            patience: Duration::from_secs(config.deadline_seconds),
            health: Mutex::default(),
        };
        let repairs = Self {
            errands,
            concurrency: config.concurrency,
            asker: Arc::new(asker),
        };
        (sender, repairs)
    }

    /// Runs until `end`, or until nobody can leave errands any more.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        let mut running = FuturesUnordered::new();
        tokio::pin!(end);
        loop {
            let has_room = running.len() < self.concurrency;
            tokio::select! {
                () = &mut end => return,
                errand = self.errands.recv(), if has_room => match errand {
                    Some(errand) => running.push(Arc::clone(&self.asker).serve(errand)),
                    None => return,
                },
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }
}

/// What all errands share.
struct Asker {
    nodes: Arc<Nodes>,
    tally: Tally,
    backoff: Duration,
    backoff_max: Duration,
    patience: Duration,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// No node has told anything since the first of these moments; at the second it was noticed last.
    failing: Option<(Instant, Instant)>,
    /// Logged last.
    complaint: String,
}

impl Asker {
    async fn serve(self: Arc<Self>, errand: Errand) {
        let Errand {
            wanted,
            archive,
            answers,
        } = errand;
        let answer = async {
            match wanted {
                Wanted::Accounts(ask) => self.ask(ask).await,
                Wanted::Block(place) => self.read(&archive, place).await,
            }
        };
        tokio::select! {
            // The life that wants to know has ended.
            () = answers.closed() => {}
            answer = answer => drop(answers.send(answer).await),
        }
    }

    /// Until a node tells, or none has told anything for too long.
    async fn ask(&self, ask: Ask) -> Answer {
        let mut pause = self.backoff;
        loop {
            let reason = match self.once(&ask).await {
                Ok(answer) => return answer,
                Err(reason) => reason,
            };
            if self.is_over(&reason) {
                return Answer::Failed { ask, reason };
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(self.backoff_max);
        }
    }

    /// One node after the other.
    async fn once(&self, ask: &Ask) -> Result<Answer, String> {
        let mut nodes: Vec<usize> = self.nodes.in_turn().collect();
        if !nodes.is_empty() {
            // Who answers from far ahead, again and again, is not the one to ask first.
            let turns = ask.again as usize % nodes.len();
            nodes.rotate_left(turns);
        }
        let (mut reasons, mut too_long) = (Vec::new(), false);
        for node in nodes {
            let host = self.nodes.host(node);
            let reason = match self.nodes.accounts(node, &ask.keys, ask.at_least).await {
                AccountsReply::Told(told) => {
                    self.nodes.prefer(node);
                    self.health().failing = None;
                    let ask = ask.clone();
                    return Ok(Answer::Told { ask, host, told });
                }
                AccountsReply::NotYet(said) | AccountsReply::Failed(said) => said,
                AccountsReply::TooLong(said) => {
                    too_long = true;
                    format!("{said}; raise it")
                }
                AccountsReply::TooMany(said) => {
                    format!("{said}: it is asked too often; lower repair.requests_per_second")
                }
                AccountsReply::Unfit(said) => {
                    self.tally.count(Happening::Refused, 1);
                    format!("{said}; take it out of repair.rpc_urls")
                }
            };
            reasons.push(format!("{host}: {reason}"));
        }
        let reason = reasons.join("; ");
        if too_long {
            let ask = ask.clone();
            return Ok(Answer::TooLong { ask, reason });
        }
        Err(reason)
    }

    /// No node has told anything for too long, whatever was asked for: so of many accounts, none waits for what others have
    /// waited for in vain. Logs why not, when that is new.
    fn is_over(&self, reason: &str) -> bool {
        let mut health = self.health();
        if health.complaint != reason {
            info!(reason, "accounts could not be had yet; asking again later");
            reason.clone_into(&mut health.complaint);
        }
        let now = Instant::now();
        let since = match health.failing {
            Some((since, last)) if now - last < self.patience => since,
            // Of another time.
            _ => now,
        };
        health.failing = Some((since, now));
        now - since >= self.patience
    }

    async fn read(&self, archive: &Archive, place: Place) -> Answer {
        let began = Instant::now();
        let mut pause = self.backoff;
        loop {
            let read = archive.block(place.block, place.offset, place.not_before);
            let error = match read.await {
                Ok(block) => return Answer::Read(block),
                Err(error) => error,
            };
            let is_passing =
                matches!(&error, ArchiveError::Log(error) if error.action() == Action::Retry);
            if !is_passing || began.elapsed() >= self.patience {
                return Answer::Unreadable {
                    block: place.block,
                    reason: error.to_string(),
                };
            }
            warn!(%error, slot = %place.block.slot, "a block in a hole of the accounts topic cannot be read yet");
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(self.backoff_max);
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // A panic while holding it leaves a whole value.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
