//! The live view of a running stack: where the stream is, how fast, how far each stage is behind.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    time::{Duration, Instant},
};

use event_log::EventLog;
use event_schema::Topics;
use serde_json::Value;

use crate::{count::Warehouse, layout::Ports, metrics, rpc::Rpc, stack::Stack};

const EVERY: Duration = Duration::from_secs(1);
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// One look at the stack. What could not be asked is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    pub validator_slot: Option<u64>,
    pub canonical_slot: Option<u64>,
    pub observed_records: Option<u64>,
    pub canonical_records: Option<u64>,
    pub router_lag: Option<f64>,
    pub warehouse_lag: Option<f64>,
    pub ledger_lag: Option<f64>,
    pub warehouse_rows: Option<u64>,
    pub ledger_transactions: Option<u64>,
    pub ledger_balanced: Option<bool>,
    pub dead_letters: Option<u64>,
}

/// Shows the stack until `stop` resolves or a service dies.
pub async fn show(stack: &mut Stack, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let log = stack.event_log()?;
    let mut view = View::default();
    tokio::pin!(stop);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => {
                view.end();
                return Ok(());
            }
            _ = tick.tick() => {
                if let Some(failure) = stack.first_dead() {
                    view.end();
                    return Err(failure);
                }
                let look = look(&stack.client, &stack.ports, Some(log.as_ref())).await;
                view.show(look);
            }
        }
    }
}

/// Asks every stage. `log` is absent where only the services' own figures are wanted.
pub async fn look(client: &reqwest::Client, ports: &Ports, log: Option<&dyn EventLog>) -> Look {
    let warehouse = Warehouse::new(
        client.clone(),
        format!("http://127.0.0.1:{}", ports.clickhouse),
    );
    let check = json(
        client,
        format!("http://127.0.0.1:{}/v1/check", ports.ledger),
    )
    .await;
    let rows = warehouse
        .query("SELECT count(), max(slot) FROM transactions")
        .await
        .ok()
        .and_then(|rows| rows.into_iter().next());
    let newest = warehouse
        .query("SELECT max(slot) FROM blocks")
        .await
        .ok()
        .and_then(|rows| rows.first()?.first()?.parse().ok());
    let mut look = Look {
        canonical_slot: newest,
        warehouse_rows: rows.and_then(|row| row.first()?.parse().ok()),
        ledger_transactions: check
            .as_ref()
            .and_then(|check| number(&check["transactions"])),
        ledger_balanced: check.as_ref().and_then(|check| check["balanced"].as_bool()),
        router_lag: metrics::lag(client, ports.router_admin).await,
        warehouse_lag: metrics::lag(client, ports.warehouse_admin).await,
        ledger_lag: metrics::lag(client, ports.ledger_admin).await,
        ..Look::default()
    };
    if let Ok(rpc) = Rpc::new(ports.rpc) {
        look.validator_slot = rpc.slot("processed").await.ok();
    }
    if let Some(log) = log {
        let topics = Topics::new(Topics::DEFAULT_PREFIX);
        look.observed_records = sum(
            records(log, &topics.observed_accounts).await,
            sum(
                records(log, &topics.observed_transactions).await,
                records(log, &topics.observed_slots).await,
            ),
        );
        look.canonical_records = records(log, &topics.canonical).await;
        look.dead_letters = records(log, &topics.dead_letters).await;
    }
    look
}

// Counts may be numbers or, where they can grow large, strings.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one? + other?)
}

async fn records(log: &dyn EventLog, topic: &str) -> Option<u64> {
    let mut count = 0;
    for partition in 0..log.partitions(topic).await.ok()? {
        let (low, high) = log.watermarks(topic, partition).await.ok()?;
        count += (high - low).max(0) as u64;
    }
    Some(count)
}

async fn json(client: &reqwest::Client, url: String) -> Option<Value> {
    let reply = client
        .get(url)
        .timeout(Duration::from_secs(3))
        .send()
        .await
        .ok()?;
    reply.json().await.ok()
}

/// Turns looks into lines, and remembers the last one for the rates.
#[derive(Default)]
struct View {
    last: Option<(Instant, Look)>,
    printed: Option<Instant>,
    lines: usize,
}

