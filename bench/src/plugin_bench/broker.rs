//! The broker that plugins of a bench deliver to: one of the bench's own, whose disk tells what came over the wire.

use std::{fs, path::PathBuf};

use local_services::{Kafka, KafkaOptions};

/// See the module.
pub struct Broker {
    address: String,
    /// `None` when the broker is somebody else's.
    own: Option<(Kafka, PathBuf, tempfile::TempDir)>,
}

impl Broker {
    /// The one at `given`, or one of its own.
    pub fn start(given: Option<&str>) -> anyhow::Result<Self> {
        if let Some(address) = given {
            return Ok(Self {
                address: address.into(),
                own: None,
            });
        }
        let scratch = tempfile::Builder::new()
            .prefix("heliograph-bench-kafka-")
            .tempdir()?;
        let kafka = Kafka::start(KafkaOptions {
            dir: Some(scratch.path().into()),
            ..KafkaOptions::default()
        })?;
        Ok(Self {
            address: kafka.brokers(),
            own: Some((kafka, scratch.path().join("data"), scratch)),
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Of the bench's own broker.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(|(kafka, ..)| kafka.pid())
    }

    /// Bytes of all records of all topics that are not Kafka's own, as they lie on the broker's disk, which is as they came
    /// over the wire: compressed, in batches.
    pub fn topic_bytes(&self) -> Option<u64> {
        let (_, data, _) = self.own.as_ref()?;
        let partitions = fs::read_dir(data).ok()?;
        let bytes = partitions
            .flatten()
            .filter(|partition| !partition.file_name().to_string_lossy().starts_with("__"))
            .filter_map(|partition| fs::read_dir(partition.path()).ok())
            .flat_map(|segments| segments.flatten())
            .filter(|segment| segment.path().extension().is_some_and(|e| e == "log"))
            .filter_map(|segment| Some(segment.metadata().ok()?.len()))
            .sum();
        Some(bytes)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((kafka, ..)) = &mut self.own {
            // Its data goes with it, so there is nothing to save.
            kafka.kill();
        }
    }
}
