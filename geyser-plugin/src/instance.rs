//! Wiring only: one loaded plugin's threads, queues and limits.
//!
//! callbacks → [`Handoff`] (bounded; full: counted loss) → worker → Kafka client (bounded; full: spill) | [`Spill`]
//! (bounded; full: the worker waits and the hand-off fills). Beside it a thread that checks the topics until they are
//! there, and one that serves metrics. All are joined before `stop` returns: afterwards the library may be unmapped.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use event_schema::{SourceId, Topics};

use crate::{
    config::Config,
    counters::Counters,
    endpoint::Endpoint,
    handoff::Handoff,
    lane::Lanes,
    outlet::{Deliveries, KafkaOutlet},
    spill::{Spill, SpillError},
    topic_check::TopicCheck,
    worker::{Surroundings, Worker},
};

/// Loading waits this long for Kafka's first answer, to refuse a wrong partition count at once; a Kafka that is away does
/// not hold loading up for longer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// The largest record value Kafka is given: the brokers' 16 MiB less the envelope.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024 - 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`kafka`: {0}")]
    Kafka(#[from] event_log::Error),
    #[error(
        "`spill.dir`: {0}. Name a directory this user may write, or set `spill.megabytes` to 0"
    )]
    Spill(#[from] SpillError),
    #[error(
        "`metrics.listen`: cannot listen on {address}: {error}. Write a free address, port 0 for any, or null for none"
    )]
    Metrics { address: String, error: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// See the module.
pub struct Instance {
    pub lanes: Lanes,
    pub handoff: Arc<Handoff>,
    pub counters: Arc<Counters>,
    pub source: SourceId,
    endpoint: Option<Endpoint>,
    topic_check: TopicCheck,
    worker: Option<JoinHandle<()>>,
    stop_worker: Arc<AtomicBool>,
    stop_others: Arc<AtomicBool>,
}

impl Instance {
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let lanes = config.lanes();
        let counters = Arc::new(Counters::default());
        let source = SourceId {
            validator: config.validator_identity.unwrap_or_default(),
            instance: unix_micros(),
        };
        let handoff = Arc::new(Handoff::new(
            config.queue.records,
            config.queue.megabytes << 20,
            RECORD_BYTES_MAX,
            Arc::clone(&counters),
        ));
        let deliveries = Arc::new(Deliveries::new(lanes, Arc::clone(&counters)));
        let ready = Arc::new(AtomicBool::new(false));
        let stop_worker = Arc::new(AtomicBool::new(false));
        let stop_others = Arc::new(AtomicBool::new(false));

        let spill = match &config.spill.dir {
            Some(dir) if config.spill.megabytes > 0 => {
                Some(Spill::open(dir, config.spill.megabytes << 20)?)
            }
            _ => None,
        };
        let topics = Topics::new(&config.topic_prefix);
        let outlet = KafkaOutlet::new(
            config.kafka.clone(),
            topics,
            Arc::clone(&deliveries),
            Arc::clone(&ready),
        )?;
        let endpoint = start_endpoint(config, &stop_others, &counters)?;
        let (topic_check, first_answer) = TopicCheck::start(
            config,
            ready,
            Arc::clone(&stop_others),
            Arc::clone(&counters),
        )
        .map_err(StartError::Thread)?;
        let mut instance = Self {
            lanes,
            handoff: Arc::clone(&handoff),
            counters: Arc::clone(&counters),
            source,
            endpoint,
            topic_check,
            worker: None,
            stop_worker: Arc::clone(&stop_worker),
            stop_others,
        };
        if let Some(error) = first_answer.refusal_within(FIRST_ANSWER) {
            instance.stop();
            return Err(error.into());
        }
        let around = Surroundings {
            lanes,
            source,
            handoff,
            counters,
            deliveries,
            stop: stop_worker,
            stop_within: Duration::from_secs(config.unload_seconds),
        };
        let worker = Worker::new(around, outlet, spill);
        match thread::Builder::new()
            .name("hgWorker".into())
            .spawn(move || worker.run())
        {
            Ok(thread) => instance.worker = Some(thread),
            Err(error) => {
                instance.stop();
                return Err(StartError::Thread(error));
            }
        }
        Ok(instance)
    }

    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.endpoint.as_ref().map(Endpoint::address)
    }

    /// Places what is queued, waits for Kafka within `unload_seconds`, and joins every thread. Harmless a second time.
    pub fn stop(&mut self) {
        self.stop_worker.store(true, Ordering::Release);
        self.stop_others.store(true, Ordering::Release);
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            log::error!(target: crate::LOG_TARGET, "heliograph: the worker thread had panicked; what was queued is lost");
        }
        self.topic_check.join();
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.join();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_endpoint(
    config: &Config,
    stop: &Arc<AtomicBool>,
    counters: &Arc<Counters>,
) -> Result<Option<Endpoint>, StartError> {
    let Some(listen) = &config.metrics.listen else {
        return Ok(None);
    };
    let (counters, name) = (Arc::clone(counters), config.name.clone());
    let endpoint = Endpoint::start(listen, Arc::clone(stop), move || counters.render(&name))
        .map_err(|error| StartError::Metrics {
            address: listen.clone(),
            error,
        })?;
    log::info!(target: crate::LOG_TARGET,
        "heliograph: metrics at http://{}/metrics",
        endpoint.address()
    );
    Ok(Some(endpoint))
}

fn unix_micros() -> u64 {
    // A clock before 1970 or after the year 586524 is not one to argue with.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
