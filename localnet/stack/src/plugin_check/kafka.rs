//! Do the brokers answer, and have the topics the partitions that are configured?

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use event_log::{Action, EventLog as _, KafkaLog};
use event_schema::{ObservedTopic, Topics};
use geyser_plugin::config::Config;

use super::finding::Finding;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A Kafka that is away is no reason not to load: the plugin spills until it answers.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let brokers = &config.kafka.brokers;
    let away = |reason: String| {
        Finding::warn(
            "kafka",
            format!("{brokers}: {reason}; the plugin would load and spill until it answers"),
            "start the brokers, or mend `kafka.brokers` and `kafka.options`",
        )
    };
    let log = match KafkaLog::new(config.kafka.clone()) {
        Ok(log) => log,
        Err(error) => {
            return vec![Finding::fail(
                "kafka",
                error.to_string(),
                "mend `kafka.options`",
            )];
        }
    };
    if let Err(reason) = reach(brokers) {
        return vec![away(reason)];
    }
    let outputs = config.outputs.iter().enumerate().map(|(index, output)| {
        let at = format!("outputs[{index}].");
        (at, &output.topic_prefix, &output.partitions)
    });
    let own = (String::new(), &config.topic_prefix, &config.partitions);
    let wanted = std::iter::once(own)
        .chain(outputs)
        .flat_map(|(at, prefix, partitions)| {
            let topics = Topics::new(prefix);
            [
                (ObservedTopic::Accounts, "accounts", partitions.accounts),
                (
                    ObservedTopic::Transactions,
                    "transactions",
                    partitions.transactions,
                ),
                (ObservedTopic::Slots, "slots", partitions.slots),
            ]
            .map(|(topic, key, count)| {
                (
                    topics.observed(topic).clone(),
                    format!("{at}partitions.{key}"),
                    count,
                )
            })
        });
    let mut findings = Vec::new();
    for (name, key, configured) in wanted {
        let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, log.partitions(&name)).await else {
            return vec![away(format!(
                "no answer within {} s",
                ANSWER_LIMIT.as_secs()
            ))];
        };
        findings.push(match answer {
            Ok(found) if found == u32::from(configured) => {
                Finding::ok("topic", format!("{name} has {found} partitions"))
            }
            Ok(found) => Finding::fail(
                "topic",
                format!("{name} has {found} partitions, {configured} are configured"),
                format!("set `{key}` to {found}, or use another `topic_prefix`"),
            ),
            Err(event_log::Error::UnknownTopic { .. }) => Finding::ok(
                "topic",
                format!(
                    "{name} does not exist; the plugin makes it with {configured} partitions, {} replicas",
                    config.replication
                ),
            ),
            Err(error) if error.action() == Action::Stop => Finding::fail(
                "kafka",
                error.to_string(),
                "give the plugin's user these rights, or mend `kafka.options`",
            ),
            Err(error) => return vec![away(error.to_string())],
        });
    }
    findings.insert(0, Finding::ok("kafka", format!("{brokers} answers")));
    findings
}

/// One of the brokers takes a connection. The client itself would ask a dead address for long.
fn reach(brokers: &str) -> Result<(), String> {
    let mut reason = String::new();
    for broker in brokers.split(',') {
        let address = broker.trim();
        let address = address
            .split_once("://")
            .map_or(address, |(_, address)| address);
        let with_port = if address.contains(':') {
            address.to_owned()
        } else {
            format!("{address}:9092")
        };
        match with_port.to_socket_addrs() {
            Ok(addresses) => {
                for address in addresses {
                    match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                        Ok(_) => return Ok(()),
                        Err(error) => reason = error.to_string(),
                    }
                }
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}
