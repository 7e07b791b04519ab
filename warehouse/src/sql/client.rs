//! One statement to the server, its answer to standard output as it comes.

use std::{
    collections::HashMap,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;

use super::{Options, script};

pub struct Client {
    http: reqwest::Client,
    url: String,
    user: String,
    password: String,
    database: Option<String>,
    params: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    /// Settings of a prompt last from statement to statement.
    session: Option<String>,
    pub format: String,
}

/// What became of a statement.
#[derive(Debug)]
pub enum Outcome {
    Done,
    Failed(String),
    Cancelled,
}

/// Held back from the output, so that an error at a result's end is told and not printed as data.
const TAIL_BYTES: usize = 32 << 10;

impl Client {
    pub fn new(options: &Options, format: String) -> anyhow::Result<Self> {
        anyhow::ensure!(
            options.url.starts_with("http://"),
            "--url {:?}: write http://host:8123; this program speaks no TLS, a proxy on this machine adds it",
            options.url
        );
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .build()
            .context("cannot start")?;
        Ok(Self {
            http,
            url: options.url.clone(),
            user: options.user.clone(),
            password: options.password.clone(),
            database: options.database.clone(),
            params: options.param.clone(),
            settings: options.setting.clone(),
            session: None,
            format,
        })
    }

    pub fn keep_session(&mut self) {
        self.session = Some(uuid::Uuid::new_v4().to_string());
    }

    fn request(&self, format: &str) -> reqwest::RequestBuilder {
        let mut pairs: Vec<(String, &str)> = vec![("default_format".into(), format)];
        pairs.extend(
            self.database
                .iter()
                .map(|name| ("database".into(), name.as_str())),
        );
        pairs.extend(
            self.params
                .iter()
                .map(|(name, value)| (format!("param_{name}"), value.as_str())),
        );
        pairs.extend(
            self.settings
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str())),
        );
        if let Some(session) = &self.session {
            pairs.push(("session_id".into(), session));
            pairs.push(("session_timeout".into(), "3600"));
        }
        self.http
            .post(&self.url)
            .query(&pairs)
            .header("x-clickhouse-user", &self.user)
            .header("x-clickhouse-key", &self.password)
    }

    /// A short question of our own; nothing when it fails.
    pub async fn ask(&self, sql: &str) -> Option<String> {
        let request = self.request("TabSeparatedRaw").body(sql.to_owned());
        let response = request.timeout(Duration::from_secs(5)).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        response.text().await.ok()
    }

    /// Statement by statement; the first that fails ends it.
    pub async fn run_script(&self, text: &[u8], time: bool) -> Outcome {
        let mut rest = text;
        while let Some((statement, next)) = script::first(rest) {
            match self.send(statement.to_vec().into(), time).await {
                Outcome::Done => rest = &rest[next..],
                other => return other,
            }
        }
        Outcome::Done
    }

    /// One statement; `rows`: those of an INSERT follow on standard input.
    pub async fn run(&self, statement: &str, rows: bool, time: bool) -> Outcome {
        if !rows {
            return self.send(statement.to_owned().into(), time).await;
        }
        let head = Bytes::from(format!("{}\n", statement.trim_end()));
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        // A thread of its own: reading a pipe cannot be called off.
        std::thread::spawn(move || {
            if sender.blocking_send(Ok(head)).is_ok() {
                pump(std::io::stdin().lock(), &sender);
            }
        });
        let pieces = tokio_stream::wrappers::ReceiverStream::new(receiver);
        self.send(reqwest::Body::wrap_stream(pieces), time).await
    }

    async fn send(&self, body: reqwest::Body, time: bool) -> Outcome {
        let started = Instant::now();
        let request = self.request(&self.format).body(body);
        // Leaving closes the connection, and the door or server then ends the statement.
        tokio::select! {
            outcome = self.answer(request, started, time) => outcome,
            _ = tokio::signal::ctrl_c() => Outcome::Cancelled,
        }
    }

    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
        started: Instant,
        time: bool,
    ) -> Outcome {
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Failed(self.unreachable(error)),
        };
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        let (tag, format) = (
            header("x-clickhouse-exception-tag"),
            header("x-clickhouse-format"),
        );
        let summary = header("x-clickhouse-summary").unwrap_or_default();
        if !response.status().is_success() {
            let text = response.text().await.unwrap_or_default();
            return Outcome::Failed(text.trim_end().to_owned());
        }
        if std::io::stdout().is_terminal() && format.as_deref().is_some_and(is_binary) {
            let format = format.unwrap_or_default();
            return Outcome::Failed(format!(
                "{format} is not for a terminal: send it to a file, as in `> file`"
            ));
        }
        let mut out = std::io::stdout().lock();
        let mut held: Vec<u8> = Vec::new();
        let ending = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    held.extend_from_slice(&bytes);
                    let free = held.len().saturating_sub(TAIL_BYTES);
                    if let Err(error) = out.write_all(&held[..free]) {
                        return Outcome::Failed(format!("cannot write: {error}"));
                    }
                    held.drain(..free);
                }
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        let (data, exception) = split_exception(&held, tag.as_deref());
        if let Err(error) = out.write_all(data).and_then(|()| out.flush()) {
            return Outcome::Failed(format!("cannot write: {error}"));
        }
        if let Some(problem) = exception {
            return Outcome::Failed(problem);
        }
        if let Some(problem) = ending {
            return Outcome::Failed(format!("the result broke off: {problem}"));
        }
        if time {
            eprintln!("{}", figures(&summary, started.elapsed()));
        }
        Outcome::Done
    }

    fn unreachable(&self, error: reqwest::Error) -> String {
        if error.is_connect() {
            return format!(
                "nothing answers at {}: start it by `./heliograph up`, or name another address by --url or HELIOGRAPH_SQL_URL",
                self.url
            );
        }
        format!("{}: {error}", self.url)
    }
}