impl View {
    fn show(&mut self, look: Look) {
        let now = Instant::now();
        let rates = self.last.as_ref().map(|(then, last)| {
            let seconds = now.duration_since(*then).as_secs_f64().max(0.001);
            let rate = |new: Option<u64>, old: Option<u64>| {
                Some(new?.saturating_sub(old?) as f64 / seconds)
            };
            (
                rate(look.observed_records, last.observed_records),
                rate(look.canonical_records, last.canonical_records),
            )
        });
        let (observed, canonical) = rates.unwrap_or((None, None));
        if std::io::stdout().is_terminal() {
            let text = table(&look, observed, canonical);
            let mut out = std::io::stdout().lock();
            if self.lines > 0 {
                let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
            }
            self.lines = text.lines().count();
            let _ = write!(out, "{text}");
            let _ = out.flush();
        } else if self
            .printed
            .is_none_or(|then| then.elapsed() >= PLAIN_EVERY)
        {
            self.printed = Some(now);
            println!("{}", line(&look, observed, canonical));
        }
        self.last = Some((now, look));
    }

    fn end(&mut self) {
        self.lines = 0;
        println!();
    }
}

fn shown<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

fn rate(value: Option<f64>) -> String {
    shown(value.map(|value| format!("{value:.0}/s")))
}

fn balance(look: &Look) -> &'static str {
    match look.ledger_balanced {
        Some(true) => "balanced",
        Some(false) => "NOT BALANCED",
        None => "–",
    }
}

fn table(look: &Look, observed: Option<f64>, canonical: Option<f64>) -> String {
    let mut text = String::new();
    let mut row = |stage: &str, at: String, speed: String, lag: Option<f64>, note: String| {
        let lag = shown(lag.map(|lag| format!("{lag:.0}")));
        let _ = writeln!(text, "  {stage:<11} {at:>14} {speed:>12} {lag:>10}  {note}");
    };
    row(
        "stage",
        "records".into(),
        "events/s".into(),
        None,
        String::new(),
    );
    row(
        "validator",
        String::new(),
        String::new(),
        None,
        format!("slot {}", shown(look.validator_slot)),
    );
    row(
        "observed",
        shown(look.observed_records),
        rate(observed),
        None,
        String::new(),
    );
    row(
        "canonical",
        shown(look.canonical_records),
        rate(canonical),
        look.router_lag,
        format!("dead letters {}", shown(look.dead_letters)),
    );
    row(
        "warehouse",
        shown(look.warehouse_rows),
        String::new(),
        look.warehouse_lag,
        format!("transactions, up to slot {}", shown(look.canonical_slot)),
    );
    row(
        "ledger",
        shown(look.ledger_transactions),
        String::new(),
        look.ledger_lag,
        format!("transactions, {}", balance(look)),
    );
    // The lag column's head is a word, not a number.
    text.replacen("         –  \n", "       lag  \n", 1)
}

/// The same on one line, for logs and pipes.
pub fn line(look: &Look, observed: Option<f64>, canonical: Option<f64>) -> String {
    let lag = |lag: Option<f64>| shown(lag.map(|lag| format!("{lag:.0}")));
    format!(
        "slot {} · observed {} ({}) · canonical {} ({}, lag {}) · warehouse {} transactions (lag {}, slot {}) · ledger {} transactions (lag {}, {}) · dead letters {}",
        shown(look.validator_slot.or(look.canonical_slot)),
        shown(look.observed_records),
        rate(observed),
        shown(look.canonical_records),
        rate(canonical),
        lag(look.router_lag),
        shown(look.warehouse_rows),
        lag(look.warehouse_lag),
        shown(look.canonical_slot),
        shown(look.ledger_transactions),
        lag(look.ledger_lag),
        balance(look),
        shown(look.dead_letters),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash_and_the_table_keeps_its_shape() {
        let empty = table(&Look::default(), None, None);
        assert_eq!(empty.lines().count(), 6);
        assert!(empty.lines().next().unwrap().contains("lag"), "{empty}");
        let full = line(
            &Look {
                validator_slot: Some(9),
                ledger_balanced: Some(false),
                ..Look::default()
            },
            Some(12.4),
            None,
        );
        assert!(
            full.contains("slot 9") && full.contains("12/s") && full.contains("NOT BALANCED"),
            "{full}"
        );
    }
}
