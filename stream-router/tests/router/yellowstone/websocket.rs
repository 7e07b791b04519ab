//! WebSocket subscriptions with cursors over the same engine: against the canonical topic, through kills and reconnections.

use event_schema::GapReason;
use serde_json::{Value, json};
use stream_router::{
    access::Gate,
    config::WebSocketConfig,
    encoding::gap_value,
    fanout::{self, Allowance, Fanout, queue},
    jsonrpc::Request,
    metrics::Metrics,
    subscription::cursor_text,
    yellowstone::config::GrpcConfig,
};

use super::*;
use crate::source::account;

/// One subscription, over all its lives.
struct Listener {
    /// Without `Subscribe`.
    method: &'static str,
    params: Vec<Value>,
    cursor: Option<String>,
    /// Its number at present.
    subscription: Option<u64>,
    got: Vec<String>,
    gaps: Vec<String>,
}

struct WebSocketClient {
    fanout: Fanout,
    config: WebSocketConfig,
    inbox: fanout::Inbox,
    id: u64,
    level: Level,
    listeners: Vec<Listener>,
}

fn commitment(level: Level) -> &'static str {
    match level {
        Level::Processed => "processed",
        Level::Confirmed => "confirmed",
        Level::Finalized => "finalized",
    }
}

impl WebSocketClient {
    fn new(rig: &Rig, level: Level, listeners: &[(&'static str, Vec<Value>)]) -> Self {
        let config = WebSocketConfig {
            queue_items_max: 40,
            queue_bytes_max: 40_000,
            ..WebSocketConfig::default()
        };
        let (fanout, inbox) = open(rig, config, 0);
        let listeners = listeners.iter().map(|(method, params)| Listener {
            method,
            params: params.clone(),
            cursor: None,
            subscription: None,
            got: Vec::new(),
            gaps: Vec::new(),
        });
        Self {
            listeners: listeners.collect(),
            fanout,
            config,
            inbox,
            id: 0,
            level,
        }
    }

    /// `fresh` is the cursor of those that have none.
    fn subscribe(&mut self, fresh: &str) {
        let calls: Vec<Value> = (0..)
            .zip(&self.listeners)
            .map(|(id, listener)| {
                let mut params = listener.params.clone();
                let lacks_commitment = |last: &Value| last.get("commitment").is_none();
                if params.last().is_none_or(lacks_commitment) {
                    params.push(json!({ "commitment": commitment(self.level) }));
                }
                let cursor = listener.cursor.as_deref().unwrap_or(fresh);
                params.last_mut().expect("a configuration")["cursor"] = json!(cursor);
                let method = format!("{}Subscribe", listener.method);
                json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
            })
            .collect();
        let request = Request::read(&Value::from(calls).to_string());
        self.fanout
            .command(fanout::Command::Request(self.id, request));
    }

    /// The connection breaks; the client comes back with its cursors.
    fn reconnect(&mut self) {
        self.fanout.command(fanout::Command::Disconnect(self.id));
        self.id += 1;
        self.inbox = connect(&mut self.fanout, self.config, self.id);
        self.come_back();
    }

    /// So does its router.
    fn move_to(&mut self, rig: &Rig) {
        self.id = 0;
        (self.fanout, self.inbox) = open(rig, self.config, 0);
        self.come_back();
    }

    fn come_back(&mut self) {
        let from_the_beginning = cursor_text(&Cursor::after(self.level, 0).encode());
        for listener in &mut self.listeners {
            listener.subscription = None;
        }
        self.subscribe(&from_the_beginning);
    }

    /// Reads at most so many messages; false when none came for a while.
    async fn read(&mut self, most: usize, wait: Duration) -> bool {
        for _ in 0..most {
            let next = tokio::time::timeout(wait, self.inbox.texts.next());
            let Ok(text) = next.await else {
                return false;
            };
            let message: Value = serde_json::from_str(&text.expect("goes on")).expect("JSON");
            self.take(&message);
        }
        true
    }

    fn take(&mut self, message: &Value) {
        if let Some(answers) = message.as_array() {
            for answer in answers {
                let at = answer["id"].as_u64().expect("an id") as usize;
                let number = answer["result"].as_u64();
                assert!(number.is_some(), "{answer}");
                self.listeners[at].subscription = number;
            }
            return;
        }
        let params = &message["params"];
        let number = params["subscription"].as_u64();
        assert!(number.is_some(), "{message}");
        let listener = self
            .listeners
            .iter_mut()
            .find(|listener| listener.subscription == number)
            .expect("the answer came before what it is about");
        let text = params["cursor"]
            .as_str()
            .unwrap_or_else(|| panic!("{message}"));
        let cursor = |text: &str| {
            let bytes = bs58::decode(text).into_vec().expect("base58");
            Cursor::decode(&bytes).expect("a cursor")
        };
        if let Some(before) = &listener.cursor {
            assert!(cursor(before) < cursor(text), "cursors grow");
        }
        listener.cursor = Some(text.to_owned());
        let result = &params["result"];
        if message["method"] == "gapNotification" {
            listener.gaps.push(result.to_string());
            return;
        }
        assert_eq!(
            message["method"],
            format!("{}Notification", listener.method)
        );
        listener.got.push(seen(listener.method, result));
    }
}

fn open(rig: &Rig, config: WebSocketConfig, id: u64) -> (Fanout, fanout::Inbox) {
    let metrics = Metrics::new(&prometheus::Registry::new()).expect("metrics");
    let mut fanout = Fanout::new(config, metrics).with_engine(rig.commands.clone());
    let inbox = connect(&mut fanout, config, id);
    (fanout, inbox)
}

fn connect(fanout: &mut Fanout, config: WebSocketConfig, id: u64) -> fanout::Inbox {
    let (outbox, inbox) = queue(&config);
    let gate = Gate::new(&GrpcConfig::default(), &prometheus::Registry::new()).expect("keys");
    let allowance = Arc::new(Allowance::new(gate.anonymous(), 100));
    fanout.command(fanout::Command::Connect(id, outbox, allowance));
    inbox
}

/// What a notification is about.
fn seen(method: &str, result: &Value) -> String {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let slot = &result["context"]["slot"];
    let value = &result["value"];
    match method {
        "account" => format!("{slot} {}", value["lamports"]),
        "program" => format!("{slot} {}", text(&value["pubkey"])),
        "logs" => format!("{slot} {}", text(&value["signature"])),
        "transaction" => format!("{} {}", result["slot"], text(&result["signature"])),
        "block" => format!("{slot} {}", text(&value["block"]["blockhash"])),
        "slot" => format!("{}", result["slot"]),
        other => panic!("{other}"),
    }
}

/// What each method must have told, sorted.
fn due(method: &str, canonical: &Canonical, level: Level, account: &[u8]) -> Vec<String> {
    let base58 = |bytes: &[u8]| bs58::encode(bytes).into_string();
    let mut due = Vec::new();
    for ((slot, blockhash), block) in &canonical.blocks {
        let fates = canonical.fates.get(&(*slot, *blockhash));
        let told = |fate| fates.is_some_and(|fates| fates.contains(&fate));
        let reached = match level {
            Level::Processed => true,
            Level::Confirmed => told(Commitment::Confirmed),
            Level::Finalized => told(Commitment::Finalized),
        };
        if !reached {
            continue;
        }
        let accounts = block
            .accounts
            .iter()
            .filter_map(|update| update.account.as_ref());
        match method {
            "account" => due.extend(
                accounts
                    .filter(|info| info.pubkey == account)
                    .map(|info| format!("{slot} {}", info.lamports)),
            ),
            "program" => {
                due.extend(accounts.map(|info| format!("{slot} {}", base58(&info.pubkey))))
            }
            "logs" | "transaction" => {
                let transactions = block.transactions.iter();
                due.extend(transactions.map(|info| format!("{slot} {}", base58(&info.signature))));
            }
            "block" => due.push(format!("{slot} {blockhash}")),
            "slot" => due.push(slot.to_string()),
            _ => {}
        }
    }
    due.sort();
    due
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_resumes_a_websocket_subscription_exactly() {
    let (mut accounts, mut gaps) = (0, 0);
    for seed in 500..508 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let history = History::random(rng, 40, 1_000);
        let missed = |block: &TrueBlock| block.id.slot.0 % 11 == 3;
        let log = filled_log_of(rng, &history, missed).await;
        let watched = history.blocks.iter().find(|block| {
            block.on_chain && block.accounts > 0 && block.id.slot.0 > 1_015 && !missed(block)
        });
        let watched = account(watched.expect("an account"), 0, 1)
            .account
            .expect("it");
        let mut rig = Rig::new(log, 1 << 30).await;
        let level = random_level(rng);
        let program = bs58::encode([3; 32]).into_string();
        let key = bs58::encode(&watched.pubkey).into_string();
        let commitment = commitment(level);
        let shown = json!({"commitment": commitment, "encoding": "base64", "dataSlice": {"offset": 0, "length": 2}});
        let none = json!({"commitment": commitment, "transactionDetails": "none", "maxSupportedTransactionVersion": 0});
        let mut methods = vec![
            ("account", vec![json!(key), shown.clone()]),
            ("program", vec![json!(program), shown]),
            ("logs", vec![json!("allWithVotes")]),
            ("transaction", vec![json!({}), none.clone()]),
            ("slot", vec![]),
            ("gap", vec![]),
        ];
        if level != Level::Processed {
            methods.push(("block", vec![json!("all"), none]));
        }
        let mut client = WebSocketClient::new(&rig, level, &methods);
        client.subscribe("");
        // An empty cursor means "from now": all must be there before anything is told.
        while subscribers(&rig).await < methods.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut log_ms = 0;
        while !rig.is_done() {
            rig.step(rng).await;
            if rng.random_bool(0.2) {
                log_ms += 500;
                rig.tick(log_ms).await;
            }
            client
                .read(rng.random_range(0..60), Duration::from_millis(2))
                .await;
            match rng.random_range(0..60) {
                0 | 1 => client.reconnect(),
                2 => {
                    rig.restart(1 << 30).await;
                    client.move_to(&rig);
                }
                3 => rig.next_life().await,
                _ => {}
            }
        }
        rig.tick(log_ms).await;
        rig.finish().await;
        while client.read(1_000, QUIET).await {}
        let canonical = rig.canonical().await;
        let mut missing: Vec<String> = canonical
            .gaps
            .iter()
            .map(|gap| gap_value(gap).to_string())
            .collect();
        missing.sort();
        gaps += missing.len();
        for listener in &mut client.listeners {
            let what = format!("{} at {level:?}, seed {seed}", listener.method);
            listener.gaps.sort();
            assert_eq!(listener.gaps, missing, "gaps of {what}");
            listener.got.sort();
            let due = due(listener.method, &canonical, level, &watched.pubkey);
            assert_eq!(listener.got, due, "{what}");
            assert!(listener.method == "gap" || listener.method == "account" || !due.is_empty());
            accounts += usize::from(listener.method == "account" && !due.is_empty());
        }
    }
    assert!(accounts > 0 && gaps > 0);
}

async fn subscribers(rig: &Rig) -> usize {
    let (answer, answered) = oneshot::channel();
    let who = Command::Who(answer);
    rig.commands.send(who).await.expect("an engine");
    answered.await.expect("an answer").len()
}

/// A cursor that the engine cannot use ends the subscription, and nothing else, with a reason; one that goes leaves nothing.
#[tokio::test]
async fn a_cursor_that_cannot_be_used_is_told() {
    let rng = &mut StdRng::seed_from_u64(600);
    let log = filled_log(rng).await;
    let mut rig = Rig::new(log, 1 << 30).await;
    while !rig.is_done() {
        rig.step(rng).await;
    }
    rig.finish().await;
    let level = Level::Confirmed;
    let mut client = WebSocketClient::new(&rig, level, &[("slot", vec![]), ("gap", vec![])]);
    client.listeners[1].cursor = Some(cursor_text(&Cursor::after(level, u64::MAX).encode()));
    client.subscribe("");
    let answers = client.inbox.texts.next().await.expect("answers");
    client.take(&serde_json::from_str(&answers).expect("JSON"));
    let ended: Value =
        serde_json::from_str(&client.inbox.texts.next().await.expect("the end")).expect("JSON");
    assert_eq!(ended["method"], "gapNotification");
    let params = &ended["params"];
    assert_eq!(
        params["subscription"].as_u64(),
        client.listeners[1].subscription
    );
    assert_eq!(params["error"]["code"], -32602);
    let text = params["error"]["message"].as_str().expect("a text");
    assert!(text.contains("not of this stream"), "{text}");
    while subscribers(&rig).await != 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let number = client.listeners[0].subscription;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "slotUnsubscribe", "params": [number]});
    let request = Request::read(&call.to_string());
    client.fanout.command(fanout::Command::Request(0, request));
    let answer: Value =
        serde_json::from_str(&client.inbox.texts.next().await.expect("an answer")).expect("JSON");
    assert_eq!(answer["result"], true);
    while subscribers(&rig).await != 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One that does not read holds its own queue; the engine reads what it missed from the log when it reads on.
#[tokio::test]
async fn one_that_does_not_read_is_not_given_up() {
    let rng = &mut StdRng::seed_from_u64(601);
    let log = filled_log_without(rng, |block| block.id.slot.0 % 9 == 4).await;
    let mut rig = Rig::new(log, 1 << 30).await;
    let level = Level::Processed;
    let mut client = WebSocketClient::new(&rig, level, &[("logs", vec![json!("allWithVotes")])]);
    client.config.queue_items_max = 4;
    client.inbox = connect(&mut client.fanout, client.config, 7);
    client.id = 7;
    client.subscribe("");
    while subscribers(&rig).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while !rig.is_done() {
        rig.step(rng).await;
    }
    rig.tick(0).await;
    rig.finish().await;
    while client.read(1_000, QUIET).await {}
    let canonical = rig.canonical().await;
    let listener = &mut client.listeners[0];
    listener.got.sort();
    assert_eq!(listener.got, due("logs", &canonical, level, &[]));
    assert_eq!(listener.gaps.len(), canonical.gaps.len());
    assert!(
        canonical
            .gaps
            .iter()
            .all(|gap| gap.reason() != GapReason::Unknown)
    );
}

/// Each holds memory of its own, so there are fewer of them than of others.
#[tokio::test]
async fn a_connection_has_so_many_cursors() {
    let rng = &mut StdRng::seed_from_u64(602);
    let log = filled_log(rng).await;
    let rig = Rig::new(log, 1 << 30).await;
    let config = WebSocketConfig {
        cursors_per_connection_max: 1,
        ..WebSocketConfig::default()
    };
    let (mut fanout, mut inbox) = open(&rig, config, 0);
    let mut ask = async |method: &str, params: Value| {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = Request::read(&call.to_string());
        fanout.command(fanout::Command::Request(0, request));
        let answer = inbox.texts.next().await.expect("an answer");
        serde_json::from_str::<Value>(&answer).expect("JSON")
    };
    let cursor = json!([{"cursor": ""}]);
    let first = ask("slotSubscribe", cursor.clone()).await["result"].clone();
    let refused = ask("gapSubscribe", cursor.clone()).await;
    let text = refused["error"]["message"].as_str().expect("refused");
    assert!(text.contains("cursors_per_connection_max"), "{text}");
    assert!(ask("slotSubscribe", json!([])).await["result"].is_u64());
    assert_eq!(ask("slotUnsubscribe", json!([first])).await["result"], true);
    assert!(ask("gapSubscribe", cursor).await["result"].is_u64());
}
