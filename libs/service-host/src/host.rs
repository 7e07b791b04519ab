//! What a running service holds of its host: drain, readiness, metrics, named tasks.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::watch;

/// A handle on the process. Clones share it.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

struct Shared {
    drain: watch::Sender<bool>,
    started: AtomicBool,
    ready: Mutex<BTreeMap<String, bool>>,
    registry: Registry,
    tasks: Mutex<BTreeMap<u64, Task>>,
    next_task: std::sync::atomic::AtomicU64,
    pages: Mutex<BTreeMap<&'static str, Page>>,
    failure: Mutex<Option<String>>,
}

/// Makes a page's content when it is asked for.
type Page = Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync>;

struct Task {
    name: String,
    abort: tokio::task::AbortHandle,
}

impl Host {
    /// A host without a process around it: no signals, no admin door. For running a service inside a test.
    pub fn detached() -> Self {
        Self(Arc::new(Shared {
            drain: watch::channel(false).0,
            started: AtomicBool::new(false),
            ready: Mutex::default(),
            registry: Registry::new(),
            tasks: Mutex::default(),
            next_task: Default::default(),
            pages: Mutex::default(),
            failure: Mutex::default(),
        }))
    }

    /// Resolves when the process has been asked to drain.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut drain = self.0.drain.subscribe();
        async move {
            // The sender lives in the host; if it is gone, so is the process.
            let _ = drain.wait_for(|draining| *draining).await;
        }
    }

    pub fn draining(&self) -> bool {
        *self.0.drain.borrow()
    }

    /// Asks the service to drain, as the first signal does.
    pub fn request_drain(&self) {
        self.0.drain.send_replace(true);
    }

    /// The service has finished starting: `/startupz` answers 200 from now on.
    pub fn started(&self) {
        self.0.started.store(true, Ordering::Release);
    }

    pub fn has_started(&self) -> bool {
        self.0.started.load(Ordering::Acquire)
    }

    /// Declares a part of readiness, such as `kafka` or `database`. `/readyz` is 200 when all declared parts are ready.
    pub fn ready(&self, name: &str, ready: bool) {
        let before = self.0.ready.lock().insert(name.to_owned(), ready);
        if before != Some(ready) {
            tracing::info!(part = name, ready, "readiness changed");
        }
    }

    /// Ready: started, not draining, and every declared part ready.
    pub fn is_ready(&self) -> bool {
        self.has_started() && !self.draining() && self.0.ready.lock().values().all(|ready| *ready)
    }

    pub(crate) fn readiness(&self) -> BTreeMap<String, bool> {
        self.0.ready.lock().clone()
    }

    /// Where the service registers its metrics.
    pub fn metrics(&self) -> &Registry {
        &self.0.registry
    }

    /// Serves `/NAME` at the admin address: what `content` makes at each request, as JSON. For operators only.
    pub fn page<F>(&self, name: &'static str, content: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = serde_json::Value> + Send + 'static,
    {
        let page: Page = Arc::new(move || content().boxed());
        self.0.pages.lock().insert(name, page);
    }

    pub(crate) fn page_named(&self, name: &str) -> Option<Page> {
        self.0.pages.lock().get(name).cloned()
    }

    pub(crate) fn page_names(&self) -> Vec<&'static str> {
        self.0.pages.lock().keys().copied().collect()
    }

    /// Runs a named task beside the service. Its failure or panic stops the service: the process drains and exits with
    /// 1. Its success ends only the task. The drain waits for it, up to the deadline.
    pub fn spawn(
        &self,
        name: &str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let id = self.0.next_task.fetch_add(1, Ordering::Relaxed);
        let host = self.clone();
        let own_name = name.to_owned();
        // Held while spawning, so that even a task that ends at once finds its entry to remove.
        let mut tasks = self.0.tasks.lock();
        let handle = tokio::spawn(async move {
            let outcome = std::panic::AssertUnwindSafe(task).catch_unwind().await;
            match outcome {
                Ok(Ok(())) => tracing::debug!(task = own_name, "task ended"),
                Ok(Err(error)) => host.fail(format!("task `{own_name}` failed: {error:#}")),
                Err(_) => host.fail(format!("task `{own_name}` panicked")),
            }
            host.0.tasks.lock().remove(&id);
        });
        tasks.insert(
            id,
            Task {
                name: name.to_owned(),
                abort: handle.abort_handle(),
            },
        );
    }

    /// Records the first failure and drains. Logged here, once.
    pub(crate) fn fail(&self, reason: String) {
        tracing::error!("{reason}");
        self.0.failure.lock().get_or_insert(reason);
        self.request_drain();
    }

    pub(crate) fn failed(&self) -> bool {
        self.0.failure.lock().is_some()
    }

    pub(crate) fn task_names(&self) -> Vec<String> {
        self.0
            .tasks
            .lock()
            .values()
            .map(|task| task.name.clone())
            .collect()
    }

    /// Waits for the named tasks to end.
    pub(crate) async fn tasks_ended(&self) {
        while !self.0.tasks.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn abort_tasks(&self) {
        for task in self.0.tasks.lock().values() {
            task.abort.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_needs_every_part() {
        let host = Host::detached();
        assert!(!host.is_ready());
        host.started();
        assert!(host.is_ready());
        host.ready("kafka", false);
        host.ready("database", true);
        assert!(!host.is_ready());
        host.ready("kafka", true);
        assert!(host.is_ready());
        host.request_drain();
        assert!(!host.is_ready());
    }

    #[tokio::test]
    async fn a_failing_task_stops_the_service() {
        let host = Host::detached();
        host.spawn("fine", async { Ok(()) });
        host.tasks_ended().await;
        assert!(!host.draining() && !host.failed());
        host.spawn("bad", async { anyhow::bail!("broken") });
        host.drain().await;
        host.tasks_ended().await;
        assert!(host.failed());
    }

    #[tokio::test]
    async fn a_panicking_task_stops_the_service() {
        let host = Host::detached();
        host.spawn("bad", async { panic!("told by the test") });
        host.drain().await;
        assert!(host.failed());
    }

    #[tokio::test]
    async fn drain_asked_before_is_seen_after() {
        let host = Host::detached();
        host.request_drain();
        host.drain().await;
    }
}
