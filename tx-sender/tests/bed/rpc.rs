//! The answers of a validator that the sender asks for: where it stands, who leads, where they listen.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, routing::post};
use event_schema::Pubkey;
use serde_json::{Value, json};
use tx_sender::schedule::SLOTS_PER_WINDOW;

#[derive(Default)]
pub struct Answers {
    pub slot: u64,
    pub block_height: u64,
    pub finalized_height: u64,
    pub nodes: Vec<([u8; 32], Option<SocketAddr>)>,
    /// By signature: what `getSignatureStatuses` says.
    pub statuses: HashMap<String, Value>,
    pub valid_blockhashes: Vec<String>,
    /// Data of every account asked for.
    pub account_data: Option<Vec<u8>>,
    /// Calls by method.
    pub calls: HashMap<String, usize>,
}

#[derive(Clone)]
pub struct TestRpc {
    pub url: String,
    pub answers: Arc<Mutex<Answers>>,
}

impl TestRpc {
    pub async fn start(nodes: Vec<([u8; 32], Option<SocketAddr>)>) -> Self {
        let answers = Arc::new(Mutex::new(Answers {
            slot: 40,
            nodes,
            ..Answers::default()
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new()
            .route("/", post(answer))
            .with_state(answers.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, answers }
    }

    pub fn set_slot(&self, slot: u64) {
        self.answers.lock().unwrap().slot = slot;
    }

    pub fn set(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    pub fn calls(&self, method: &str) -> usize {
        self.answers
            .lock()
            .unwrap()
            .calls
            .get(method)
            .copied()
            .unwrap_or_default()
    }
}

async fn answer(
    State(answers): State<Arc<Mutex<Answers>>>,
    Json(request): Json<Value>,
) -> Json<Value> {
    let mut answers = answers.lock().unwrap();
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    *answers.calls.entry(method.clone()).or_default() += 1;
    let params = &request["params"];
    let result = match method.as_str() {
        "getSlot" => json!(answers.slot),
        "getBlockHeight" => json!(answers.block_height),
        "getEpochInfo" => {
            let finalized = params[0]["commitment"] == "finalized";
            json!({
                "absoluteSlot": answers.slot,
                "blockHeight": if finalized { answers.finalized_height } else { answers.block_height },
                "slotIndex": answers.slot,
                "slotsInEpoch": 432_000,
                "epoch": 0,
            })
        }
        "getSlotLeaders" => {
            let (first, count) = (params[0].as_u64().unwrap_or(0), params[1].as_u64().unwrap_or(0));
            let leaders: Vec<String> = (first..first + count)
                .map(|slot| {
                    let window = (slot / SLOTS_PER_WINDOW) as usize;
                    Pubkey(answers.nodes[window % answers.nodes.len()].0).to_string()
                })
                .collect();
            json!(leaders)
        }
        "getClusterNodes" => answers
            .nodes
            .iter()
            .map(|(identity, address)| {
                json!({"pubkey": Pubkey(*identity).to_string(), "tpuQuic": address, "tpu": null, "gossip": null})
            })
            .collect(),
        "isBlockhashValid" => {
            let blockhash = params[0].as_str().unwrap_or_default();
            json!({"context": {"slot": 1}, "value": answers.valid_blockhashes.iter().any(|valid| valid == blockhash)})
        }
        "getAccountInfo" => {
            let account = answers.account_data.as_ref().map(|data| {
                let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, data);
                json!({"data": [data, "base64"], "lamports": 1, "owner": Pubkey::default(), "executable": false})
            });
            json!({"context": {"slot": 1}, "value": account})
        }
        "getSignatureStatuses" => {
            let signature = params[0][0].as_str().unwrap_or_default();
            let status = answers.statuses.get(signature).cloned().unwrap_or(Value::Null);
            json!({"context": {"slot": 1}, "value": [status]})
        }
        other => {
            return Json(json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": other}}));
        }
    };
    Json(json!({"jsonrpc": "2.0", "id": 1, "result": result}))
}
