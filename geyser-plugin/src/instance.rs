//! Wiring only: one loaded plugin's threads, queues and limits.
//!
//! callbacks → [`Handoff`] (a ring, bounded; full: counted loss) → worker → Kafka client (bounded; full: spill) | [`Spill`]
//! (bounded; full: the worker waits and the ring fills). Beside it a thread that checks the topics until they are there, one
//! that serves metrics, and one that looks for changed filters. All are joined before `stop` returns: afterwards the library
//! may be unmapped.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use event_schema::SourceId;

use crate::{
    config::Config,
    counters::Counters,
    endpoint::Endpoint,
    filter::{FilterError, Switch},
    filter_watch::FilterWatch,
    handoff::Handoff,
    outlet::{Deliveries, KafkaOutlet},
    recovery::{self, Recovered},
    shared_memory::{SharedMemory, SharedMemoryError},
    spill::{Spill, SpillError},
    topic_check::TopicCheck,
    worker::{Surroundings, Worker},
};

/// Loading waits this long for Kafka's first answer, to refuse a wrong partition count at once; a Kafka that is away does
/// not hold loading up for longer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`kafka`: {0}")]
    Kafka(#[from] event_log::Error),
    #[error(
        "`spill.dir`: {0}. Name a directory this user may write, or set `spill.megabytes` to 0"
    )]
    Spill(#[from] SpillError),
    #[error("`queue.dir`: {0}. Name another directory, or null for memory without a name")]
    Queue(#[from] SharedMemoryError),
    #[error("`queue`: its memory cannot be had: {0}. Write fewer `megabytes`")]
    Memory(io::Error),
    #[error("{0}")]
    Filter(#[from] FilterError),
    #[error(
        "`metrics.listen`: cannot listen on {address}: {error}. Write a free address, port 0 for any, or null for none"
    )]
    Metrics { address: String, error: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// See the module.
pub struct Instance {
    pub handoff: Arc<Handoff>,
    pub counters: Arc<Counters>,
    pub filters: Arc<Switch>,
    pub source: SourceId,
    endpoint: Option<Endpoint>,
    topic_check: TopicCheck,
    filter_watch: Option<FilterWatch>,
    worker: Option<JoinHandle<()>>,
    stop_worker: Arc<AtomicBool>,
    stop_others: Arc<AtomicBool>,
}

impl Instance {
    /// `file` is where `config` was read from.
    pub fn start(config: &Config, file: &Path) -> Result<Self, StartError> {
        let outputs = config.lanes();
        let source = SourceId {
            validator: config.validator_identity.unwrap_or_default(),
            instance: unix_micros(),
        };
        let filters = Arc::new(Switch::new(config.compile_filters()?));
        let mut spill = match &config.spill.dir {
            Some(dir) if config.spill.megabytes > 0 => {
                Some(Spill::open(dir, config.spill.megabytes << 20)?)
            }
            _ => None,
        };
        // The spill's lock is held: nobody else has this queue either.
        let queue = queue_path(config);
        let recovered = match &queue {
            Some(path) => recovery::recover(path, &outputs, spill.as_mut())?,
            None => Recovered::default(),
        };
        // Before the memory that says so is written over: whoever is killed in between has said it.
        tell(recovered);
        let killed_lost = recovered.killed_lost;
        let memory = queue_memory(config, queue.as_deref(), source, killed_lost)?;
        let memory = Arc::new(memory);
        // Only what starts threads steps back: the validator waits for the rest.
        let started = config
            .threads
            .start(|| Self::start_on(config, file, source, recovered, filters, spill, &memory))
            .unwrap_or_else(|error| Err(StartError::Thread(error)));
        if started.is_err() {
            // Nothing was accepted: a name that nobody uses must not keep the memory.
            memory.give_up();
        }
        started
    }

    fn start_on(
        config: &Config,
        file: &Path,
        source: SourceId,
        recovered: Recovered,
        filters: Arc<Switch>,
        spill: Option<Spill>,
        memory: &Arc<SharedMemory>,
    ) -> Result<Self, StartError> {
        let outputs = config.lanes();
        let memory = Arc::clone(memory);
        let counters = Arc::new(Counters::new(Arc::clone(&memory)));
        counters.queue_named.set(memory.is_named().into());
        counters.recovered.set(recovered.records);
        counters.predecessor_lost.set(recovered.lost);
        counters.killed_lost.set(recovered.killed_lost);
        let handoff = Handoff::new(&memory, outputs, Arc::clone(&counters))
            .with_startup_rate(config.startup.records_per_second);
        let handoff = Arc::new(handoff);
        let deliveries = Arc::new(Deliveries::new(&handoff, Arc::clone(&counters)));
        let ready = Arc::new(AtomicBool::new(false));
        let stop_worker = Arc::new(AtomicBool::new(false));
        let stop_others = Arc::new(AtomicBool::new(false));
        let outlet = KafkaOutlet::new(
            config.kafka.clone(),
            config.topics(),
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
            handoff: Arc::clone(&handoff),
            counters: Arc::clone(&counters),
            filters: Arc::clone(&filters),
            source,
            endpoint,
            topic_check,
            filter_watch: None,
            worker: None,
            stop_worker: Arc::clone(&stop_worker),
            stop_others: Arc::clone(&stop_others),
        };
        if let Some(error) = first_answer.refusal_within(FIRST_ANSWER) {
            instance.stop();
            return Err(error.into());
        }
        let around = Surroundings {
            memory,
            source,
            handoff,
            counters: Arc::clone(&counters),
            deliveries,
            stop: stop_worker,
            linger: Duration::from_millis(config.linger_ms),
            stop_within: Duration::from_secs(config.unload_seconds),
        };
        let worker = Worker::new(around, outlet, spill);
        let worker = thread::Builder::new()
            .name("hgWorker".into())
            .spawn(move || worker.run());
        let watch = FilterWatch::start(
            file.to_owned(),
            config.clone(),
            filters,
            counters,
            stop_others,
        );
        match (worker, watch) {
            (Ok(worker), Ok(watch)) => {
                instance.worker = Some(worker);
                instance.filter_watch = Some(watch);
                Ok(instance)
            }
            (worker, watch) => {
                let error = worker.as_ref().err().or(watch.as_ref().err());
                let error = io::Error::other(error.map_or_else(String::new, ToString::to_string));
                instance.worker = worker.ok();
                instance.filter_watch = watch.ok();
                instance.stop();
                Err(StartError::Thread(error))
            }
        }
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
            log::error!(target: crate::LOG_TARGET,
                "heliograph: the worker thread had panicked; what was queued is taken over when the plugin is loaded again"
            );
        }
        self.topic_check.join();
        if let Some(watch) = &mut self.filter_watch {
            watch.join();
        }
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.join();
        }
    }
}

