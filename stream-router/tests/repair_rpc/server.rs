//! RPC nodes for tests: real HTTP servers whose answers each test writes.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, response::Response, routing::post};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type Answers = dyn Fn(u64, Value, usize) -> Answer + Send + Sync;
/// Keys and options of `getMultipleAccounts`.
type Accounts = dyn Fn(Vec<String>, Value) -> Response + Send + Sync;

/// One node.
pub struct Node {
    pub address: SocketAddr,
    /// Slots it was asked for, with the options of each request.
    pub asked: Arc<Mutex<Vec<(u64, Value)>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<(u64, Value)>>>,
    answers: Arc<Answers>,
    accounts: Arc<Accounts>,
}

impl Node {
    /// `answers`: the slot, the options, and how often this slot was asked for before → the response.
    pub async fn start<F>(answers: impl Fn(u64, Value, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        Self::telling(answers, |_, _| panic!("asked for accounts")).await
    }

    /// It is asked for accounts, too.
    pub async fn telling<F>(
        answers: impl Fn(u64, Value, usize) -> F + Send + Sync + 'static,
        accounts: impl Fn(Vec<String>, Value) -> Response + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let asked = Arc::<Mutex<Vec<(u64, Value)>>>::default();
        let shared = Shared {
            asked: Arc::clone(&asked),
            answers: Arc::new(move |slot, options, before| {
                Box::pin(answers(slot, options, before))
            }),
            accounts: Arc::new(accounts),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new()
            .route("/{key}", post(answer))
            .with_state(shared);
        let task = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        Self {
            address,
            asked,
            task,
        }
    }

    /// With something in the path that nobody may see.
    pub fn url(&self) -> String {
        format!("http://{}/secret-key", self.address)
    }

    /// Ends it; nobody listens at this address then.
    pub async fn task_ended(self) -> String {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
        self.url()
    }

    pub fn slots(&self) -> Vec<u64> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().map(|(slot, _)| *slot).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Shared>, Json(request): Json<Value>) -> Response {
    if request["method"] == "getMultipleAccounts" {
        let keys = request["params"][0].clone();
        let keys: Vec<String> = serde_json::from_value(keys).expect("keys");
        let options = request["params"][1].clone();
        assert_eq!(options["encoding"], "base64");
        assert_eq!(options["commitment"], "finalized");
        return (shared.accounts)(keys, options);
    }
    assert_eq!(request["method"], "getBlock");
    let slot = request["params"][0].as_u64().expect("a slot");
    let options = request["params"][1].clone();
    assert_eq!(options["encoding"], "base64");
    assert_eq!(options["commitment"], "finalized");
    assert_eq!(options["transactionDetails"], "full");
    assert_eq!(options["rewards"], true);
    let before = {
        let mut asked = shared.asked.lock().expect("no panic");
        let before = asked.iter().filter(|(other, _)| *other == slot).count();
        asked.push((slot, options.clone()));
        before
    };
    (shared.answers)(slot, options, before).await
}
