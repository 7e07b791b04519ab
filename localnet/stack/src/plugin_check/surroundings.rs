//! What the configuration refers to: the library itself, the spill's disk, the metrics address, Kafka and its topics.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use event_log::{Action, EventLog as _, KafkaLog};
use event_schema::{ObservedTopic, Topics};
use geyser_plugin::config::Config;

use super::finding::Finding;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// `file`: absolute path of the configuration.
pub async fn examine(config: &Config, file: &Path, plugin: &Path) -> Vec<Finding> {
    let mut findings = vec![library(config, file, plugin), spill(config)];
    findings.push(metrics(config).await);
    findings.extend(kafka(config).await);
    findings
}

/// The validator loads what `libpath` says, whatever was checked.
fn library(config: &Config, file: &Path, plugin: &Path) -> Finding {
    // As the validator: relative to the configuration file.
    let beside = file.parent().unwrap_or(Path::new("/"));
    let written = beside.join(&config.libpath);
    let checked = plugin.display();
    let canonical = plugin.canonicalize();
    let absolute = canonical.as_deref().unwrap_or(plugin);
    let fix = format!("write libpath: {:?}", absolute.display().to_string());
    if config.libpath.is_empty() {
        return Finding::fail("libpath", "`libpath` is missing", fix);
    }
    match (written.canonicalize(), &canonical) {
        (Ok(written), Ok(plugin)) if written == *plugin => {
            Finding::ok("libpath", format!("{} is the plugin", config.libpath))
        }
        (Ok(written), _) => Finding::fail(
            "libpath",
            format!(
                "the validator would load {}, not {checked}",
                written.display()
            ),
            fix,
        ),
        (Err(error), _) => Finding::fail("libpath", format!("{}: {error}", written.display()), fix),
    }
}

fn spill(config: &Config) -> Finding {
    let Some(dir) = config
        .spill
        .dir
        .as_deref()
        .filter(|_| config.spill.megabytes > 0)
    else {
        return Finding::warn(
            "spill",
            "turned off: a Kafka that is away costs records as soon as the queue is full",
            "set `spill.megabytes`",
        );
    };
    // It is made at load; until then its nearest folder stands for it.
    let existing = dir
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("/"));
    let user = rustix::process::getuid().as_raw();
    if let Err(error) = try_writing(existing) {
        return Finding::fail(
            "spill",
            format!(
                "`spill.dir` {}: user {user} cannot write in {}: {error}",
                dir.display(),
                existing.display()
            ),
            "run this check as the validator's user; let that user write there, or name another folder in `spill.dir`",
        );
    }
    let free = match rustix::fs::statvfs(existing) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) >> 20,
        Err(error) => {
            return Finding::fail(
                "spill",
                format!("{}: free space is not known: {error}", existing.display()),
                "name a folder on a local disk in `spill.dir`",
            );
        }
    };
    let used = megabytes_in(dir);
    let wanted = config.spill.megabytes.saturating_sub(used);
    let detail = format!(
        "{}: {free} MiB free; the spill may take {} MiB{}",
        dir.display(),
        config.spill.megabytes,
        if used > 0 {
            format!(" and holds {used} MiB")
        } else {
            String::new()
        }
    );
    if free < wanted {
        return Finding::fail(
            "spill",
            detail,
            "lower `spill.megabytes`, free space, or name a folder on a larger disk in `spill.dir`",
        );
    }
    Finding::ok("spill", format!("{detail}; user {user} can write there"))
}

fn try_writing(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".heliograph-check-{}", std::process::id()));
    let written = fs::File::create_new(&probe).and_then(|mut file| file.write_all(b"check"));
    let removed = fs::remove_file(&probe);
    written.and(removed)
}

fn megabytes_in(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes: u64 = files
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum();
    bytes >> 20
}

