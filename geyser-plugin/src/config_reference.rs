//! What every key of the configuration means, as the page that operators read: `docs/guides/plugin-config.md` is written by
//! `cargo run -p geyser-plugin --example config_reference`, and a test holds it to the code.

use std::fmt::Write as _;

use crate::filter;

/// Path, default as JSON, form and meaning. [`filter::KEYS`] goes on where `filters` begins.
pub const KEYS: &[(&str, &str, &str)] = &[
    (
        "libpath",
        "required",
        "path of this library, relative to the configuration file; read by the validator",
    ),
    (
        "name",
        "\"heliograph\"",
        "letters, digits, `-`, `_` and `.`: names this instance in the validator, in metrics, in the spill and in the queue's memory; two instances need two names",
    ),
    (
        "validator_identity",
        "required",
        "base58: the validator's identity key; with the time of loading it is the source of every record",
    ),
    (
        "kafka.brokers",
        "\"127.0.0.1:9092\"",
        "host:port, several with commas",
    ),
    (
        "kafka.options",
        "{}",
        "further librdkafka options, such as `security.protocol`; those that the guarantees rest on (acks, idempotence, …) are refused",
    ),
    (
        "topic_prefix",
        "\"heliograph\"",
        "first part of the names of the topics: PREFIX.observed.accounts, .transactions, .slots",
    ),
    (
        "partitions.accounts",
        "4",
        "1 to 256, keyed by the account's address: what the topic has and every reader is told; created so when the topic is missing",
    ),
    (
        "partitions.transactions",
        "4",
        "1 to 256, keyed by the first signature",
    ),
    (
        "partitions.slots",
        "1",
        "1 to 256, keyed by the slot: statuses, entries and block metadata; contact info is keyed by its node",
    ),
    (
        "replication",
        "1",
        "replication factor of topics that the plugin creates; existing ones stay as they are",
    ),
    (
        "queue.records",
        "131072",
        "1024 to 4194304, rounded up to a power of two: records between a callback and Kafka's acknowledgement; 64 bytes each beside their content",
    ),
    (
        "queue.megabytes",
        "256",
        "1 to 65536 MiB, rounded up to a power of two: their content; allocated when the plugin is loaded",
    ),
    (
        "queue.dir",
        "\"/dev/shm\"",
        "a folder on a memory file system: there the queue outlives a validator that is killed; null: memory that does not",
    ),
    (
        "linger_ms",
        "5",
        "0 to 1000: how long a record may wait for others to share a request with. It waits a millisecond at most while fewer records come in a millisecond than there are partitions; from there on so long, and Kafka gets partitions × 1000 / linger_ms requests a second at most. `linger.ms` in `kafka.options` is 0 unless written there, and comes on top",
    ),
    (
        "spill.dir",
        "null",
        "a folder of this instance alone, relative to the configuration file, where records wait while Kafka is away; null: heliograph-spill/NAME",
    ),
    (
        "spill.megabytes",
        "4096",
        "MiB on disk at most; beyond that records are lost and counted; 0: no spill",
    ),
    (
        "metrics.listen",
        "\"127.0.0.1:9185\"",
        "address of the Prometheus page; port 0 takes a free one and logs it; null: none",
    ),
    (
        "metrics.callback_times",
        "true",
        "true or false: whether one callback in 64 is timed for `callback_seconds`, which costs below 2 % of the callbacks' time",
    ),
    (
        "threads.nice",
        "5",
        "0 to 19: added to the validator's nice value for every thread of the plugin, Kafka's client included. At 5 a thread gets a quarter of a CPU that the validator wants as well, at 10 a tenth, and the whole of one that it does not; at 0 it runs like the validator's own threads. What came of it is logged",
    ),
    (
        "threads.cpus",
        "null",
        "CPUs that the plugin's threads may run on, such as \"2-3,7\"; null: those of the validator. Keep them off the core that proof of history is pinned to",
    ),
    (
        "startup_accounts",
        "false",
        "true or false: whether the accounts of the snapshot are sent while the validator starts; they get half of the queue at most",
    ),
    (
        "startup.records_per_second",
        "null",
        "1 to 100000000, or null: as fast as the queue takes them. How many accounts of the snapshot are taken in a second, a second's worth at once; what comes faster is lost (no callback waits), counted as `lost_total{reason=\"startup_rate\"}` and stated in the snapshot's seals",
    ),
    (
        "deshred",
        "false",
        "true or false: whether transactions are also sent as they come in shreds, before they are executed: kind `deshred` in the topic of transactions, a `SubscribeUpdateDeshred` each, keyed by the first signature. Of no block: no seal counts them, and they get half of the queue at most",
    ),
    (
        "deshred_transaction_alt_resolution",
        "false",
        "true or false: whether those come with what their lookup tables load, as of the last root; the validator then reads its accounts while it takes in shreds. Without it, filters see only the addresses that the message itself names",
    ),
    (
        "contact_info",
        "false",
        "true or false: whether it is also sent how the nodes of the cluster are reached: kind `contact_info` in the topic of slots, a `SubscribeUpdateGossip` each, keyed by the node's identity, with slot 0. Of no block: no seal counts it",
    ),
    (
        "unload_seconds",
        "10",
        "how long unloading waits for Kafka's acknowledgements; what is missing then goes to the spill",
    ),
    (
        "outputs",
        "[]",
        "a list of at most 7 further outputs: each has a topic_prefix of its own, partitions and filters as above and below; all outputs together have at most 1023 partitions",
    ),
];

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(
        "# The plugin's configuration\n\nA JSON5 file: comments and trailing commas are fine. Unknown keys are refused, with the nearest known one. \
         `geyser-plugin/examples/heliograph.json` shows every key with its default.\n\n`filters`, here and in each of `outputs`, is read again within a second when the \
         file changes; everything else takes `agave-validator plugin reload`. A file that is wrong changes nothing, and the log says why.\n\n",
    );
    table(&mut page, KEYS);
    page.push_str(
        "\n## Filters\n\nWhat an output records. All conditions under `accounts`, and all under `transactions`, must hold. An output that the router reads \
         must not filter transactions, entries, block metadata or slots: a block that lacks them is not whole.\n\n",
    );
    table(&mut page, filter::KEYS);
    page
}