/// One file per spill directory, which is one per instance.
fn queue_path(config: &Config) -> Option<PathBuf> {
    let dir = config.queue.dir.as_ref()?;
    let spill = config.spill.dir.clone().unwrap_or_default();
    let spill = std::path::absolute(&spill).unwrap_or(spill);
    let place = crc32fast::hash(spill.as_os_str().as_encoded_bytes());
    Some(dir.join(format!("heliograph-{}-{place:08x}.queue", config.name)))
}

/// Named when it can be had so; a container may have a small `/dev/shm`.
fn queue_memory(
    config: &Config,
    path: Option<&Path>,
    source: SourceId,
    killed_lost: u64,
) -> Result<SharedMemory, StartError> {
    let (sizes, outputs) = (config.sizes(), config.lanes());
    if let Some(path) = path {
        match SharedMemory::create(path, sizes, source, &outputs, killed_lost) {
            Ok(memory) => return Ok(memory),
            Err(error) => log::warn!(target: crate::LOG_TARGET,
                "heliograph: `queue.dir`: {error}; the queue will not outlive a validator that is killed. Make room there, or write null"
            ),
        }
    }
    SharedMemory::anonymous(sizes, source, &outputs).map_err(StartError::Memory)
}

fn tell(recovered: Recovered) {
    let Recovered {
        records,
        lost,
        killed_lost,
    } = recovered;
    if recovered != Recovered::default() {
        log::warn!(target: crate::LOG_TARGET,
            "heliograph: the instance before was killed ({killed_lost} records are lost since the last one that was unloaded); {records} records were taken over from its memory, it had lost {lost}",
        );
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
