//! From a TOML file and the environment to a service's configuration.
//!
//! Precedence: defaults, then the file, then environment variables `HELIOGRAPH_SECTION__KEY` (top-level keys:
//! `HELIOGRAPH_KEY`), then command-line flags. A variable for a section or top-level key this service does not have is
//! left to the service that has it, because one environment is often shared; an unknown key within a known section is
//! refused like one in the file.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use crate::Service;

/// The `[host]` table, the same in every service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Address of the admin door.
    pub admin: String,
    /// How long a drain may take before the process gives up and exits with 1.
    pub drain_seconds: u64,
    /// A `tracing` filter, such as `info` or `info,event_log=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            admin: "127.0.0.1:0".to_owned(),
            drain_seconds: 10,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error(
        "cannot read the configuration file {path}: {source}. Check the path given to `--config`"
    )]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not valid TOML:\n{reason}")]
    Syntax { path: PathBuf, reason: String },
    #[error("{origin}: {reason}")]
    Key { origin: String, reason: String },
}

/// A loaded configuration with the host's part taken out.
pub(crate) struct Loaded<C> {
    pub service: C,
    pub host: HostConfig,
}

/// Reads the configuration of `S` from `file` (or only defaults) and `environment`.
pub(crate) fn load<S: Service>(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded<S::Config>, LoadError> {
    let mut table = match file {
        None => Table::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read {
                path: path.to_owned(),
                source,
            })?;
            text.parse::<Table>().map_err(|error| LoadError::Syntax {
                path: path.to_owned(),
                reason: error.to_string(),
            })?
        }
    };
    let known = defaults::<S>();
    let overridden = override_from_environment(&mut table, &known, environment);
    let mut origin = file.map_or_else(
        || "the configuration".to_owned(),
        |path| path.display().to_string(),
    );
    if !overridden.is_empty() {
        origin = format!(
            "{origin} (with {} from the environment)",
            overridden.join(", ")
        );
    }

    let mut host = match known.get("host") {
        Some(Value::Table(host)) => host.clone(),
        _ => Table::new(),
    };
    match table.remove("host") {
        None => {}
        Some(Value::Table(given)) => host.extend(given),
        Some(_) => {
            return Err(LoadError::Key {
                origin,
                reason: "`host` must be a table".into(),
            });
        }
    }
    let host = decode::<HostConfig>(host, "host", &origin)?;
    let service = decode::<S::Config>(table, "", &origin)?;
    Ok(Loaded { service, host })
}

/// Every key with its default, the `[host]` table included.
pub(crate) fn defaults<S: Service>() -> Table {
    let mut table = match Value::try_from(S::Config::default()) {
        Ok(Value::Table(table)) => table,
        // A configuration that TOML cannot express (not a struct) has no keys to show or override.
        _ => Table::new(),
    };
    let host = HostConfig {
        admin: S::ADMIN.to_owned(),
        ..HostConfig::default()
    };
    if let Ok(host) = Value::try_from(host) {
        table.insert("host".to_owned(), host);
    }
    table
}

fn decode<C: DeserializeOwned>(table: Table, prefix: &str, origin: &str) -> Result<C, LoadError> {
    table.try_into().map_err(|error: toml::de::Error| {
        let path = error
            .to_string()
            .lines()
            .find_map(|line| Some(line.strip_prefix("in `")?.strip_suffix('`')?.to_owned()));
        let section = match (prefix, path) {
            ("", Some(path)) => path,
            ("", None) => String::new(),
            (prefix, Some(path)) => format!("{prefix}.{path}"),
            (prefix, None) => prefix.to_owned(),
        };
        LoadError::Key {
            origin: origin.to_owned(),
            reason: explain(error.message(), &section),
        }
    })
}

/// Turns serde's sentence into one that names the whole key and the nearest known one.
fn explain(message: &str, section: &str) -> String {
    let dotted = |key: &str| {
        // serde's path may or may not already end in the key itself.
        if section.is_empty() {
            key.to_owned()
        } else if section == key || section.ends_with(&format!(".{key}")) {
            section.to_owned()
        } else {
            format!("{section}.{key}")
        }
    };
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") {
        let (key, known) = (
            quoted.first().copied().unwrap_or_default(),
            quoted.get(1..).unwrap_or_default(),
        );
        let nearest = known
            .iter()
            .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| format!("did you mean `{}`? ", dotted(candidate)))
            .unwrap_or_default();
        let known = known.join("`, `");
        return format!(
            "unknown key `{}`: {nearest}Known keys here: `{known}`",
            dotted(key)
        );
    }
    if section.is_empty() {
        message.to_owned()
    } else {
        format!("key `{section}`: {message}")
    }
}

/// Writes the environment's values into the table; returns the variables used.
fn override_from_environment(
    table: &mut Table,
    known: &Table,
    environment: impl Iterator<Item = (String, String)>,
) -> Vec<String> {
    let mut used = Vec::new();
    for (name, text) in environment {
        let Some(path) = name.strip_prefix("HELIOGRAPH_") else {
            continue;
        };
        let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let is_table = matches!(known.get(&path[0]), Some(Value::Table(_)));
        // `HELIOGRAPH_CACHE` and the like are nobody's configuration key.
        if !known.contains_key(&path[0]) || (path.len() > 1) != is_table {
            continue;
        }
        let default = path
            .iter()
            .skip(1)
            .try_fold(&known[&path[0]], |value, key| value.get(key));
        let value = typed(default, text);
        set(table, &path, value);
        used.push(name);
    }
    used
}

/// Reads the text as what the default is; without a default, as TOML, or else as plain text.
fn typed(default: Option<&Value>, text: String) -> Value {
    if let Some(Value::String(_)) = default {
        return Value::String(text);
    }
    let parsed = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"));
    parsed.unwrap_or(Value::String(text))
}

fn set(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let entry = table
                .entry(section.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = entry {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