fn table(page: &mut String, keys: &[(&str, &str, &str)]) {
    page.push_str("| key | default | what it takes |\n|---|---|---|\n");
    for (key, default, meaning) in keys {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{key}` | `{default}` | {} |",
            meaning.replace('|', "\\|")
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::Config;

    /// Paths and values of everything below an object that is not one itself.
    fn leaves(value: &Value, path: &str, out: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (key, inner) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    leaves(inner, &format!("{path}{dot}{key}"), out);
                }
            }
            _ => out.push((path.into(), value.to_string())),
        }
    }

    #[test]
    fn every_key_is_there_with_its_default() {
        let mut known = Vec::new();
        leaves(
            &serde_json::to_value(Config::default()).unwrap(),
            "",
            &mut known,
        );
        known.retain(|(path, _)| !path.starts_with("filters."));
        let mut told: Vec<(String, String)> = KEYS
            .iter()
            .map(|(path, default, _)| {
                let default = match (*path, *default) {
                    ("libpath", "required") => "\"\"",
                    (_, "required") => "null",
                    (_, default) => default,
                };
                ((*path).to_owned(), default.to_owned())
            })
            .collect();
        known.sort();
        told.sort();
        assert_eq!(told, known);
    }

    #[test]
    fn the_page_is_what_the_code_says() {
        let page = include_str!("../../docs/guides/plugin-config.md");
        assert!(
            page == markdown(),
            "docs/guides/plugin-config.md is old: cargo run -p geyser-plugin --example config_reference > docs/guides/plugin-config.md"
        );
    }
}
