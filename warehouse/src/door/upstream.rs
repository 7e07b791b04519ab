//! Statements run by a ClickHouse server behind the door: the same users, policy, quotas and log in front of it.
//!
//! The server must be reachable with one account of its own that may do what the door's users may. What the door decides
//! goes along as settings (`readonly`, `max_*`), so the server is the second line that the embedded engine is otherwise.

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    error::{Kind, ServerError},
    execute::{Head, Job, Last, Piece, limit_settings, session_user},
    policy::Surface,
    query_log::LogStore,
    statement::{self, Scan},
    users::Role,
};
use crate::engine::{Printed, escape_param, ffi::Progress};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `http://host:8123`; empty: the engine is embedded.
    pub url: String,
    pub user: String,
    pub password: String,
}

/// See the module.
pub struct Upstream {
    client: reqwest::Client,
    config: UpstreamConfig,
    runtime: Handle,
    pub version: String,
    pub timezone: String,
}

/// Bytes of an insert on their way to the server, in pieces of at most a megabyte.
const PIECES_AHEAD: usize = 4;
const PIECE_BYTES: usize = 1 << 20;
/// How much of a result's end is kept, to read an error out of it.
const TAIL_BYTES: usize = 16 << 10;

impl Upstream {
    pub async fn connect(config: UpstreamConfig) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build()?;
        let mut upstream = Self {
            client,
            config,
            runtime: Handle::current(),
            version: String::new(),
            timezone: String::new(),
        };
        let about = upstream
            .ask("SELECT version(), timezone() FORMAT TSVRaw", &[])
            .await
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("upstream.url {}", upstream.config.url))?;
        let (version, timezone) = about.trim_end().split_once('\t').unwrap_or((&about, "UTC"));
        (upstream.version, upstream.timezone) = (version.to_owned(), timezone.to_owned());
        Ok(upstream)
    }

    pub async fn surface(&self) -> Result<Surface, String> {
        let sql = format!("{} FORMAT TSVRaw", Surface::QUESTION);
        Ok(Surface::of_answer(&self.ask(&sql, &[]).await?))
    }

    fn post(&self, pairs: &[(&str, &str)]) -> reqwest::RequestBuilder {
        self.client
            .post(&self.config.url)
            .query(pairs)
            .header("x-clickhouse-user", &self.config.user)
            .header("x-clickhouse-key", &self.config.password)
    }

    /// A short statement of the door's own; values of its parameters may be long.
    async fn ask(&self, sql: &str, params: &[(&str, &str)]) -> Result<String, String> {
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        let mut form = String::new();
        for (name, value) in [("query", sql)].iter().chain(params) {
            form.push_str(&format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        form.push_str(&format!("--{boundary}--\r\n"));
        let response = self
            .post(&[])
            .header(
                "content-type",
                format!("multipart/form-data; boundary={boundary}"),
            )
            .body(form)
            .send()
            .await
            .map_err(unreachable)?;
        let good = response.status().is_success();
        let text = response.text().await.map_err(unreachable)?;
        if good { Ok(text) } else { Err(text) }
    }

    /// As [`crate::engine::Engine::print`]. Blocks.
    pub fn print(&self, statement: &[u8]) -> Result<Printed, String> {
        let sql = format!("{} FORMAT TSVRaw", Printed::QUESTION);
        let value = escape_param(statement);
        let answer = self
            .runtime
            .block_on(self.ask(&sql, &[("param_q", value.as_str())]))?;
        Ok(Printed::of_answer(&answer))
    }

    /// Runs a permitted statement. Blocks until it is through.
    pub fn run(
        &self,
        job: &mut Job,
        text: Vec<u8>,
        scan: Scan,
        body: Box<dyn Read + Send>,
        started: Instant,
    ) -> Result<Last, ServerError> {
        let insert = matches!(scan, Scan::Insert { .. });
        let printed_word = statement::first_word(job.outcome.printed.text.as_bytes());
        let reads = matches!(
            printed_word.as_str(),
            "SELECT" | "WITH" | "EXPLAIN" | "SHOW" | "DESCRIBE" | "EXISTS"
        );
        if job.call.read_only && !reads {
            return Err(ServerError::new(
                Kind::Readonly,
                "Cannot execute query in readonly mode. For queries that change something, use POST",
            ));
        }
        let pairs = pairs(job, reads);
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let pump = std::thread::spawn(move || pump(text, body, &sender));
        let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let request = self.post(&pairs).body(reqwest::Body::wrap_stream(pieces));
        if reads {
            job.answer.cancellation.begin();
        }
        let cancellation = job.answer.cancellation.clone();
        let outcome = self.runtime.block_on(async {
            tokio::select! {
                outcome = forward(request, job, started) => outcome,
                // Dropping the request closes its connection, which ends the statement there.
                () = cancellation.client_left(), if !insert => Ok(Last::Nothing),
            }
        });
        job.answer.cancellation.end();
        // It ends by itself: its channel is closed, or the client's body is.
        drop(pump);
        outcome
    }
}

/// The request's parameters: the client's, then the door's.
fn pairs(job: &Job, reads: bool) -> Vec<(String, String)> {
    let call = &job.call;
    let mut pairs: Vec<(String, String)> = call
        .settings
        .iter()
        .filter(|(name, _)| name != "log_comment" && name != "readonly")
        .cloned()
        .collect();
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    for (name, value) in &call.params {
        add(&format!("param_{name}"), value.clone());
    }
    if let Some(database) = &call.database {
        add("database", database.clone());
    }
    let format = call.default_format.as_deref().unwrap_or("TabSeparated");
    add("default_format", format.to_owned());
    if let Some(id) = &call.query_id {
        add("query_id", id.clone());
    }
    if let Some(session) = call.session.as_ref().filter(|_| job.role != Role::Reader) {
        // No user enters another's session.
        add("session_id", format!("{}/{}", job.user, session.id));
        add("session_timeout", session.timeout_seconds.to_string());
        add("session_check", u8::from(session.must_exist).to_string());
    }
    if call.wait_end {
        add("wait_end_of_query", "1".into());
    }
    add("log_comment", format!("door/{}", session_user(job)));
    if reads {
        add("cancel_http_readonly_queries_on_client_close", "1".into());
    }
    for (name, value) in limit_settings(job) {
        add(name, value.to_string());
    }
    if call.read_only && job.role != Role::Reader {
        add("readonly", "2".into());
    }
    pairs
}

fn pump(
    text: Vec<u8>,
    mut body: Box<dyn Read + Send>,
    pieces: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    if pieces.blocking_send(Ok(text.into())).is_err() {
        return;
    }
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = body
            .by_ref()
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece);
        let piece = match read {
            Ok(0) => return,
            Ok(_) => Ok(piece.into()),
            // The server sees a request that breaks off, and commits nothing.
            Err(error) => Err(error),
        };
        let broken = piece.is_err();
        if pieces.blocking_send(piece).is_err() || broken {
            return;
        }
    }
}

