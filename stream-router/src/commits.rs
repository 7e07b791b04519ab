//! One transaction in flight at a time, while the loop goes on.

use std::{pin::Pin, time::Duration};

use event_log::{Action, Position};
use tokio::time::Instant;
use tracing::warn;

use crate::publication::{Batch, Committer};

const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A transaction that is on the log.
#[derive(Debug)]
pub struct Ended {
    pub batch: Batch,
    pub positions: Vec<Position>,
    pub took: Duration,
}

type Flight = Pin<Box<dyn Future<Output = (Committer, event_log::Result<Ended>)> + Send>>;

/// See the module.
pub struct Commits {
    committer: Option<Committer>,
    flight: Option<Flight>,
}

impl Commits {
    pub fn new(committer: Committer) -> Self {
        Self {
            committer: Some(committer),
            flight: None,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.flight.is_none()
    }

    /// Call when idle; otherwise the batch would overtake the one in flight, so it is refused.
    pub fn begin(&mut self, batch: Batch) {
        debug_assert!(self.is_idle());
        if let Some(committer) = self.committer.take() {
            self.flight = Some(Box::pin(write(committer, batch)));
        }
    }

    /// Waits for the one in flight; forever when there is none. Cancelling loses nothing.
    pub async fn ended(&mut self) -> event_log::Result<Ended> {
        let Some(flight) = &mut self.flight else {
            return std::future::pending().await;
        };
        let (committer, ended) = flight.await;
        self.flight = None;
        self.committer = Some(committer);
        ended
    }
}

async fn write(mut committer: Committer, batch: Batch) -> (Committer, event_log::Result<Ended>) {
    let started = Instant::now();
    loop {
        match committer.commit(&batch).await {
            Ok(positions) => {
                let took = started.elapsed();
                let ended = Ended {
                    batch,
                    positions,
                    took,
                };
                return (committer, Ok(ended));
            }
            Err(error) if error.action() == Action::Retry => {
                warn!(%error, "the transaction was not committed; trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => return (committer, Err(error)),
        }
    }
}
