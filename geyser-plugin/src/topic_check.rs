//! Creates the observed topics, or finds that they are not as configured. Until it succeeds nothing is given to Kafka: a
//! record for a topic that does not exist would be lost.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use event_log::{Action, Error, EventLog as _, KafkaConfig, KafkaLog, TopicSpec};
use event_schema::ObservedTopic;

use crate::{config::Config, counters::Counters};

const RETRY_EVERY: Duration = Duration::from_secs(1);
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
const STOP_CHECK: Duration = Duration::from_millis(50);

/// A thread that tries until it succeeds or is stopped.
pub struct TopicCheck {
    thread: Option<JoinHandle<()>>,
}

/// What the first attempt will say.
pub struct FirstAnswer(mpsc::Receiver<Result<(), Error>>);

impl TopicCheck {
    pub fn start(
        config: &Config,
        ready: Arc<AtomicBool>,
        stop: Arc<AtomicBool>,
        counters: Arc<Counters>,
    ) -> std::io::Result<(Self, FirstAnswer)> {
        let kafka = config.kafka.clone();
        let specs = specs(config);
        let (answer, first_answer) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("hgTopics".into()).spawn(move || {
            let mut complained = false;
            while !stop.load(Ordering::Acquire) {
                let result = attempt(&kafka, &specs, &stop);
                // Only the first answer is waited for; the channel holds one.
                let _ = answer.try_send(result.clone());
                match result {
                    Ok(()) => {
                        counters.kafka_ready.set(1);
                        ready.store(true, Ordering::Release);
                        if complained {
                            log::info!(target: crate::LOG_TARGET, "heliograph: Kafka answers and has the topics");
                        }
                        return;
                    }
                    Err(error) => {
                        counters.kafka_errors.add(1);
                        if !complained {
                            log::warn!(target: crate::LOG_TARGET, "heliograph: {error}. Records wait in the queue and the spill until then");
                        }
                        complained = true;
                    }
                }
                nap(&stop, RETRY_EVERY);
            }
        })?;
        Ok((
            Self {
                thread: Some(thread),
            },
            FirstAnswer(first_answer),
        ))
    }

    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It holds no records: had it panicked, nothing but readiness would be missing.
            let _ = thread.join();
        }
    }
}

impl FirstAnswer {
    /// An error that no retry can help, if it came within `wait`: a reason not to load.
    pub fn refusal_within(self, wait: Duration) -> Option<Error> {
        match self.0.recv_timeout(wait) {
            Ok(Err(error)) if error.action() == Action::Stop => Some(error),
            _ => None,
        }
    }
}

fn specs(config: &Config) -> Vec<TopicSpec> {
    let outputs = config.topics().into_iter().zip(config.lanes());
    outputs
        .flat_map(|(topics, lanes)| {
            [
                (ObservedTopic::Accounts, lanes.accounts),
                (ObservedTopic::Transactions, lanes.transactions),
                (ObservedTopic::Slots, lanes.slots),
            ]
            .map(|(topic, partitions)| TopicSpec {
                name: topics.observed(topic).to_string(),
                partitions: partitions.into(),
                compacted: false,
                // A broker's own limits suffice: larger values are cut.
                config: Vec::new(),
                replication: config.replication,
            })
        })
        .collect()
}

fn attempt(kafka: &KafkaConfig, specs: &[TopicSpec], stop: &AtomicBool) -> Result<(), Error> {
    let failed = |doing: &str, reason: String| Error::Unavailable {
        brokers: kafka.brokers.clone(),
        doing: doing.into(),
        reason,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| failed("starting a runtime", error.to_string()))?;
    // The client's questions cannot be interrupted and take ten seconds when nobody listens; unloading would wait for them.
    if !somebody_listens(&kafka.brokers) {
        return Err(failed("connecting", "no connection".into()));
    }
    let log = KafkaLog::new(kafka.clone())?;
    let answer = runtime.block_on(async {
        let stopped = async {
            while !stop.load(Ordering::Acquire) {
                tokio::time::sleep(STOP_CHECK).await;
            }
        };
        tokio::select! {
            answer = tokio::time::timeout(ATTEMPT_LIMIT, log.ensure_topics(specs)) => {
                answer.unwrap_or_else(|_| Err(failed("checking topics", "no answer in time".into())))
            }
            () = stopped => Err(failed("checking topics", "the plugin is being unloaded".into())),
        }
    });
    // Waits for blocking questions: none may outlive the library.
    drop(runtime);
    answer
}

/// Whether one of the brokers takes a TCP connection; also true when an address is not in a form to be tried here.
fn somebody_listens(brokers: &str) -> bool {
    brokers.split(',').any(|broker| {
        let address = broker.trim();
        let address = address
            .split_once("://")
            .map_or(address, |(_, address)| address);
        match address.to_socket_addrs() {
            Ok(mut found) => {
                found.any(|address| TcpStream::connect_timeout(&address, CONNECT_LIMIT).is_ok())
            }
            // A bare host name has Kafka's default port; that, and a name service that is away, are the client's affair.
            Err(_) => true,
        }
    })
}

fn nap(stop: &AtomicBool, time: Duration) {
    let mut left = time;
    while !stop.load(Ordering::Acquire) && !left.is_zero() {
        let step = left.min(STOP_CHECK);
        thread::sleep(step);
        left -= step;
    }
}