async fn forward(
    request: reqwest::RequestBuilder,
    job: &mut Job,
    started: Instant,
) -> Result<Last, ServerError> {
    let mut response = request
        .send()
        .await
        .map_err(|error| ServerError::of_engine(&unreachable(error)))?;
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let summary = header("x-clickhouse-summary").unwrap_or_default();
    job.outcome.progress = progress(&summary);
    if !response.status().is_success() {
        let text = response.text().await.unwrap_or_default();
        return Err(ServerError::of_engine(&text));
    }
    let head = Head {
        format: header("x-clickhouse-format"),
        progress: job.outcome.progress,
        elapsed: started.elapsed(),
        whole: None,
        exception_tag: header("x-clickhouse-exception-tag"),
    };
    let writer = job.call.output.writer().map_err(failed)?;
    let writer = job.writer.insert(writer);
    if let Some(sender) = job.answer.head.take() {
        // A client that is gone is noticed below.
        let _ = sender.send(Ok(head));
    }
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let bytes = match response.chunk().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) if !says_exception(&tail) => break,
            // The message came as the end of the result, and has been passed on.
            _ => {
                let error = error_in(&tail);
                job.outcome.error = Some(error.clone());
                if let Some(writer) = job.writer.take()
                    && let Ok(end) = writer.end()
                {
                    drop(job.answer.pieces.send(Piece::Data(end.into())).await);
                }
                return Ok(Last::Piece(Piece::Broken(error)));
            }
        };
        job.outcome.progress.result_bytes += bytes.len() as u64;
        tail.extend_from_slice(&bytes);
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
        let bytes = if writer.is_plain() {
            bytes
        } else {
            writer.block(&bytes).map_err(failed)?.into()
        };
        if job.answer.pieces.send(Piece::Data(bytes)).await.is_err() {
            return Ok(Last::Nothing);
        }
    }
    if let Some(writer) = job.writer.take() {
        let end = writer.end().map_err(failed)?;
        drop(job.answer.pieces.send(Piece::Data(end.into())).await);
    }
    Ok(Last::Piece(Piece::End))
}

fn failed(error: std::io::Error) -> ServerError {
    ServerError::new(Kind::Engine, error)
}

/// In a server's words.
fn unreachable(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    ServerError::new(
        Kind::Upstream,
        format!("the server behind the door does not answer: {text}"),
    )
    .to_string()
}

fn says_exception(tail: &[u8]) -> bool {
    tail.trim_ascii_end().ends_with(b"__exception__")
}

/// The error at the end of a result that broke off.
fn error_in(tail: &[u8]) -> ServerError {
    let text = String::from_utf8_lossy(tail);
    match text.rfind("Code: ") {
        Some(start) => {
            let message = text[start..].lines().next().unwrap_or_default();
            ServerError::of_engine(message)
        }
        None => ServerError::new(
            Kind::Upstream,
            "the server behind the door broke its result off",
        ),
    }
}

/// Figures of a server's summary: strings, by name.
fn progress(summary: &str) -> Progress {
    let figures: std::collections::HashMap<String, String> =
        serde_json::from_str(summary).unwrap_or_default();
    let figure = |name: &str| {
        figures
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    };
    Progress {
        read_rows: figure("read_rows"),
        read_bytes: figure("read_bytes"),
        written_rows: figure("written_rows"),
        written_bytes: figure("written_bytes"),
        result_rows: figure("result_rows"),
        result_bytes: 0,
    }
}

/// The query log's way to the server.
pub struct UpstreamLog(pub Arc<Upstream>);

impl LogStore for UpstreamLog {
    fn command(&mut self, sql: &str) -> Result<(), String> {
        self.0.runtime.block_on(self.0.ask(sql, &[])).map(drop)
    }

    fn insert(&mut self, sql: &str, rows: &[u8]) -> Result<(), String> {
        let sql = format!("{sql} FORMAT JSONEachRow");
        let request = self.0.post(&[("query", &sql)]).body(rows.to_vec());
        self.0.runtime.block_on(async {
            let response = request.send().await.map_err(unreachable)?;
            if response.status().is_success() {
                Ok(())
            } else {
                Err(response.text().await.unwrap_or_default())
            }
        })
    }
}
