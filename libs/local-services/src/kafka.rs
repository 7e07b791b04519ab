//! Apache Kafka as a single KRaft node, from the jars in the cache.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{Child, ChildSpec, free_port, kafka_probe, provision, scratch::Scratch};

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Data, configuration and log. `None`: a temporary directory that goes with the broker. A directory that holds an
    /// earlier broker's data is continued.
    pub dir: Option<PathBuf>,
    /// Port of the brokers' listener; `None`: a free one.
    pub port: Option<u16>,
    /// Port that clients are told to connect to, for something that stands between; `None`: its own.
    pub advertised_port: Option<u16>,
    /// Java heap in MiB.
    pub heap_mb: u32,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            dir: None,
            port: None,
            advertised_port: None,
            heap_mb: 384,
        }
    }
}

/// A running broker. Dropping it stops it.
#[derive(Debug)]
pub struct Kafka {
    child: Child,
    port: u16,
    // Kept for its Drop; its presence also says that nothing of this broker outlives it.
    scratch: Option<Scratch>,
}

impl Kafka {
    /// Starts a broker and returns when it answers metadata requests. Fetches the jars first when they are missing.
    pub fn start(options: KafkaOptions) -> anyhow::Result<Self> {
        let jars = provision::kafka(&provision::Progress::quiet())?.join("libs/*");
        let (dir, scratch) = match options.dir {
            Some(dir) => (dir, None),
            None => {
                let scratch = Scratch::new(&std::env::temp_dir(), "kafka")?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("Kafka: {}", dir.display()))?;
        let port = options.port.unwrap_or_else(free_port);
        let properties = dir.join("server.properties");
        let data = dir.join("data");
        let ports = Ports {
            listener: port,
            advertised: options.advertised_port.unwrap_or(port),
            controller: free_port(),
        };
        std::fs::write(&properties, server_properties(&ports, &data))
            .with_context(|| format!("Kafka: {}", properties.display()))?;
        if !data.join("meta.properties").exists() {
            format_storage(&jars, &properties)?;
        }

        // The JVM unpacks native libraries here, and leaves them when it is killed.
        let unpacked = dir.join("tmp");
        let _ = std::fs::remove_dir_all(&unpacked);
        std::fs::create_dir(&unpacked).with_context(|| format!("Kafka: {}", unpacked.display()))?;

        let spec = ChildSpec::new("Kafka", "java", dir.join("kafka.log"))
            .arg(format!("-Djava.io.tmpdir={}", unpacked.display()))
            .arg(format!("-Xms{}m", options.heap_mb.min(256)))
            .arg(format!("-Xmx{}m", options.heap_mb))
            // Start time and footprint of a developer's broker; a deployed one has its own flags.
            .arg("-XX:+UseSerialGC")
            .arg("-XX:TieredStopAtLevel=1")
            .arg("-XX:+PerfDisableSharedMem")
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .arg("-cp")
            .arg(&jars)
            .arg("kafka.Kafka")
            .arg(&properties);
        let mut child = Child::spawn(spec)?;
        child.wait_ready(START_LIMIT, || kafka_probe::answers(port))?;
        Ok(Self {
            child,
            port,
            scratch,
        })
    }

    /// Bootstrap address: `127.0.0.1:PORT`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it answers a metadata request now.
    pub fn answers(&self) -> bool {
        kafka_probe::answers(self.port)
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Starts it again on the same data and port, after killing it if it runs.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child.respawn()?;
        let port = self.port;
        self.child
            .wait_ready(START_LIMIT, || kafka_probe::answers(port))
    }

    /// Controlled shutdown.
    pub fn stop(&mut self) {
        self.child.stop(STOP_LIMIT);
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.scratch.is_some() {
            self.kill();
        } else {
            self.stop();
        }
    }
}

struct Ports {
    listener: u16,
    advertised: u16,
    controller: u16,
}

fn server_properties(ports: &Ports, data: &Path) -> String {
    let Ports {
        listener,
        advertised,
        controller,
    } = ports;
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{listener},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# The broker's log cleaner keeps this buffer whole from its start; 128 MiB is the default.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
",
        data.display()
    )
}

// Once per data directory: writes the cluster's identity into it.
fn format_storage(jars: &Path, properties: &Path) -> anyhow::Result<()> {
    let mut identity = [0_u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut identity))
        .context("Kafka: a random cluster id from /dev/urandom")?;
    let output = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(jars)
        .args(["kafka.tools.StorageTool", "format", "--ignore-formatted"])
        .args(["-t", &base64_url(&identity), "-c"])
        .arg(properties)
        .output()
        .context("Kafka: could not run java; install openjdk-17-jre-headless")?;
    if !output.status.success() {
        bail!(
            "Kafka: formatting its storage failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

// A cluster id is 16 bytes in URL-safe base64 without padding.
fn base64_url(bytes: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(*bytes);
    // 128 bits are 21 whole digits and two bits more, which are padded with four zero bits.
    (0..22)
        .map(|digit| {
            let shift = 122 - 6 * digit;
            let value = if shift >= 0 {
                bits >> shift
            } else {
                bits << -shift
            };
            // A leading '-' would read as an option.
            let index = if digit == 0 { value & 31 } else { value & 63 };
            ALPHABET[index as usize] as char
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::base64_url;

    #[test]
    fn cluster_ids_are_url_safe_base64() {
        assert_eq!(base64_url(&[0; 16]), "A".repeat(22));
        assert_eq!(
            base64_url(&[
                0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab,
                0xcd, 0xef
            ]),
            "ASNFZ4mrze8BI0VniavN7w"
        );
    }
}
