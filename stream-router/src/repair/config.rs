//! The knobs of repairs.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use chain_blocks::rpc::NodesConfig;
use serde::{Deserialize, Serialize};
use service_host::ConfigError;

/// About 2 GB.
const ACCOUNTS_MAX: usize = 10_000_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RepairConfig {
    /// JSON-RPC addresses of validators or RPC nodes that keep blocks, asked in turn. Empty: gaps are told and stay.
    pub rpc_urls: Vec<String>,
    /// PEM file of a certificate authority that is trusted for https addresses beside the system's; empty for none.
    pub ca_file: PathBuf,
    /// Slots asked for at once.
    pub concurrency: usize,
    /// Requests per second, to all nodes together.
    pub requests_per_second: u32,
    /// A node that has not sent its whole reply after this long is given up for this time.
    pub timeout_ms: u64,
    /// A longer reply is not read. A mainnet block is 5–20 MB of JSON.
    pub reply_mebibytes: usize,
    /// Pause before a slot is asked for again; it doubles with each try.
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    /// A slot that could not be had this long after it was first asked for is given up; accounts, when no node has told any for
    /// this long.
    pub deadline_seconds: u64,
    /// Accounts that blocks without account updates may have written, to be asked for by getMultipleAccounts at once; about
    /// 200 bytes each. With `accounts_topic.enabled`; 0: the accounts topic keeps its holes.
    pub accounts_max: usize,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self {
            rpc_urls: Vec::new(),
            ca_file: PathBuf::new(),
            concurrency: 4,
            requests_per_second: 10,
            timeout_ms: 15_000,
            reply_mebibytes: 64,
            backoff_ms: 500,
            backoff_max_ms: 30_000,
            deadline_seconds: 600,
            accounts_max: 200_000,
        }
    }
}

impl RepairConfig {
    /// Accounts that are asked for at once, if any node is configured.
    pub fn accounts(&self) -> usize {
        match self.rpc_urls.is_empty() {
            true => 0,
            false => self.accounts_max,
        }
    }

    /// How the nodes are asked. Reads `ca_file`.
    pub fn nodes(&self) -> anyhow::Result<NodesConfig> {
        let authority = Some(&self.ca_file).filter(|file| !file.as_os_str().is_empty());
        let read = |file: &PathBuf| {
            std::fs::read(file).with_context(|| format!("repair.ca_file: {}", file.display()))
        };
        Ok(NodesConfig {
            urls: self.rpc_urls.clone(),
            timeout: Duration::from_millis(self.timeout_ms),
            requests_per_second: self.requests_per_second,
            reply_mebibytes: self.reply_mebibytes,
            reply_field: "repair.reply_mebibytes",
            ca_pem: authority.map(read).transpose()?,
        })
    }

    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field: &str, problem: String, fix: &str| {
            Err(ConfigError {
                field: field.to_owned(),
                problem,
                fix: fix.to_owned(),
            })
        };
        for (index, url) in self.rpc_urls.iter().enumerate() {
            let field = format!("repair.rpc_urls[{index}]");
            // The address itself may hold a key, so it is not shown.
            let (problem, fix) = match reqwest::Url::parse(url) {
                Err(error) => (
                    format!("is not an address: {error}"),
                    "write http://HOST:8899",
                ),
                Ok(url) if !matches!(url.scheme(), "http" | "https") => (
                    "begins with neither http:// nor https://".to_owned(),
                    "write http://HOST:8899",
                ),
                Ok(url) if url.host_str().is_none_or(str::is_empty) => {
                    ("names no host".to_owned(), "write http://HOST:8899")
                }
                Ok(_) => continue,
            };
            return refuse(&field, problem, fix);
        }
        for (field, value, max) in [
            ("repair.concurrency", self.concurrency as u64, 64),
            (
                "repair.requests_per_second",
                self.requests_per_second.into(),
                10_000,
            ),
            ("repair.timeout_ms", self.timeout_ms, 600_000),
            ("repair.reply_mebibytes", self.reply_mebibytes as u64, 1_024),
            ("repair.backoff_ms", self.backoff_ms, 600_000),
            ("repair.backoff_max_ms", self.backoff_max_ms, 3_600_000),
            ("repair.deadline_seconds", self.deadline_seconds, 604_800),
        ] {
            if !(1..=max).contains(&value) {
                return refuse(
                    field,
                    format!("{value} is not between 1 and {max}"),
                    "write a number in that range",
                );
            }
        }
        if self.accounts_max > ACCOUNTS_MAX {
            return refuse(
                "repair.accounts_max",
                format!("{} is more than {ACCOUNTS_MAX}", self.accounts_max),
                "write a number up to that; 0 asks for no accounts",
            );
        }
        if self.backoff_max_ms < self.backoff_ms {
            return refuse(
                "repair.backoff_max_ms",
                "is shorter than repair.backoff_ms".to_owned(),
                "make it several times as long",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_is_named_without_being_shown() {
        for (url, problem) in [
            ("localhost:8899/SECRET", "neither http:// nor https://"),
            ("ftp://node.example/SECRET", "neither http:// nor https://"),
            ("node/SECRET", "not an address"),
            ("http:///", "not an address"),
        ] {
            let config = RepairConfig {
                rpc_urls: vec!["http://127.0.0.1:8899".into(), url.into()],
                ..RepairConfig::default()
            };
            let error = config.check().unwrap_err();
            assert_eq!(error.field, "repair.rpc_urls[1]", "{url}");
            assert!(error.problem.contains(problem), "{url}: {}", error.problem);
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        RepairConfig::default().check().expect("defaults");
        let config = RepairConfig {
            concurrency: 0,
            ..RepairConfig::default()
        };
        assert_eq!(config.check().unwrap_err().field, "repair.concurrency");
        let config = RepairConfig {
            backoff_max_ms: 1,
            ..RepairConfig::default()
        };
        assert_eq!(config.check().unwrap_err().field, "repair.backoff_max_ms");
        let config = RepairConfig {
            accounts_max: usize::MAX,
            ..RepairConfig::default()
        };
        assert_eq!(config.check().unwrap_err().field, "repair.accounts_max");
    }
}
