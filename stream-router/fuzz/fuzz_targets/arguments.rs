//! Subscriptions as clients write them, right and nearly right: every request is answered, every message is JSON, what was
//! accepted with a cursor can be asked of the engine, and a block can be told to all.

#![no_main]

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use event_schema::proto::{Message, geyser::SubscribeUpdate};
use libfuzzer_sys::{
    arbitrary::{self, Unstructured},
    fuzz_target,
};
use serde_json::{Value, json};
use stream_router::{
    access::Gate,
    commitment::{Change, Standing},
    config::WebSocketConfig,
    fanout::{Allowance, Command, Fanout, queue},
    jsonrpc::Request,
    metrics::Metrics,
    resumption::{shown, wanted},
    router::Effect,
    subscription::{Ask, ask},
    yellowstone::{config::GrpcConfig, filter::Filters},
};
use stream_router_fuzz::{METHODS, block, key, signature};
use tokio::runtime::Runtime;

fuzz_target!(|data: &[u8]| {
    // Bytes that end too early are no case.
    if let Ok(calls) = drawn(&mut Unstructured::new(data)) {
        for (method, params) in &calls {
            resumed(method, params.clone());
        }
        told(&calls);
    }
});

/// What can be accepted can be served.
fn resumed(method: &str, params: Value) {
    let Ok(Ask::Resume(resumption)) = ask(method, params) else {
        return;
    };
    let request = wanted(&resumption.subscription, resumption.level);
    Filters::compile(&request, &Default::default()).expect("a subscription makes good filters");
    for content in block().contents {
        let update = SubscribeUpdate::decode(content.bytes).expect("ours");
        if let Some(text) = shown(&resumption.subscription, update) {
            serde_json::from_str::<Value>(&text).expect("JSON");
        }
    }
}

/// What is the same every time.
struct World {
    runtime: Runtime,
    metrics: Metrics,
    gate: Gate,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let registry = prometheus::Registry::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        World {
            runtime: runtime.expect("a runtime"),
            metrics: Metrics::new(&registry).expect("metrics"),
            gate: Gate::new(&GrpcConfig::default(), &registry).expect("keys"),
        }
    })
}

fn told(calls: &[(String, Value)]) {
    let world = world();
    world.runtime.block_on(async {
        let config = WebSocketConfig::default();
        let mut fanout = Fanout::new(config, world.metrics.clone());
        let allowance = Arc::new(Allowance::new(world.gate.anonymous(), 100));
        let (outbox, mut inbox) = queue(&config);
        fanout.command(Command::Connect(1, outbox, Arc::clone(&allowance)));
        for (id, (method, params)) in (0..).zip(calls) {
            let id: u64 = id;
            let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            fanout.command(Command::Request(1, Request::read(&call.to_string())));
        }
        let block = block();
        let id = block.id;
        fanout.effect(&Effect::Publish(Arc::new(block)));
        for standing in [Standing::Confirmed, Standing::Finalized] {
            fanout.effect(&Effect::Standing(Change {
                block: id,
                standing,
            }));
        }
        fanout.command(Command::Disconnect(1));
        assert_eq!((allowance.subscriptions(), allowance.addresses()), (0, 0));
        drop(fanout);
        let mut answers = 0;
        let longest = Duration::from_secs(5);
        while let Some(text) = tokio::time::timeout(longest, inbox.texts.next())
            .await
            .expect("the end")
        {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            answers += usize::from(message.get("id").is_some());
        }
        assert_eq!(answers, calls.len());
    });
}

const WORDS: [&str; 30] = [
    "",
    "all",
    "allWithVotes",
    "mentions",
    "mentionsAccountOrProgram",
    "commitment",
    "processed",
    "confirmed",
    "finalized",
    "encoding",
    "base58",
    "base64",
    "base64+zstd",
    "jsonParsed",
    "json",
    "binary",
    "transactionDetails",
    "full",
    "accounts",
    "signatures",
    "none",
    "maxSupportedTransactionVersion",
    "cursor",
    "filters",
    "dataSize",
    "memcmp",
    "dataSlice",
    "accountInclude",
    "accountRequired",
    "vote",
];

const FIELDS: [&str; 16] = [
    "offset",
    "length",
    "bytes",
    "encoding",
    "commitment",
    "cursor",
    "filters",
    "memcmp",
    "dataSize",
    "dataSlice",
    "transactionDetails",
    "maxSupportedTransactionVersion",
    "accountExclude",
    "failed",
    "signature",
    "enableReceivedNotification",
];

fn drawn(u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<(String, Value)>> {
    let mut calls = Vec::new();
    for _ in 0..u.int_in_range(1..=4)? {
        let verb = if u.ratio(1, 8)? {
            "Unsubscribe"
        } else {
            "Subscribe"
        };
        let method = format!("{}{verb}", u.choose(&METHODS)?);
        let params = if u.ratio(1, 16)? {
            value(u, 4)?
        } else {
            let mut params = Vec::new();
            for _ in 0..u.int_in_range(0..=2)? {
                params.push(value(u, 4)?);
            }
            params.into()
        };
        calls.push((method, params));
    }
    Ok(calls)
}

fn value(u: &mut Unstructured<'_>, depth: usize) -> arbitrary::Result<Value> {
    Ok(match u.int_in_range(0..=if depth == 0 { 6 } else { 9 })? {
        0 => Value::Null,
        1 => Value::Bool(u.arbitrary()?),
        2 => u.int_in_range(0..=300u64)?.into(),
        3 => u.arbitrary::<i64>()?.into(),
        4 => (*u.choose(&WORDS)?).into(),
        5 => key(*u.choose(&[0, 4, 5, 6, 7, 8, 9, 200])?).into(),
        6 => match u.int_in_range(0..=3)? {
            0 => signature(u.int_in_range(0..=2)?).into(),
            _ => u.arbitrary::<&str>()?.into(),
        },
        7 => {
            let mut values = Vec::new();
            for _ in 0..u.int_in_range(0..=3)? {
                values.push(value(u, depth - 1)?);
            }
            values.into()
        }
        _ => {
            let mut members = serde_json::Map::new();
            for _ in 0..u.int_in_range(0..=4)? {
                let field = if u.arbitrary()? {
                    *u.choose(&FIELDS)?
                } else {
                    *u.choose(&WORDS)?
                };
                members.insert(field.to_owned(), value(u, depth - 1)?);
            }
            members.into()
        }
    })
}
