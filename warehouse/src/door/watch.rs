//! Statements whose client went away are cancelled, and only those.
//!
//! A session of the engine is cancelled by its name, so it must not meanwhile serve another request: one side says
//! "abandoned" before it looks whether the statement still runs, the other says "not running" before it looks whether it
//! was abandoned, and an abandoned session is never used again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::engine::Engine;

/// The engine ignores a cancellation that comes while a statement is being set up, so it is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Given up after this many times: a minute.
const TIMES: u32 = 600;

/// What the running statement and its client's side tell each other.
#[derive(Default)]
pub struct Cancellation {
    running: AtomicBool,
    abandoned: AtomicBool,
    left: Notify,
}

impl Cancellation {
    /// The statement runs, and may be cancelled. An insert is never: its data may be complete.
    pub fn begin(&self) {
        self.running.store(true, SeqCst);
    }

    pub fn end(&self) {
        self.running.store(false, SeqCst);
    }

    /// To be asked after [`Cancellation::end`], before the session is used again.
    pub fn abandoned(&self) -> bool {
        self.abandoned.load(SeqCst)
    }

    /// Returns when the client has left.
    pub async fn client_left(&self) {
        self.left.notified().await;
    }
}

/// Held by the request, then by its response's body. Dropped before the end, it cancels the statement.
pub struct Watch {
    /// The engine and the session's name in it. `None`: the statement runs elsewhere and hears of it by
    /// [`Cancellation::client_left`].
    pub session: Option<(Arc<Engine>, String)>,
    pub cancellation: Arc<Cancellation>,
    pub done: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.cancellation.abandoned.store(true, SeqCst);
        // One that comes before the wait is kept for it.
        self.cancellation.left.notify_one();
        let (Some((engine, tag)), Ok(runtime)) =
            (self.session.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let cancellation = self.cancellation.clone();
        runtime.spawn_blocking(move || {
            for _ in 0..TIMES {
                if !cancellation.running.load(SeqCst) {
                    return;
                }
                engine.cancel(&tag);
                std::thread::sleep(AGAIN_AFTER);
            }
            tracing::warn!(tag, "a statement without a client does not end");
        });
    }
}
