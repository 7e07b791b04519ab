//! What subscribers are told: JSON that is at hand, or that is written when the first of them takes it from its queue.
//!
//! Whole transactions and blocks take long to write. They are written once, by whoever needs them first and not by the task
//! that tells everybody; those who wait for the same text share it.

use std::{fmt, sync::Arc};

use tokio::sync::{OnceCell, Semaphore};

/// From here on a text is written on a thread for long work: half a millisecond is the most a task should take at a time.
const LONG_BYTES: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(super) enum Told {
    Now(Arc<str>),
    Later(Arc<Later>),
}

/// See the module.
pub(super) struct Later {
    text: OnceCell<Option<Arc<str>>>,
    write: Box<dyn Fn() -> String + Send + Sync>,
    bytes: usize,
    writers: Arc<Semaphore>,
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        Self::Now(text.into())
    }
}

impl Told {
    /// `bytes` is about the length of the text; it counts in queues. `writers` bounds how many long texts are written at a
    /// time.
    pub fn later(
        writers: &Arc<Semaphore>,
        bytes: usize,
        write: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Self::Later(Arc::new(Later {
            text: OnceCell::new(),
            write: Box::new(write),
            bytes,
            writers: Arc::clone(writers),
        }))
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Now(text) => text.len(),
            Self::Later(later) => later.bytes,
        }
    }

    /// `None` only if writing it failed beyond repair. Cancel safe.
    pub async fn text(&self) -> Option<Arc<str>> {
        match self {
            Self::Now(text) => Some(Arc::clone(text)),
            Self::Later(later) => {
                let write = || Arc::clone(later).write();
                later.text.get_or_init(write).await.clone()
            }
        }
    }
}

impl Later {
    async fn write(self: Arc<Self>) -> Option<Arc<str>> {
        if self.bytes < LONG_BYTES {
            return Some((self.write)().into());
        }
        // Never closed.
        let writers = Arc::clone(&self.writers);
        let permit = writers.acquire_owned().await.ok()?;
        let write = move || {
            let text = (self.write)();
            drop(permit);
            text
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(text) => Some(text.into()),
            Err(problem) => {
                tracing::error!(%problem, "a notification could not be written; it is left out");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn many_who_wait_share_one_text_that_is_written_once() {
        for bytes in [10, LONG_BYTES] {
            let written = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&written);
            let told = Told::later(&Arc::new(Semaphore::new(1)), bytes, move || {
                count.fetch_add(1, Ordering::Relaxed);
                "text".to_owned()
            });
            assert_eq!(
                written.load(Ordering::Relaxed),
                0,
                "not before it is needed"
            );
            let texts: Vec<_> = (0..9).map(|_| told.text()).collect();
            for text in futures::future::join_all(texts).await {
                assert_eq!(text.as_deref(), Some("text"));
            }
            assert_eq!(written.load(Ordering::Relaxed), 1);
        }
    }

    /// One thread runs all tasks here: were the text written on it, nobody else would be told anything meanwhile.
    #[tokio::test]
    async fn a_long_text_delays_nobody() {
        let (release, released) = std::sync::mpsc::channel();
        let released = std::sync::Mutex::new(released);
        let told = Told::later(&Arc::new(Semaphore::new(1)), LONG_BYTES, move || {
            let released = released.lock().expect("one writer");
            let told_others = released.recv_timeout(Duration::from_secs(10)).is_ok();
            format!("told others meanwhile: {told_others}")
        });
        let slow = tokio::spawn({
            let told = told.clone();
            async move { told.text().await }
        });
        tokio::task::yield_now().await;
        let short = Told::from("short".to_owned());
        assert_eq!(short.text().await.as_deref(), Some("short"));
        release.send(()).expect("still waiting");
        let text = slow.await.expect("written");
        assert_eq!(text.as_deref(), Some("told others meanwhile: true"));
    }

    #[tokio::test]
    async fn a_text_that_cannot_be_written_is_none() {
        let told = Told::later(&Arc::new(Semaphore::new(1)), LONG_BYTES, || {
            panic!("on purpose")
        });
        assert_eq!(told.text().await, None);
    }

    /// Who began to wait may leave; the text is written for the others.
    #[tokio::test]
    async fn waiting_can_be_given_up() {
        let told = Told::later(&Arc::new(Semaphore::new(1)), LONG_BYTES, || {
            std::thread::sleep(Duration::from_millis(50));
            "text".to_owned()
        });
        let impatient = tokio::time::timeout(Duration::from_millis(5), told.text()).await;
        assert!(impatient.is_err());
        assert_eq!(told.text().await.as_deref(), Some("text"));
    }
}