async fn metrics(config: &Config) -> Finding {
    let Some(listen) = &config.metrics.listen else {
        return Finding::warn(
            "metrics",
            "turned off: nobody will see a loss",
            "set `metrics.listen`, for example to \"127.0.0.1:9185\"",
        );
    };
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("metrics", format!("{listen} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            if is_served_by(listen, &config.name).await {
                return Finding::warn(
                    "metrics",
                    format!(
                        "{listen} is held by a loaded plugin named `{}`",
                        config.name
                    ),
                    "unload it first (a reload does), or give this one another `name` and `metrics.listen`",
                );
            }
            Finding::fail(
                "metrics",
                format!("{listen} is in use"),
                "write a free address in `metrics.listen`; `ss -ltnp` shows who listens",
            )
        }
        Err(error) => Finding::fail(
            "metrics",
            format!("`metrics.listen` {listen}: {error}"),
            "write an address of this machine, such as \"127.0.0.1:9185\"",
        ),
    }
}

/// Whether a plugin of this name answers there.
async fn is_served_by(listen: &str, name: &str) -> bool {
    let Some(mut address) = listen
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
    else {
        return false;
    };
    if address.ip().is_unspecified() {
        address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    }
    let asked = async {
        let client = reqwest::Client::builder().timeout(CONNECT_LIMIT).build()?;
        let page = client.get(format!("http://{address}/metrics")).send();
        page.await?.text().await
    };
    asked.await.is_ok_and(|page| {
        page.contains("heliograph_plugin_") && page.contains(&format!("plugin=\"{name}\""))
    })
}

/// A Kafka that is away is no reason not to load: the plugin spills until it answers.
async fn kafka(config: &Config) -> Vec<Finding> {
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
    let topics = Topics::new(&config.topic_prefix);
    let partitions = &config.partitions;
    let mut findings = Vec::new();
    for (topic, configured) in [
        (ObservedTopic::Accounts, partitions.accounts),
        (ObservedTopic::Transactions, partitions.transactions),
        (ObservedTopic::Slots, partitions.slots),
    ] {
        let name = topics.observed(topic);
        let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, log.partitions(name)).await else {
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
                format!("set `partitions.{topic:?}` to {found}, or use another `topic_prefix`").to_lowercase(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_check::finding::Verdict;

    #[test]
    fn libpath_must_lead_to_the_checked_file() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("plugin.so");
        fs::write(&plugin, b"").unwrap();
        let file = dir.path().join("plugin.json");
        let verdict = |libpath: &str| {
            let config = Config {
                libpath: libpath.to_owned(),
                ..Config::default()
            };
            library(&config, &file, &plugin).verdict
        };
        assert_eq!(verdict("plugin.so"), Verdict::Ok);
        assert_eq!(verdict(plugin.to_str().unwrap()), Verdict::Ok);
        assert_eq!(verdict(""), Verdict::Fail);
        assert_eq!(verdict("other.so"), Verdict::Fail);
        fs::write(dir.path().join("other.so"), b"").unwrap();
        assert_eq!(verdict("other.so"), Verdict::Fail);
    }

    #[test]
    fn a_spill_larger_than_its_disk_is_refused_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.spill.dir = Some(dir.path().join("not/yet"));
        config.spill.megabytes = 1;
        assert_eq!(spill(&config).verdict, Verdict::Ok);
        config.spill.megabytes = 1 << 30;
        let finding = spill(&config);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.fix.contains("spill.megabytes"), "{finding}");
        config.spill.megabytes = 0;
        assert_eq!(spill(&config).verdict, Verdict::Warn);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_taken_metrics_address_is_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut config = Config::default();
        config.metrics.listen = Some(address.clone());
        // Somebody who never answers is not our plugin.
        let finding = metrics(&config).await;
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.detail.contains(&address), "{finding}");
        config.metrics.listen = Some("192.0.2.1:1".into());
        assert_eq!(metrics(&config).await.verdict, Verdict::Fail);
        drop(taken);
        config.metrics.listen = Some(address);
        assert_eq!(metrics(&config).await.verdict, Verdict::Ok);
    }
}
