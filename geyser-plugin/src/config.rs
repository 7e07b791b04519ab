//! The plugin's configuration: the JSON5 file that the validator reads for `libpath` and hands to `on_load`.

mod unknown_keys;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use event_log::KafkaConfig;
use event_schema::{Pubkey, Topics};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::unknown_keys::refuse_unknown_keys;
use crate::{
    filter::{Filter, FilterConfig, FilterError},
    lane::Lanes,
    observation::Outputs,
    shared_memory::Sizes,
    startup_rate::StartupRate,
    threads::{NICE_MAX, Threads},
};

/// See the module. Every key but `libpath` and `validator_identity` may be left out; `examples/heliograph.json` shows them
/// all with their defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Read by the validator: path of this library.
    pub libpath: String,
    /// Names this instance in the validator, in metrics and in the default spill directory. Instances need different names.
    pub name: String,
    /// Base58 identity key of the validator; with the time of loading it identifies the source of every record.
    pub validator_identity: Option<Pubkey>,
    /// Broker addresses and further librdkafka options.
    pub kafka: KafkaConfig,
    /// First part of the topic names.
    pub topic_prefix: String,
    pub partitions: Partitions,
    /// Replication factor of topics this plugin creates; existing ones stay as they are.
    pub replication: i16,
    pub queue: Queue,
    /// How long a record may wait for others to share a request with, in milliseconds.
    pub linger_ms: u64,
    pub spill: Spill,
    pub metrics: Metrics,
    pub threads: Threads,
    /// What is recorded; everything by default. Read again while the plugin runs when this file changes.
    pub filters: FilterConfig,
    /// Further sets of topics with filters of their own, at most 7.
    pub outputs: Vec<Output>,
    /// Also send the accounts of the snapshot while the validator starts.
    pub startup_accounts: bool,
    pub startup: Startup,
    /// Also send transactions as they come in shreds, before they are executed.
    pub deshred: bool,
    /// With what their lookup tables load; the validator reads its accounts for it.
    pub deshred_transaction_alt_resolution: bool,
    /// Also send how the nodes of the cluster are reached.
    pub contact_info: bool,
    /// How long unloading waits for Kafka to acknowledge what it was given, in seconds.
    pub unload_seconds: u64,
}

/// Partition counts. Every writer and reader of a topic must agree on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partitions {
    pub accounts: u16,
    pub transactions: u16,
    pub slots: u16,
}

/// A further set of topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// First part of its topic names; different from all others.
    pub topic_prefix: String,
    #[serde(default)]
    pub partitions: Partitions,
    #[serde(default)]
    pub filters: FilterConfig,
}

/// Bounds of the queue between callbacks and Kafka's acknowledgement; a record leaves it when Kafka or the disk has it. All
/// of it is allocated at load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Rounded up to a power of two. 128 Ki records are six busy mainnet slots; each costs 64 bytes.
    pub records: usize,
    /// Of encoded records, in MiB; rounded up to a power of two.
    pub megabytes: usize,
    /// Where the queue lies: memory with a name, which outlives a validator that is killed. `null`: memory that does not.
    pub dir: Option<PathBuf>,
}

/// Where records wait on disk while Kafka is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spill {
    /// Of this instance alone; relative to the configuration file. Default: `heliograph-spill/NAME`.
    pub dir: Option<PathBuf>,
    /// Bound in MiB; 0 turns the spill off. Mainnet writes about 150 MiB a slot at its busiest.
    pub megabytes: u64,
}

/// Bounds of the snapshot's accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Startup {
    /// What comes faster is lost, counted and stated in the snapshot's seals; `null`: as fast as the queue takes it.
    pub records_per_second: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address of the Prometheus endpoint; `null` turns it off, port 0 takes a free one and logs it.
    pub listen: Option<String>,
    /// Whether one callback in 64 is timed, for the histogram `callback_seconds`.
    pub callback_times: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            libpath: String::new(),
            name: "heliograph".into(),
            validator_identity: None,
            kafka: KafkaConfig::default(),
            topic_prefix: Topics::DEFAULT_PREFIX.into(),
            partitions: Partitions::default(),
            replication: 1,
            queue: Queue::default(),
            linger_ms: 5,
            spill: Spill::default(),
            metrics: Metrics::default(),
            threads: Threads::default(),
            filters: FilterConfig::default(),
            outputs: Vec::new(),
            startup_accounts: false,
            startup: Startup::default(),
            deshred: false,
            deshred_transaction_alt_resolution: false,
            contact_info: false,
            unload_seconds: 10,
        }
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self {
            accounts: 4,
            transactions: 4,
            slots: 1,
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            records: 131_072,
            megabytes: 256,
            dir: Some(PathBuf::from("/dev/shm")),
        }
    }
}

