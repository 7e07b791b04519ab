//! Everything a request can use, made once at start.

use crate::chain::Chain;
use crate::config::Config;
use crate::custody::Custody;
use crate::guard::RateLimits;
use crate::metrics::Metrics;
use crate::passkeys::Passkeys;
use crate::policy::Policy;
use crate::sender::Sender;
use crate::sessions::Cookies;
use crate::store;
use anyhow::Context;
use sqlx::PgPool;
use std::path::Path;
use std::time::Duration;

pub struct Edge {
    pub config: Config,
    pub store: PgPool,
    pub passkeys: Passkeys,
    pub custody: Custody,
    pub policy: Policy,
    pub chain: Chain,
    pub sender: Sender,
    pub cookies: Cookies,
    pub rates: RateLimits,
    pub metrics: Metrics,
}

impl Edge {
    /// Opens the key file and reads the policy; needs no network.
    pub fn new(config: Config, metrics: Metrics) -> anyhow::Result<Self> {
        let timeout = Duration::from_secs(u64::from(config.limits.ceremony_seconds));
        Ok(Self {
            store: store::pool(&config.database_url, config.database_connections_max)?,
            passkeys: Passkeys::new(&config.public_origin, &config.relying_party(), timeout)
                .context("configuration key `public_origin`")?,
            custody: Custody::open(Path::new(&config.custody.key_file), config.custody.create)?,
            policy: Policy::load(&config.policy_file, &config.limits.canonical())?,
            chain: Chain::new(&config.rpc_url)?,
            sender: Sender::new(&config.sender_url)?,
            cookies: Cookies {
                https: config.is_https(),
            },
            rates: RateLimits::new(&config.limits),
            metrics,
            config,
        })
    }
}
