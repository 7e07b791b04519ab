use std::collections::BTreeMap;
use std::io::Write;

use super::*;
use crate::{ConfigError, Host};

struct Demo;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DemoConfig {
    topic_prefix: String,
    batch_max: u32,
    optional: Option<String>,
    kafka: DemoKafka,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DemoKafka {
    brokers: String,
    options: BTreeMap<String, String>,
}

impl Default for DemoKafka {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            options: BTreeMap::new(),
        }
    }
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self {
            topic_prefix: "heliograph".into(),
            batch_max: 10,
            optional: None,
            kafka: DemoKafka::default(),
        }
    }
}

impl Service for Demo {
    const NAME: &'static str = "demo";
    const ABOUT: &'static str = "Shows configuration.";
    const ADMIN: &'static str = "127.0.0.1:9999";
    type Config = DemoConfig;

    fn check(_: &DemoConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn run(_: DemoConfig, _: Host) -> anyhow::Result<()> {
        Ok(())
    }
}

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded<DemoConfig>, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let environment = environment
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    load::<Demo>(Some(file.path()), environment).map_err(|error| error.to_string())
}

fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    match load_text(text, environment) {
        Ok(_) => panic!("accepted: {text}"),
        Err(message) => message,
    }
}

#[test]
fn no_file_means_defaults() {
    let loaded = load::<Demo>(None, std::iter::empty()).unwrap();
    assert_eq!(loaded.service, DemoConfig::default());
    assert_eq!(loaded.host.admin, "127.0.0.1:9999");
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "batch_max = 20\n[kafka]\nbrokers = \"file:1\"\n[host]\ndrain_seconds = 3\n";
    let environment = [
        ("HELIOGRAPH_KAFKA__BROKERS", "env:2"),
        ("HELIOGRAPH_BATCH_MAX", "30"),
        ("HELIOGRAPH_OPTIONAL", "ignored: not among the defaults"),
        ("HELIOGRAPH_HOST__LOG", "debug"),
        ("HELIOGRAPH_CACHE", "/somewhere"),
        ("HELIOGRAPH_OTHER_SERVICE__KEY", "1"),
        ("PATH", "/bin"),
    ];
    let loaded = load_text(text, &environment).unwrap();
    assert_eq!(loaded.service.kafka.brokers, "env:2");
    assert_eq!(loaded.service.batch_max, 30);
    assert_eq!(loaded.host.drain_seconds, 3);
    assert_eq!(loaded.host.log, "debug");
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    let message = refusal("topic_prefx = \"x\"", &[]);
    assert!(message.contains("unknown key `topic_prefx`"), "{message}");
    assert!(
        message.contains("did you mean `topic_prefix`?"),
        "{message}"
    );

    let message = refusal("[kafka]\nbroker = \"x\"", &[]);
    assert!(message.contains("unknown key `kafka.broker`"), "{message}");
    assert!(
        message.contains("did you mean `kafka.brokers`?"),
        "{message}"
    );

    let message = refusal("[host]\ndrain_second = 1", &[]);
    assert!(message.contains("`host.drain_second`"), "{message}");
    assert!(message.contains("`host.drain_seconds`"), "{message}");

    let message = refusal("", &[("HELIOGRAPH_KAFKA__BROKRS", "x")]);
    assert!(message.contains("`kafka.brokrs`"), "{message}");
    assert!(message.contains("HELIOGRAPH_KAFKA__BROKRS"), "{message}");
}

#[test]
fn wrong_types_name_the_key() {
    let message = refusal("batch_max = \"many\"", &[]);
    assert!(message.contains("`batch_max`"), "{message}");
    let message = refusal("", &[("HELIOGRAPH_BATCH_MAX", "many")]);
    assert!(message.contains("`batch_max`"), "{message}");
    let message = refusal("host = 1", &[]);
    assert!(message.contains("`host` must be a table"), "{message}");
}

#[test]
fn broken_toml_names_the_line() {
    let message = refusal("batch_max = \n", &[]);
    assert!(message.contains("line 1"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Demo>(
        Some(Path::new("/nowhere/heliograph.toml")),
        std::iter::empty(),
    );
    let message = error.err().unwrap().to_string();
    assert!(message.contains("/nowhere/heliograph.toml"), "{message}");
}

#[test]
fn the_printed_configuration_is_accepted_and_equals_the_defaults() {
    let printed = crate::print::documented::<Demo>();
    assert!(printed.contains("# Bootstrap brokers"), "{printed}");
    let loaded = load_text(&printed, &[]).unwrap();
    assert_eq!(loaded.service, DemoConfig::default());
    assert_eq!(loaded.host.admin, "127.0.0.1:9999");
}
