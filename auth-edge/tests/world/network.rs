//! The other side of the edge's HTTP boundary: a Solana RPC node and the sender, answering JSON-RPC on one port.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use solana_hash::Hash;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderMood {
    Accepts,
    Refuses(i64),
    /// HTTP 503 to `sendTransaction` and `getSendStatus`.
    Away,
}

#[derive(Clone, Debug)]
pub struct Handed {
    pub wire: Vec<u8>,
    pub idempotency_key: String,
}

pub struct Inner {
    pub balance: u64,
    pub fee: Value,
    pub simulation_error: Value,
    pub finalized_height: i64,
    pub mood: SenderMood,
    /// By signature, as the sender would keep them.
    pub handed: HashMap<String, Handed>,
    pub send_calls: usize,
    /// What `getSendStatus` answers; anything handed and not listed is `accepted`.
    pub statuses: HashMap<String, Value>,
    blockhashes: u8,
}

#[derive(Clone)]
pub struct Network(Arc<Mutex<Inner>>);

pub const LAST_VALID_HEIGHT: i64 = 1000;

impl Network {
    pub async fn start() -> (Self, String) {
        let network = Self(Arc::new(Mutex::new(Inner {
            balance: 1_000_000_000_000,
            fee: json!(5000),
            simulation_error: Value::Null,
            finalized_height: 1,
            mood: SenderMood::Accepts,
            handed: HashMap::new(),
            send_calls: 0,
            statuses: HashMap::new(),
            blockhashes: 0,
        })));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/", post(answer))
            .with_state(network.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (network, url)
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub fn set_status(&self, signature: &str, status: Value) {
        self.with(|inner| inner.statuses.insert(signature.to_owned(), status));
    }
}

async fn answer(
    State(network): State<Network>,
    Json(request): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    network.with(|inner| {
        let params = &request["params"];
        let result = match request["method"].as_str().unwrap() {
            "getGenesisHash" => json!(Hash::new_from_array([42; 32]).to_string()),
            "getLatestBlockhash" => {
                inner.blockhashes = inner.blockhashes.wrapping_add(1);
                let hash = Hash::new_from_array([inner.blockhashes; 32]);
                json!({"value": {"blockhash": hash.to_string(), "lastValidBlockHeight": LAST_VALID_HEIGHT}})
            }
            "getFeeForMessage" => json!({"value": inner.fee}),
            "getBalance" => json!({"value": inner.balance}),
            "simulateTransaction" => json!({"value": {"err": inner.simulation_error}}),
            "getBlockHeight" => json!(inner.finalized_height),
            "getSignatureStatuses" => json!({"value": [null]}),
            "requestAirdrop" => {
                inner.balance += params[1].as_u64().unwrap();
                json!("airdrop")
            }
            "sendTransaction" | "getSendStatus" if inner.mood == SenderMood::Away => return Err(StatusCode::SERVICE_UNAVAILABLE),
            "sendTransaction" => {
                inner.send_calls += 1;
                if let SenderMood::Refuses(code) = inner.mood {
                    return Ok(Json(json!({"error": {"code": code, "message": "Transaction signature verification failure"}})));
                }
                let wire = STANDARD.decode(params[0].as_str().unwrap()).unwrap();
                let signature = verified_signature(&wire);
                let key = params[1]["idempotencyKey"].as_str().unwrap().to_owned();
                inner.handed.insert(signature.clone(), Handed { wire, idempotency_key: key });
                json!(signature)
            }
            "getSendStatus" => {
                let signature = params[0].as_str().unwrap();
                match inner.statuses.get(signature) {
                    Some(status) => status.clone(),
                    None if inner.handed.contains_key(signature) => json!({"state": "accepted", "attempts": 1}),
                    None => Value::Null,
                }
            }
            method => panic!("the edge called {method}"),
        };
        Ok(Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})))
    })
}

/// Checks the transaction as the real sender does, with code of its own: one signature by the first account of the message.
fn verified_signature(wire: &[u8]) -> String {
    assert_eq!(wire[0], 1, "one signature");
    let (signature, message) = wire[1..].split_at(64);
    assert_eq!(message[0], 0x80, "a v0 message");
    let payer: [u8; 32] = message[5..37].try_into().unwrap();
    VerifyingKey::from_bytes(&payer)
        .unwrap()
        .verify_strict(message, &Signature::from_slice(signature).unwrap())
        .expect("the handed transaction carries a good signature");
    bs58::encode(signature).into_string()
}