fn pump(
    mut input: impl std::io::Read,
    pieces: &tokio::sync::mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let piece = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let broken = piece.is_err();
        if pieces.blocking_send(piece).is_err() || broken {
            return;
        }
    }
}

fn is_binary(format: &str) -> bool {
    [
        "Parquet",
        "Arrow",
        "Native",
        "RowBinary",
        "ORC",
        "Avro",
        "MsgPack",
    ]
    .iter()
    .any(|name| format.starts_with(name))
}

/// Parts a result from the error block that may end it.
fn split_exception<'a>(held: &'a [u8], tag: Option<&str>) -> (&'a [u8], Option<String>) {
    let Some(tag) = tag else {
        return (held, None);
    };
    let mark = format!("\r\n__exception__\r\n{tag}\r\n");
    let found = held
        .windows(mark.len())
        .rposition(|window| window == mark.as_bytes());
    let Some(start) = found else {
        return (held, None);
    };
    let text = String::from_utf8_lossy(&held[start + mark.len()..]).into_owned();
    // Behind the message: its length and the tag, and the closing mark.
    let message = text
        .rsplit_once(&format!(" {tag}\r\n__exception__"))
        .map_or(text.as_str(), |(message, _)| {
            message
                .rsplit_once('\n')
                .map_or(message, |(message, _length)| message)
        });
    (&held[..start], Some(message.trim().to_owned()))
}

fn figures(summary: &str, elapsed: Duration) -> String {
    let known: HashMap<String, String> = serde_json::from_str(summary).unwrap_or_default();
    let figure = |name: &str| known.get(name).and_then(|text| text.parse::<u64>().ok());
    let mut text = format!("{:.3} s", elapsed.as_secs_f64());
    for (name, what) in [
        ("read_rows", "rows read"),
        ("read_bytes", "bytes read"),
        ("written_rows", "rows written"),
    ] {
        if let Some(count) = figure(name).filter(|count| *count > 0) {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_at_the_end_is_not_data() {
        let held = b"1\n2\n\r\n__exception__\r\ntag\r\nCode: 395. DB::Exception: x. (Y)\n32 tag\r\n__exception__\r\n";
        assert_eq!(
            split_exception(held, Some("tag")),
            (
                b"1\n2\n".as_slice(),
                Some("Code: 395. DB::Exception: x. (Y)".into())
            )
        );
        assert_eq!(
            split_exception(held, Some("other")),
            (held.as_slice(), None)
        );
        assert_eq!(split_exception(b"1\n", None), (b"1\n".as_slice(), None));
    }

    #[test]
    fn tells_what_was_read() {
        let summary = "{\"read_rows\":\"5\",\"read_bytes\":\"40\",\"written_rows\":\"0\"}";
        assert_eq!(
            figures(summary, Duration::from_millis(12)),
            "0.012 s, 5 rows read, 40 bytes read"
        );
        assert_eq!(figures("", Duration::ZERO), "0.000 s");
    }
}
