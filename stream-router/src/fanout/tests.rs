//! What a connection holds: its queue, its subscriptions, those with a cursor.

use prometheus::Registry;

use super::*;
use crate::{access::Gate, yellowstone::config::GrpcConfig};

const ID: ConnectionId = 1;

fn connected(config: WebSocketConfig) -> (Fanout, Inbox, Arc<Allowance>) {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let key = Gate::new(&GrpcConfig::default(), &registry)
        .unwrap()
        .anonymous();
    let (outbox, inbox) = queue(&config);
    let allowance = Arc::new(Allowance::new(key, 10));
    let mut fanout = Fanout::new(config, metrics);
    fanout.command(Command::Connect(ID, outbox, Arc::clone(&allowance)));
    (fanout, inbox, allowance)
}

/// Its client was told that there will be nothing more, and may ask anew on the same connection as often as it likes.
#[tokio::test]
async fn a_subscription_that_ended_with_an_error_takes_no_place() {
    let (fanout, mut inbox, allowance) = connected(WebSocketConfig {
        cursors_per_connection_max: 1,
        ..WebSocketConfig::default()
    });
    // Nobody is at the other end: every subscription ends at once.
    let mut fanout = fanout.with_engine(mpsc::channel(1).0);
    for _ in 0..5 {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"slotSubscribe","params":[{"cursor":""}]}"#;
        fanout.command(Command::Request(ID, Request::read(call)));
        let answer = inbox.texts.next().await.unwrap();
        assert!(answer.contains("result"), "{answer}");
        assert_eq!(allowance.subscriptions(), 1);
        let told = inbox.texts.next().await.unwrap();
        assert!(told.contains("error"), "{told}");
    }
}
