//! The thread that serves a producer's delivery reports.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, ProducerContext};

use crate::{Error, Result};

/// How long one turn lasts. Reports are served at once whatever this is; but the client's `poll` spins through the last
/// millisecond of a turn, so short turns would keep a processor warm for nothing.
const TURN: Duration = Duration::from_secs(2);

/// Serves reports, also those that the client waits for while it aborts a transaction. Ends when the writer is gone, a turn
/// later.
pub(super) fn serve<C: ProducerContext + 'static>(
    client: Arc<BaseProducer<C>>,
    name: &str,
) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            while Arc::strong_count(&client) > 1 {
                client.poll(TURN);
            }
        })
        .map(drop)
        .map_err(|error| Error::Refused {
            doing: format!("starting the thread that serves {name}"),
            reason: error.to_string(),
        })
}