impl Default for Spill {
    fn default() -> Self {
        Self {
            dir: None,
            megabytes: 4096,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: Some("127.0.0.1:9185".into()),
            callback_times: true,
        }
    }
}

/// Says which key of which file is wrong, and what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}; {fix}")]
pub struct ConfigError {
    pub file: String,
    pub problem: String,
    pub fix: String,
}

impl Config {
    /// Reads and checks the file; afterwards `spill.dir` is set.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let wrong = |problem: String, fix: String| ConfigError {
            file: file.display().to_string(),
            problem,
            fix,
        };
        let text = fs::read_to_string(file).map_err(|error| {
            wrong(
                format!("cannot be read: {error}"),
                "check the path and its permissions".into(),
            )
        })?;
        let mut config = Self::parse(&text).map_err(|(problem, fix)| wrong(problem, fix))?;
        let beside = file.parent().unwrap_or(Path::new("."));
        let dir = config.spill.dir.take();
        // An absolute path stays what it is.
        config.spill.dir = Some(match dir {
            Some(dir) => beside.join(dir),
            None => beside.join("heliograph-spill").join(&config.name),
        });
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, (String, String)> {
        let value: Value = json5::from_str(text).map_err(|error| {
            (
                format!("is not JSON5: {error}"),
                "mend the file; comments and trailing commas are allowed".into(),
            )
        })?;
        refuse_unknown_keys(&value)?;
        // Before serde, which would not say where.
        let further = value.get("outputs").and_then(Value::as_array);
        let further = further.into_iter().flatten().enumerate();
        for (path, output) in std::iter::once((String::new(), &value))
            .chain(further.map(|(index, output)| (format!("outputs[{index}]."), output)))
        {
            if let Some(filters) = output.get("filters") {
                FilterConfig::read(filters.clone()).map_err(|error| said(&path, &error))?;
            }
        }
        let config: Self = serde_json::from_value(value).map_err(|error| {
            (
                error.to_string(),
                "see examples/heliograph.json for every key and its form".into(),
            )
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let require = |holds: bool, problem: &str, fix: &str| {
            if holds {
                Ok(())
            } else {
                Err((problem.to_owned(), fix.to_owned()))
            }
        };
        require(
            self.validator_identity.is_some(),
            "`validator_identity` is missing",
            "write the base58 address that `solana-keygen pubkey IDENTITY.json` prints",
        )?;
        require(
            !self.name.is_empty()
                && self
                    .name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
            "`name` must consist of letters, digits, `-`, `_` and `.`",
            "write for example \"heliograph\"",
        )?;
        require(
            self.outputs.len() < Outputs::MAX,
            &format!("`outputs` has {} entries", self.outputs.len()),
            "write at most 7",
        )?;
        let mut prefixes = BTreeSet::new();
        let mut lanes = 0;
        for (path, prefix, partitions, filters) in self.all_outputs() {
            require(
                !prefix.is_empty() && prefixes.insert(prefix),
                &format!("`{path}topic_prefix` is empty or used twice"),
                "write a name of its own for every output",
            )?;
            for (key, count) in [
                ("accounts", partitions.accounts),
                ("transactions", partitions.transactions),
                ("slots", partitions.slots),
            ] {
                require(
                    (1..=256).contains(&count),
                    &format!("`{path}partitions.{key}` is {count}"),
                    "write a number from 1 to 256, the same as every reader of the topic",
                )?;
                lanes += usize::from(count);
            }
            Filter::compile(filters).map_err(|error| said(&path, &error))?;
        }
        require(
            lanes <= Lanes::MAX,
            &format!("the outputs have {lanes} partitions together"),
            "write at most 1023",
        )?;
        require(
            self.queue.records >= 1024,
            "`queue.records` is below 1024",
            "write 131072 or more on mainnet",
        )?;
        require(
            self.queue.records <= 1 << 22,
            "`queue.records` is above 4194304",
            "write 131072, or more if the queue is seen full",
        )?;
        require(
            (1..=65_536).contains(&self.queue.megabytes),
            "`queue.megabytes` is not between 1 and 65536",
            "write 256 or more on mainnet",
        )?;
        require(
            self.spill.megabytes <= 1 << 30,
            "`spill.megabytes` is above 1073741824",
            "write the disk space it may take",
        )?;
        require(
            self.linger_ms <= 1000,
            &format!("`linger_ms` is {}", self.linger_ms),
            "write 5; the queue must hold what comes meanwhile",
        )?;
        require(
            self.threads.nice <= NICE_MAX,
            &format!("`threads.nice` is {}", self.threads.nice),
            "write a number from 0 to 19; 0 lets its threads run like the validator's",
        )?;
        self.threads.cpu_numbers().map_err(|problem| {
            (
                format!("`threads.cpus`: {problem}"),
                "write numbers and ranges of CPUs, such as \"2-3,7\", or null".to_owned(),
            )
        })?;
        require(
            self.deshred || !self.deshred_transaction_alt_resolution,
            "`deshred_transaction_alt_resolution` is true, but `deshred` is not",
            "write `deshred: true` beside it, or leave it out",
        )?;
        require(
            self.startup
                .records_per_second
                .is_none_or(|rate| (1..=StartupRate::MAX).contains(&rate)),
            "`startup.records_per_second` is not between 1 and 100000000",
            "write a rate, or null for as fast as the queue takes them; `startup_accounts: false` sends none",
        )?;
        require(
            self.replication >= 1,
            "`replication` is below 1",
            "write 1 for one broker, 3 for a cluster",
        )?;
        self.kafka.check().map_err(|error| {
            (
                format!("`kafka`: {error}"),
                "see docs of `kafka.brokers` and `kafka.options`".to_owned(),
            )
        })
    }

    /// Path, topic prefix, partitions and filters of every output, this file's own first.
    fn all_outputs(&self) -> impl Iterator<Item = (String, &str, &Partitions, &FilterConfig)> {
        let own = (
            String::new(),
            self.topic_prefix.as_str(),
            &self.partitions,
            &self.filters,
        );
        let further = self.outputs.iter().enumerate().map(|(index, output)| {
            (
                format!("outputs[{index}]."),
                output.topic_prefix.as_str(),
                &output.partitions,
                &output.filters,
            )
        });
        std::iter::once(own).chain(further)
    }

    /// Of every output.
    pub fn lanes(&self) -> Box<[Lanes]> {
        let mut first = 0;
        self.all_outputs()
            .map(|(_, _, partitions, _)| {
                let lanes = Lanes {
                    accounts: partitions.accounts,
                    transactions: partitions.transactions,
                    slots: partitions.slots,
                    first,
                };
                // At most 1023 together.
                first += lanes.count() as u16;
                lanes
            })
            .collect()
    }

    /// Of every output.
    pub fn topics(&self) -> Vec<Topics> {
        self.all_outputs()
            .map(|(_, prefix, _, _)| Topics::new(prefix))
            .collect()
    }

    /// Of every output, compiled.
    pub fn compile_filters(&self) -> Result<Vec<Filter>, FilterError> {
        self.all_outputs()
            .map(|(_, _, _, filters)| Filter::compile(filters))
            .collect()
    }

    /// Whether nothing but filters differs.
    pub fn differs_in_filters_alone(&self, other: &Self) -> bool {
        let bare = |config: &Self| {
            let mut config = config.clone();
            config.filters = FilterConfig::default();
            for output in &mut config.outputs {
                output.filters = FilterConfig::default();
            }
            config
        };
        bare(self) == bare(other)
    }

    /// Of the queue's memory.
    pub fn sizes(&self) -> Sizes {
        let lanes: usize = self.lanes().iter().map(|lanes| lanes.count()).sum();
        // A seal per lane and slot, several slots' worth; each has a row per lane.
        let seals = (lanes * 64).next_power_of_two().max(1024);
        Sizes {
            records: self.queue.records.next_power_of_two() as u64,
            record_bytes: (self.queue.megabytes << 20).next_power_of_two() as u64,
            seals: seals as u64,
            seal_bytes: (seals * 64 * (2 + lanes / 4)).next_power_of_two() as u64,
        }
    }
}

fn said(path: &str, error: &FilterError) -> (String, String) {
    (
        format!("`{path}{}`: {}", error.path(), error.problem),
        error.fix.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &str = "validator_identity: 'So11111111111111111111111111111111111111112'";

    #[test]
    fn the_shipped_example_states_the_defaults() {
        let example = include_str!("../examples/heliograph.json");
        let config = Config::parse(example).unwrap();
        let defaults = Config {
            libpath: config.libpath.clone(),
            validator_identity: config.validator_identity,
            ..Config::default()
        };
        assert_eq!(config, defaults);
        let value: Value = json5::from_str(example).unwrap();
        let known = serde_json::to_value(Config::default()).unwrap();
        for key in known.as_object().unwrap().keys() {
            assert!(
                value.get(key).is_some(),
                "the example does not show `{key}`"
            );
        }
    }

    #[test]
    fn unknown_keys_are_named_with_their_place_and_the_nearest_known_one() {
        let (problem, fix) =
            Config::parse(&format!("{{{IDENTITY}, queue: {{record: 3}}}}")).unwrap_err();
        assert_eq!(problem, "unknown key `queue.record`");
        assert!(fix.contains("did you mean `records`"), "{fix}");
        let (problem, fix) = Config::parse(&format!("{{{IDENTITY}, quite_else: 1}}")).unwrap_err();
        assert!(
            problem.contains("`quite_else`") && fix.contains("topic_prefix"),
            "{fix}"
        );
    }

    #[test]
    fn bad_values_name_the_key_and_the_fix() {
        for (text, key) in [
            ("{}".to_owned(), "validator_identity"),
            (
                format!("{{{IDENTITY}, partitions: {{slots: 0}}}}"),
                "partitions.slots",
            ),
            (format!("{{{IDENTITY}, name: 'a/b'}}"), "name"),
            (
                format!("{{{IDENTITY}, deshred_transaction_alt_resolution: true}}"),
                "deshred",
            ),
            (
                format!("{{{IDENTITY}, startup: {{records_per_second: 0}}}}"),
                "startup.records_per_second",
            ),
            (format!("{{{IDENTITY}, kafka: {{brokers: ''}}}}"), "kafka"),
            (
                format!("{{{IDENTITY}, kafka: {{options: {{acks: '1'}}}}}}"),
                "acks",
            ),
            (format!("{{{IDENTITY}, linger_ms: 1001}}"), "linger_ms"),
            (
                format!("{{{IDENTITY}, threads: {{nice: 20}}}}"),
                "threads.nice",
            ),
            (
                format!("{{{IDENTITY}, threads: {{cpus: '3-1'}}}}"),
                "threads.cpus",
            ),
            ("{validator_identity: 'abc'}".to_owned(), "Pubkey"),
            ("{".to_owned(), "JSON5"),
        ] {
            let (problem, fix) = Config::parse(&text).unwrap_err();
            assert!(
                problem.contains(key) && !fix.is_empty(),
                "{text}: {problem}; {fix}"
            );
        }
    }

    #[test]
    fn a_spill_directory_is_derived_from_the_file_and_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plugin.json");
        fs::write(
            &file,
            format!("{{libpath: 'x.so', {IDENTITY}, name: 'second', /* note */}}"),
        )
        .unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(
            config.spill.dir,
            Some(dir.path().join("heliograph-spill/second"))
        );
        for (written, meant) in [
            ("waiting", dir.path().join("waiting")),
            ("/var/spill", PathBuf::from("/var/spill")),
        ] {
            let text = format!("{{libpath: 'x.so', {IDENTITY}, spill: {{dir: '{written}'}}}}");
            fs::write(&file, text).unwrap();
            assert_eq!(Config::load(&file).unwrap().spill.dir, Some(meant));
        }
    }
}
