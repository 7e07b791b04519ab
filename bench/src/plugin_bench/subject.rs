//! What is driven: nothing at all (the floor), the plain alternative, or the plugin of a shared object.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Value, json};

use super::{baseline::Baseline, clock_plugin::ClockPlugin};
use crate::{plugin_library::LoadedPlugin, throughput::NullPlugin};

/// In a foreign configuration, stands for the address of the bench's broker.
pub const BROKERS_PLACEHOLDER: &str = "BENCH_BROKERS";

/// One column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub name: String,
    pub origin: Origin,
    /// Of our plugin, where it tells its metrics.
    pub metrics: Option<SocketAddr>,
    /// Of our plugin, the first part of its topics' names.
    pub topic_prefix: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Callbacks that do nothing: what the driver and its clock cost.
    Floor,
    /// Callbacks that only read the clock.
    Clock,
    Baseline,
    SharedObject {
        so: PathBuf,
        config: PathBuf,
    },
}

impl Subject {
    pub fn floor() -> Self {
        Self::in_process("floor", Origin::Floor)
    }

    pub fn clock() -> Self {
        Self::in_process("clock", Origin::Clock)
    }

    pub fn baseline() -> Self {
        Self::in_process("baseline", Origin::Baseline)
    }

    fn in_process(name: &str, origin: Origin) -> Self {
        Self {
            name: name.into(),
            origin,
            metrics: None,
            topic_prefix: None,
        }
    }

    /// A plugin with a configuration of its owner's; the text [`BROKERS_PLACEHOLDER`] in it becomes `brokers`.
    pub fn foreign(
        name: String,
        so: &Path,
        config: &Path,
        brokers: &str,
        scratch: &Path,
    ) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(config).with_context(|| {
            format!(
                "configuration {}. Fix: name a readable file by --config",
                config.display()
            )
        })?;
        let config = if text.contains(BROKERS_PLACEHOLDER) {
            let filled = scratch.join(format!("{name}.json"));
            std::fs::write(&filled, text.replace(BROKERS_PLACEHOLDER, brokers))?;
            filled
        } else {
            config.into()
        };
        Ok(Self {
            name,
            origin: Origin::SharedObject {
                so: so.into(),
                config,
            },
            metrics: None,
            topic_prefix: None,
        })
    }

    /// Our plugin with the configuration that `settings` amends.
    pub fn ours(
        name: &str,
        so: &Path,
        scratch: &Path,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let metrics = SocketAddr::from(([127, 0, 0, 1], local_services::free_port()));
        let config = scratch.join(format!("{name}.json"));
        std::fs::write(
            &config,
            settings
                .configuration(name, so, scratch, metrics)
                .to_string(),
        )?;
        Ok(Self {
            name: name.into(),
            origin: Origin::SharedObject {
                so: so.into(),
                config,
            },
            metrics: Some(metrics),
            topic_prefix: Some(topic_prefix(name)),
        })
    }
}

/// What a bench chooses in our plugin's configuration; the rest are its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub brokers: String,
    /// Members of the configuration that are not the default.
    pub others: Value,
}

impl Settings {
    fn configuration(&self, name: &str, so: &Path, scratch: &Path, metrics: SocketAddr) -> Value {
        let mut config = json!({
            "libpath": so,
            "name": name,
            // Nobody's key: the identity only names the source in the records.
            "validator_identity": "Be11iograph11111111111111111111111111111111",
            "kafka": {"brokers": self.brokers},
            "topic_prefix": topic_prefix(name),
            "spill": {"dir": scratch.join(format!("{name}-spill"))},
            "metrics": {"listen": metrics.to_string()},
            "unload_seconds": 60,
        });
        merge(&mut config, &self.others);
        config
    }
}

fn topic_prefix(name: &str) -> String {
    format!("bench-{name}")
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

impl Origin {
    /// Loads it into this process.
    pub fn load(&self) -> anyhow::Result<LoadedPlugin> {
        Ok(match self {
            Self::Floor => LoadedPlugin::in_process(Box::new(NullPlugin)),
            Self::Clock => LoadedPlugin::in_process(Box::new(ClockPlugin)),
            Self::Baseline => LoadedPlugin::in_process(Box::new(Baseline::start()?)),
            Self::SharedObject { so, config } => LoadedPlugin::open(so, config)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_amend_the_configuration_and_keep_the_rest() {
        let scratch = tempfile::tempdir().unwrap();
        let settings = Settings {
            brokers: "127.0.0.1:1".into(),
            others: json!({"queue": {"megabytes": 8}, "spill": {"megabytes": 16}}),
        };
        let subject = Subject::ours("small", Path::new("x.so"), scratch.path(), &settings).unwrap();
        let Origin::SharedObject { config, .. } = subject.origin else {
            panic!("a plugin of a shared object")
        };
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(config).unwrap()).unwrap();
        assert_eq!(config["queue"]["megabytes"], 8);
        assert_eq!(config["spill"]["megabytes"], 16);
        assert!(config["spill"]["dir"].as_str().unwrap().contains("small"));
        assert_eq!(config["kafka"]["brokers"], "127.0.0.1:1");
    }

    #[test]
    fn the_brokers_are_written_into_a_foreign_configuration() {
        let scratch = tempfile::tempdir().unwrap();
        let config = scratch.path().join("theirs.conf");
        std::fs::write(&config, "{\"bootstrap.servers\": \"BENCH_BROKERS\"}").unwrap();
        let subject = Subject::foreign(
            "peer".into(),
            Path::new("peer.so"),
            &config,
            "127.0.0.1:9",
            scratch.path(),
        )
        .unwrap();
        let Origin::SharedObject { config, .. } = subject.origin else {
            panic!("a plugin of a shared object")
        };
        let text = std::fs::read_to_string(config).unwrap();
        assert_eq!(text, "{\"bootstrap.servers\": \"127.0.0.1:9\"}");
    }
}
