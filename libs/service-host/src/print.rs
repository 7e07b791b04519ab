//! `--print-config`: every key with its default and what it means, as a TOML file that can be used as it is.

use std::fmt::Write;

use toml::{Table, Value};

use crate::{Service, config};

/// Keys that mean the same in every service.
const SHARED: &[(&str, &str)] = &[
    ("host", "The process itself."),
    (
        "host.admin",
        "Admin door: /livez /readyz /startupz /metrics. Port 0 picks a free one.",
    ),
    (
        "host.drain_seconds",
        "Seconds a drain may take after the first SIGTERM or SIGINT; a second signal exits at once.",
    ),
    (
        "host.log",
        "Log filter, such as \"info\" or \"info,event_log=debug\".",
    ),
    ("host.log_format", "\"text\" or \"json\"."),
    ("kafka", "How to reach Kafka or Redpanda."),
    (
        "kafka.brokers",
        "Bootstrap brokers, host:port[,host:port...].",
    ),
    (
        "kafka.options",
        "Further librdkafka client settings, such as \"security.protocol\" = \"ssl\".",
    ),
    (
        "topic_prefix",
        "First part of every topic name; writers and readers must agree.",
    ),
    (
        "database_url",
        "PostgreSQL, postgres://user:password@host:port/database.",
    ),
    (
        "clickhouse_url",
        "ClickHouse HTTP interface: the embedded door or a real server.",
    ),
    ("clickhouse_database", "ClickHouse database."),
    ("clickhouse_user", "ClickHouse user; empty for none."),
    (
        "clickhouse_password",
        "ClickHouse password; empty for none.",
    ),
    ("rpc_url", "JSON-RPC of a Solana validator."),
    ("listen", "Address to serve on."),
];

pub(crate) fn documented<S: Service>() -> String {
    let mut out = format!(
        "# {}: {}\n# Every key with its default.\n",
        S::NAME,
        S::ABOUT
    );
    section::<S>(&mut out, "", &config::defaults::<S>());
    out
}

fn section<S: Service>(out: &mut String, path: &str, table: &Table) {
    let full = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    // Plain keys come before tables, or TOML would read them as part of the table above.
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        comment::<S>(out, &full(key));
        let _ = writeln!(out, "{} = {value}", quoted(key));
    }
    for (key, value) in table {
        if let Value::Table(inner) = value {
            out.push('\n');
            comment::<S>(out, &full(key));
            let name = if path.is_empty() {
                quoted(key)
            } else {
                format!("{path}.{}", quoted(key))
            };
            let _ = writeln!(out, "[{name}]");
            section::<S>(out, &name, inner);
        }
    }
}

fn comment<S: Service>(out: &mut String, path: &str) {
    let documented = S::DOCS.iter().chain(SHARED).find(|(key, _)| *key == path);
    if let Some((_, text)) = documented {
        let _ = writeln!(out, "# {text}");
    }
}

fn quoted(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare {
        key.to_owned()
    } else {
        Value::String(key.to_owned()).to_string()
    }
}
