//! The edge on a real PostgreSQL, with browsers that hold software passkeys.
#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod authenticator;
pub mod network;

use auth_edge::config::Config;
use auth_edge::edge::Edge;
use auth_edge::metrics::Metrics;
use auth_edge::{api, audit, outbox, store};
use authenticator::{Authenticator, Lie, ORIGIN};
use local_services::{Postgres, PostgresOptions};
use network::Network;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const SOMEBODY: &str = "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin";

pub struct World {
    pub edge: Arc<Edge>,
    pub network: Network,
    pub url: String,
    pub database_url: String,
    _postgres: Postgres,
    _files: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::configured(|_| {}).await
    }

    pub async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let postgres =
            tokio::task::spawn_blocking(|| Postgres::start(PostgresOptions::default()).unwrap())
                .await
                .unwrap();
        postgres.create_database("edge_test").unwrap();
        let database_url = postgres.url("edge_test");
        let files = tempfile::tempdir().unwrap();
        let (network, network_url) = Network::start().await;
        let mut config = Config {
            database_url: database_url.clone(),
            rpc_url: network_url.clone(),
            sender_url: network_url,
            ..Config::default()
        };
        config.custody.key_file = files.path().join("custody.key").display().to_string();
        config.custody.create = true;
        config.limits.client_requests_per_minute = 100_000;
        config.limits.account_sends_per_minute = 100_000;
        change(&mut config);
        config.check().unwrap();

        let edge = Arc::new(
            Edge::new(config, Metrics::new(&prometheus::Registry::new()).unwrap()).unwrap(),
        );
        store::migrate(&edge.store).await.unwrap();
        store::pin_custody(&edge.store, edge.custody.fingerprint())
            .await
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = api::router(edge.clone()).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        tokio::spawn(outbox::run(edge.clone(), std::future::pending()));
        Self {
            edge,
            network,
            url,
            database_url,
            _postgres: postgres,
            _files: files,
        }
    }

    pub fn browser(&self) -> Browser {
        Browser {
            url: self.url.clone(),
            http: reqwest::Client::new(),
            cookies: BTreeMap::new(),
            passkey: Authenticator::new(),
        }
    }

    /// A browser whose user is registered and logged in.
    pub async fn user(&self, name: &str) -> Browser {
        let mut browser = self.browser();
        browser.register(name).await.ok();
        browser.log_in().await.ok();
        browser
    }

    pub async fn sql(&self, sql: &str) -> u64 {
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&self.edge.store)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .rows_affected()
    }

    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.edge.store)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.edge.store)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn audit_is_intact(&self) -> i64 {
        audit::verify(&self.edge.store)
            .await
            .expect("the audit chain is intact")
            .seq
    }
}

/// What the edge answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    pub headers: reqwest::header::HeaderMap,
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }

    /// The refusal's code; checks that the refusal says what is wrong and what to do.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(
            self.status.is_client_error() || self.status.is_server_error(),
            "not refused: {} {}",
            self.status,
            self.body
        );
        let error = &self.body["error"];
        assert!(
            error["message"].as_str().is_some_and(|text| text.len() > 5),
            "{}",
            self.body
        );
        assert!(
            error["fix"].as_str().is_some_and(|text| text.len() > 5),
            "{}",
            self.body
        );
        error["code"].as_str().expect("a code").to_owned()
    }
}

#[derive(Clone)]
pub struct Browser {
    url: String,
    http: reqwest::Client,
    pub cookies: BTreeMap<String, String>,
    pub passkey: Authenticator,
}

impl Browser {
    pub async fn post(&mut self, path: &str, body: &Value) -> Answer {
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("origin", ORIGIN)
            .json(body);
        self.send(request).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url));
        self.send(request).await
    }

    /// A request of any shape, with this browser's cookies.
    pub async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let cookies = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ");
        let response = request.header("cookie", cookies).send().await.unwrap();
        for header in response.headers().get_all("set-cookie") {
            let (pair, attributes) = header.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer {
            status,
            body,
            headers,
        }
    }

    pub fn raw_post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    pub async fn register(&mut self, name: &str) -> Answer {
        self.register_lying(name, &Lie::default()).await
    }

    pub async fn register_lying(&mut self, name: &str, lie: &Lie) -> Answer {
        let begun = self
            .post("/v1/register/begin", &json!({"user_name": name}))
            .await
            .ok();
        let credential = self.passkey.create(&begun["publicKey"], lie);
        self.post(
            "/v1/register/finish",
            &json!({"ceremony_id": begun["ceremony_id"], "credential": credential}),
        )
        .await
    }

    pub async fn log_in(&mut self) -> Answer {
        self.log_in_lying(&Lie::default()).await
    }

    pub async fn log_in_lying(&mut self, lie: &Lie) -> Answer {
        let begun = self.post("/v1/login/begin", &json!({})).await.ok();
        let credential = self.passkey.get(&begun["publicKey"], lie);
        self.post(
            "/v1/login/finish",
            &json!({"ceremony_id": begun["ceremony_id"], "credential": credential}),
        )
        .await
    }

    pub async fn begin_send(&mut self, to: &str, lamports: u64) -> Answer {
        self.post(
            "/v1/send/begin",
            &json!({"to": to, "lamports": lamports.to_string()}),
        )
        .await
    }

    /// Answers a begun send with this browser's passkey.
    pub fn approval(&mut self, begun: &Value, lie: &Lie) -> Value {
        json!({"approval_id": begun["approval_id"], "credential": self.passkey.get(&begun["publicKey"], lie)})
    }

    pub async fn finish_send(&mut self, begun: &Value, lie: &Lie) -> Answer {
        let approval = self.approval(begun, lie);
        self.post("/v1/send/finish", &approval).await
    }

    /// Polls a send until it is in `state`.
    pub async fn until(&mut self, id: &str, state: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let send = self.get(&format!("/v1/sends/{id}")).await.ok();
            if send["state"] == state {
                return send;
            }
            assert!(Instant::now() < deadline, "still not {state}: {send}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
