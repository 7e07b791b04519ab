//! WebSocket subscriptions with a cursor: each is a subscriber of the Yellowstone engine, in canonical order, whose updates are
//! written as the notifications that Solana clients know.
//!
//! So there is one order, one cursor and one way to read what was missed. Such a subscription costs more than others: its
//! updates are decoded and written for it alone. It is never given up for reading slowly: it reads from the log at its pace.
//!
//! `wanted` and `shown` are pure.

use std::sync::Arc;

use event_schema::{
    Gap,
    proto::{Message, geyser::SubscribeUpdate},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    encoding::gap_value,
    fanout::{Feed, SubscriptionId},
    metrics::Metrics,
    subscription::{Resumption, RpcError, Subscription, cursor_text},
    yellowstone::{
        engine::{self, Command, Start},
        filter::{FilterLimits, Filters},
        outbox::{Ending, Inbox, OutboxLimits, outbox},
    },
};

mod shown;
mod wanted;

pub use shown::shown;
pub use wanted::wanted;

/// The door's subscriptions and the Yellowstone door's streams are counted from different ends.
const FIRST_ID: u64 = 1 << 63;
/// `JSON_RPC_SERVER_ERROR_BLOCK_CLEANED_UP`.
const CLEANED_UP: i64 = -32001;

/// The fields of ours in a `SubscribeUpdate`.
#[derive(Clone, PartialEq, prost::Message)]
struct Extension {
    #[prost(bytes = "vec", optional, tag = "1001")]
    cursor: Option<Vec<u8>>,
    #[prost(message, optional, tag = "1002")]
    gap: Option<Gap>,
}

/// One subscription's task.
pub struct Resumed {
    pub id: SubscriptionId,
    pub resumption: Arc<Resumption>,
    pub engine: mpsc::Sender<Command>,
    /// Of updates that wait to be written; what does not fit is read from the log.
    pub queue: OutboxLimits,
    pub feed: Feed,
    pub metrics: Metrics,
}

/// Tells the engine at the end, however it comes.
struct Guest<'a> {
    id: u64,
    engine: &'a mpsc::Sender<Command>,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        engine::say_goodbye(self.engine, self.id);
    }
}

impl Resumed {
    /// `begin` comes when the client has been told its subscription's number.
    pub async fn run(self, begin: oneshot::Receiver<()>) {
        if begin.await.is_err() {
            return;
        }
        if let Err(error) = self.feed_all().await {
            let error = serde_json::json!(error);
            let params = format!(r#""error":{error},"subscription":{}"#, self.id);
            self.tell(&self.resumption.subscription, &params).await;
        }
    }

    /// Until the client is gone, or with the reason why there will be nothing more.
    async fn feed_all(&self) -> Result<(), RpcError> {
        let wish = Arc::clone(&self.resumption);
        // Many addresses take their time, which nobody else should wait for.
        let compiled = tokio::task::spawn_blocking(move || {
            let request = wanted(&wish.subscription, wish.level);
            Filters::compile(&request, &FilterLimits::default())
        });
        let filters = compiled
            .await
            .map_err(|_| shutdown())?
            .map_err(|error| RpcError::invalid_params(format!("Invalid params: {error}")))?;
        let id = FIRST_ID + self.id;
        let (outbox, mut inbox) = outbox(self.queue);
        let connect = Command::Connect {
            id,
            outbox,
            filters,
            start: Start::Cursor(self.resumption.cursor.clone()),
        };
        let engine = &self.engine;
        let _guest = Guest { id, engine };
        engine.send(connect).await.map_err(|_| shutdown())?;
        self.translate(&mut inbox).await
    }

    async fn translate(&self, inbox: &mut Inbox) -> Result<(), RpcError> {
        while let Some(frame) = inbox.next().await {
            let bytes = [frame.head, frame.body, frame.tail].concat();
            let read = SubscribeUpdate::decode(bytes.as_slice())
                .ok()
                .zip(Extension::decode(bytes.as_slice()).ok());
            let Some((update, extension)) = read else {
                // We wrote it: it can be read.
                continue;
            };
            let (subscription, result) = match &extension.gap {
                Some(gap) => (&Subscription::Gap, Some(gap_value(gap).to_string())),
                None => {
                    let subscription = &self.resumption.subscription;
                    (subscription, shown(subscription, update))
                }
            };
            let (Some(result), Some(cursor)) = (result, extension.cursor) else {
                continue;
            };
            let cursor = cursor_text(&cursor);
            let params = format!(
                r#""result":{result},"subscription":{},"cursor":"{cursor}""#,
                self.id
            );
            if !self.tell(subscription, &params).await {
                return Ok(());
            }
        }
        Err(ended(inbox.ending()))
    }

    /// False when the client is gone.
    async fn tell(&self, subscription: &Subscription, params: &str) -> bool {
        let method = subscription.method();
        self.metrics
            .notifications
            .with_label_values(&[method])
            .inc();
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#);
        self.feed.push(text).await
    }
}

fn shutdown() -> RpcError {
    RpcError::new(
        -32603,
        "Internal error: the router is shutting down; connect again with the last cursor",
    )
}

fn ended(ending: Ending) -> RpcError {
    match ending {
        Ending::Lagged | Ending::Missed => RpcError::new(
            -32603,
            "Internal error: lagged: subscribe again with the last cursor",
        ),
        Ending::SlotUnavailable { first_available } => {
            let first = first_available.map_or_else(|| "none".to_owned(), |slot| slot.to_string());
            let text = format!(
                "The cursor is too old: what followed it is not in the log any more. First available slot: {first}"
            );
            RpcError::new(CLEANED_UP, text)
        }
        Ending::CursorUnusable(why) => {
            RpcError::invalid_params(format!("Invalid params: the cursor cannot be used: {why}"))
        }
        Ending::Failed(why) => RpcError::new(
            -32603,
            format!(
                "Internal error: reading from the log failed: {why}; subscribe again with the last cursor"
            ),
        ),
        Ending::Shutdown => shutdown(),
    }
}
