//! A small world around one sender: a real PostgreSQL, QUIC servers in the place of leaders, the few RPC answers a
//! validator gives, and an in-memory log into which the test publishes blocks.

#![allow(dead_code)] // Each test binary uses its part of it.

pub mod chain;
pub mod leader;
pub mod rpc;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use event_log::{EventLog, MemoryLog};
use local_services::{Postgres, PostgresOptions, free_port};
use serde_json::{Value, json};
use service_host::Host;
use solana_hash::Hash;
use solana_keypair::{Keypair, Signer};
use solana_message::{Message, VersionedMessage};
use solana_transaction::versioned::VersionedTransaction;
use tx_sender::{config::Config, pipeline};

pub use chain::TestChain;
pub use leader::TestLeader;
pub use rpc::TestRpc;

/// One server for the whole test binary, one database per test.
pub fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start(PostgresOptions::default()).expect("PostgreSQL starts"))
}

pub fn new_database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "sender_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    postgres().create_database(&name).expect("a database");
    postgres().url(&name)
}

/// What outlives a sender that is killed.
pub struct World {
    pub runtime: tokio::runtime::Runtime,
    pub log: Arc<dyn EventLog>,
    pub chain: TestChain,
    pub rpc: TestRpc,
    pub leaders: Vec<TestLeader>,
    pub config: Config,
}

impl World {
    /// Leaders in the order of their windows, again and again.
    pub fn new(leaders: usize) -> Self {
        Self::on(Arc::new(MemoryLog::new()), leaders)
    }

    pub fn on(log: Arc<dyn EventLog>, leaders: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (chain, rpc, leaders) = runtime.block_on(async {
            let chain = TestChain::new(log.clone()).await;
            let leaders: Vec<TestLeader> = (0..leaders).map(|_| TestLeader::start()).collect();
            let rpc = TestRpc::start(leaders.iter().map(TestLeader::node).collect()).await;
            (chain, rpc, leaders)
        });
        let mut config = Config {
            listen: format!("127.0.0.1:{}", free_port()),
            database_url: new_database(),
            rpc_url: rpc.url.clone(),
            ..Config::default()
        };
        config.quic.bind = "127.0.0.1:0".parse().expect("an address");
        config.leaders.slot_poll_ms = 20;
        config.leaders.schedule_refresh_ms = 200;
        // Only tests that ask for it see the fallback.
        config.leaders.fallback_ms = 600_000;
        Self {
            runtime,
            log,
            chain,
            rpc,
            leaders,
            config,
        }
    }

    pub fn start(&self) -> Running {
        Running::start(&self.config, self.log.clone())
    }
}

/// A sender inside this process, on its own runtime so that it can be cut off at any point.
pub struct Running {
    runtime: Option<tokio::runtime::Runtime>,
    pub host: Host,
    pub url: String,
    caller: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Running {
    fn start(config: &Config, log: Arc<dyn EventLog>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let host = Host::detached();
        let (config_in, host_in) = (config.clone(), host.clone());
        runtime.spawn(async move {
            let listener = service_host::listen("listen", &config_in.listen)
                .await
                .expect("listening");
            pipeline::run(config_in, log, listener, host_in)
                .await
                .expect("the sender runs");
        });
        let running = Self {
            runtime: Some(runtime),
            host,
            url: format!("http://{}", config.listen),
            caller: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            http: reqwest::Client::new(),
        };
        eventually("the sender is ready", || running.host.is_ready());
        running
    }

    /// Every task stops where it stands; nothing is flushed.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    pub fn post(&self, body: &Value) -> Value {
        self.caller.block_on(async {
            let answer = self
                .http
                .post(&self.url)
                .json(body)
                .send()
                .await
                .expect("an answer");
            answer.json().await.expect("JSON")
        })
    }

    /// All at once.
    pub fn post_concurrently(&self, bodies: &[Value]) -> Vec<Value> {
        let requests = bodies.iter().map(|body| async {
            let answer = self
                .http
                .post(&self.url)
                .json(body)
                .send()
                .await
                .expect("an answer");
            answer.json().await.expect("JSON")
        });
        self.caller.block_on(futures::future::join_all(requests))
    }

    pub fn call(&self, method: &str, params: Value) -> Value {
        self.post(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    }

    /// Its signature.
    pub fn send(&self, transaction: &VersionedTransaction) -> String {
        self.send_with(transaction, json!({}))["result"]
            .as_str()
            .expect("a signature")
            .to_owned()
    }

    pub fn send_with(&self, transaction: &VersionedTransaction, options: Value) -> Value {
        let mut options = options;
        options["encoding"] = "base64".into();
        self.call("sendTransaction", json!([base64(transaction), options]))
    }

    pub fn status(&self, name: &str) -> Value {
        self.call("getSendStatus", json!([name]))["result"].clone()
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.caller.block_on(async {
            let answer = self
                .http
                .get(format!("{}{path}", self.url))
                .send()
                .await
                .expect("an answer");
            (answer.status().as_u16(), answer.json().await.expect("JSON"))
        })
    }

    /// Waits for a state, and gives the whole status.
    pub fn wait_for(&self, signature: &str, state: &str, commitment: Option<&str>) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            last = self.status(signature);
            let committed = commitment.is_none_or(|commitment| last["commitment"] == commitment);
            if last["state"] == state && committed {
                return last;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{signature} is not {state} {commitment:?}: {last:#}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn base64(transaction: &VersionedTransaction) -> String {
    BASE64_STANDARD.encode(wire(transaction))
}

pub fn wire(transaction: &VersionedTransaction) -> Vec<u8> {
    wincode::serialize(transaction).expect("serializes")
}

/// A transfer of `lamports`, different for each amount.
pub fn transfer(lamports: u64, blockhash: [u8; 32]) -> VersionedTransaction {
    let payer = Keypair::new_from_array([1; 32]);
    let to = Keypair::new_from_array([2; 32]).pubkey();
    let instruction =
        solana_system_interface::instruction::transfer(&payer.pubkey(), &to, lamports);
    let message = Message::new_with_blockhash(
        &[instruction],
        Some(&payer.pubkey()),
        &Hash::new_from_array(blockhash),
    );
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&payer]).expect("signed")
}

/// A transfer under a durable nonce of this value.
pub fn nonce_transfer(lamports: u64, value: [u8; 32]) -> VersionedTransaction {
    use solana_system_interface::instruction as system;
    let payer = Keypair::new_from_array([1; 32]);
    let nonce = Keypair::new_from_array([3; 32]).pubkey();
    let instructions = [
        system::advance_nonce_account(&nonce, &payer.pubkey()),
        system::transfer(&payer.pubkey(), &nonce, lamports),
    ];
    let message = Message::new_with_blockhash(
        &instructions,
        Some(&payer.pubkey()),
        &Hash::new_from_array(value),
    );
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&payer]).expect("signed")
}

/// Fails, naming what did not come, after 20 s.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
