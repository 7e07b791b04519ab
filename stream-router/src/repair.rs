//! Holes that no source fills are filled from RPC nodes, by `getBlock`, and marked as repaired.
//!
//! ```text
//! router ─▶ gaps ─▶ book (which slots, when) ─▶ nodes and their replies (chain-blocks) ─▶ convert ─▶ router: checked, published
//! ```
//!
//! * A gap record is told first and stays told; the block follows it, with `repaired` and `rpc:HOST` in its seal.
//! * Asked is for what is finalized, from the newest slot of a hole downwards: so each block's hash is named by the one above it.
//! * A block that contradicts the finalized chain, or itself, is refused, and the next node is asked.
//! * Nothing is kept on disk: a next life finds what is missing in the stream itself.
//!
//! What an RPC node does not have: account updates and entries. Such a block has none, and says so in its seal. What the
//! accounts are that it may have written is asked by `getMultipleAccounts`, for the accounts topic alone (`accounts`).
//!
//! Reading order: `convert`, `book` (both pure), `task`, `accounts`.

use event_schema::Slot;
use service_host::Host;
use tokio::sync::{mpsc, oneshot};

use crate::{
    assembly::Block,
    board::Board,
    config::Config,
    metrics::Metrics,
    router::{Effect, Mended, Router},
};

pub mod accounts;
pub mod book;
pub mod config;
pub mod convert;
pub mod task;

pub use accounts::{AccountRepairs, Errand};
pub use chain_blocks::rpc::{nodes, reply};
pub use config::RepairConfig;
pub use task::Repairs;

/// Gaps that wait to be entered into the book.
const ASKS: usize = 4_096;

/// Slots that no source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    pub first: Slot,
    /// Inclusive.
    pub last: Slot,
    /// The finalized chain has a block in the last slot, whatever a node says.
    pub named: bool,
}

impl Hole {
    pub fn new(router: &Router, first: Slot, last: Slot) -> Self {
        Self {
            first,
            last,
            named: router.is_on_chain(last),
        }
    }

    /// What the gap, if it is one, leaves to be filled.
    pub fn of(router: &Router, effect: &Effect) -> Option<Self> {
        match effect {
            // Of records that retention removed nobody knows the slots.
            Effect::Gap(gap) | Effect::ParentGap { gap, .. } if gap.last_slot > 0 => {
                Some(Self::new(router, Slot(gap.first_slot), Slot(gap.last_slot)))
            }
            _ => None,
        }
    }
}

/// A block for the router, which answers what became of it.
#[derive(Debug)]
pub struct Offer {
    pub block: Box<Block>,
    pub verdict: oneshot::Sender<Mended>,
}

/// Where the router's loop leaves holes, and errands for the accounts topic. Never waits.
#[derive(Debug, Clone)]
pub struct Asks {
    holes: mpsc::Sender<Hole>,
    accounts: Option<mpsc::Sender<Errand>>,
}

impl Asks {
    /// The other end is [`Repairs`].
    pub fn channel() -> (Self, mpsc::Receiver<Hole>) {
        let (holes, receiver) = mpsc::channel(ASKS);
        let accounts = None;
        (Self { holes, accounts }, receiver)
    }

    /// A place for the next errand, when there is one.
    pub fn place(&self) -> Option<mpsc::Permit<'_, Errand>> {
        self.accounts.as_ref()?.try_reserve().ok()
    }

    pub fn ask(&self, hole: Hole) {
        if self.holes.try_send(hole).is_err() {
            // The loop must not wait for a repair, or each would wait for the other.
            tracing::warn!(
                slots = format!("{}..={}", hole.first, hole.last),
                "too many gaps at once: these slots are not asked for before the router starts again"
            );
        }
    }
}

/// Starts the tasks, if any node is configured. Returns the two ends that the router's loop holds.
pub fn open(
    config: &Config,
    board: &Board,
    metrics: &Metrics,
    host: &Host,
) -> anyhow::Result<Option<(Asks, mpsc::Receiver<Offer>)>> {
    if config.repair.rpc_urls.is_empty() {
        return Ok(None);
    }
    let (mut asks, holes) = Asks::channel();
    let (offers, offer_queue) = mpsc::channel(1);
    let tally = Tally {
        metrics: metrics.clone(),
        board: board.clone(),
    };
    let slots_max = config.limits.gap_slots.max(1);
    let repairs = Repairs::new(&config.repair, slots_max, holes, offers, tally.clone())?;
    if config.accounts_topic.enabled && config.repair.accounts_max > 0 {
        // The same nodes, so that they are asked at one pace.
        let (errands, accounts) = AccountRepairs::new(&config.repair, repairs.nodes(), tally);
        asks.accounts = Some(errands);
        let drain = host.drain();
        host.spawn("account-repair", async move {
            accounts.run(drain).await;
            Ok(())
        });
    }
    let drain = host.drain();
    host.spawn("repair", async move {
        repairs.run(drain).await;
        Ok(())
    });
    Ok(Some((asks, offer_queue)))
}

/// What happened to repairs, for metrics and the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Slots asked for.
    Asked,
    /// Blocks published.
    Done,
    /// Slots whose block had come from a source meanwhile.
    Known,
    /// Slots without a block.
    Skipped,
    /// Replies not believed.
    Refused,
    /// Slots given up: the hole stays.
    Failed,
}

impl Happening {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Done => "done",
            Self::Known => "known",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Counts what happens.
#[derive(Clone)]
pub struct Tally {
    pub metrics: Metrics,
    pub board: Board,
}

impl Tally {
    pub fn count(&self, happening: Happening, slots: u64) {
        self.metrics
            .repairs
            .with_label_values(&[happening.as_str()])
            .inc_by(slots);
        self.board.repair(happening, slots);
    }
}
