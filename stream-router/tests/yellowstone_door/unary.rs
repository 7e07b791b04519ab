//! Calls with one answer.

use event_schema::{Blockhash, Slot};
use stream_router::subscription::Level;
use tonic::Code;
use yellowstone_grpc_client::GeyserGrpcClientError;

use crate::{raw, rig::Rig};
use event_schema::proto::geyser::CommitmentLevel::{Confirmed, Finalized, Processed};

fn code<T: std::fmt::Debug>(result: Result<T, GeyserGrpcClientError>) -> Code {
    match result.expect_err("a refusal") {
        GeyserGrpcClientError::TonicStatus(status) => status.code(),
        other => panic!("instead of a status: {other}"),
    }
}

#[tokio::test]
async fn nothing_is_made_up_before_something_is_known() {
    let rig = Rig::open().await;
    let mut client = rig.client().await;
    assert_eq!(code(client.get_slot(None).await), Code::Unavailable);
    assert_eq!(code(client.get_block_height(None).await), Code::Unavailable);
    let finalized = client.get_latest_blockhash(Some(Finalized)).await;
    assert_eq!(code(finalized), Code::Unavailable);
    let hash = Blockhash([3; 32]).to_string();
    let valid = client.is_blockhash_valid(hash, None).await;
    assert_eq!(code(valid), Code::Unavailable);
    assert_eq!(
        code(client.subscribe_replay_info().await),
        Code::Unavailable
    );
    // These need no block.
    assert_eq!(client.ping(7).await.unwrap().count, 7);
    client.get_version().await.unwrap();
}

#[tokio::test]
async fn every_commitment_has_its_tip() {
    let rig = Rig::open().await;
    let mut client = rig.client().await;
    let hash = |n| Blockhash([n; 32]);
    rig.tips
        .reached(Level::Finalized, Slot(100), hash(1), Some(90));
    rig.tips
        .reached(Level::Confirmed, Slot(130), hash(2), Some(120));
    rig.tips
        .reached(Level::Processed, Slot(132), hash(3), Some(122));
    for (commitment, slot, height, n) in [
        (None, 132, 122, 3),
        (Some(Processed), 132, 122, 3),
        (Some(Confirmed), 130, 120, 2),
        (Some(Finalized), 100, 90, 1),
    ] {
        assert_eq!(client.get_slot(commitment).await.unwrap().slot, slot);
        let block_height = client.get_block_height(commitment).await.unwrap();
        assert_eq!(block_height.block_height, height);
        let latest = client.get_latest_blockhash(commitment).await.unwrap();
        assert_eq!(latest.slot, slot);
        assert_eq!(latest.blockhash, hash(n).to_string());
        assert_eq!(latest.last_valid_block_height, height + 150);
    }
    assert_eq!(
        rig.metric(
            "router_grpc_requests_total",
            &[("method", "GetSlot"), ("code", "ok")]
        ),
        4.0
    );
}

#[tokio::test]
async fn blockhashes_are_valid_for_150_blocks() {
    let rig = Rig::open().await;
    let mut client = rig.client().await;
    let (old, new) = (Blockhash([1; 32]), Blockhash([2; 32]));
    rig.tips.reached(Level::Processed, Slot(10), old, Some(10));
    rig.tips
        .reached(Level::Processed, Slot(170), new, Some(160));
    let ask = |hash: String| (hash, Some(Processed));
    let mut valid = async |(hash, commitment)| client.is_blockhash_valid(hash, commitment).await;
    let answer = valid(ask(old.to_string())).await.unwrap();
    assert_eq!((answer.slot, answer.valid), (170, true));
    rig.tips
        .reached(Level::Processed, Slot(171), Blockhash([3; 32]), Some(161));
    assert!(!valid(ask(old.to_string())).await.unwrap().valid);
    assert!(valid(ask(new.to_string())).await.unwrap().valid);
    assert!(
        !valid(ask(Blockhash([9; 32]).to_string()))
            .await
            .unwrap()
            .valid
    );
    for bad in ["", "not base58: 0OIl", "abc", &"1".repeat(1_000)] {
        let refused = valid(ask(bad.to_owned())).await;
        assert_eq!(code(refused), Code::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test]
async fn replay_info_says_where_a_replay_may_begin() {
    let rig = Rig::open().await;
    let mut client = rig.client().await;
    for first in [None, Some(Slot(4_000))] {
        rig.tips.first_available(first);
        let info = client.subscribe_replay_info().await.unwrap();
        assert_eq!(info.first_available, first.map(|slot| slot.0));
    }
}

#[tokio::test]
async fn the_version_is_json_as_yellowstone_gives_it() {
    let rig = Rig::open().await;
    let text = rig.client().await.get_version().await.unwrap().version;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let version = json["version"].as_object().unwrap();
    let mut keys: Vec<_> = version.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "buildts", "git", "package", "proto", "rustc", "solana", "version"
        ]
    );
    assert_eq!(version["package"], "stream-router");
    assert_eq!(version["proto"], "12.7.0");
    assert!(version["solana"].as_str().unwrap().starts_with("4."));
    assert!(json["extra"].as_object().unwrap().contains_key("hostname"));
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let rig = Rig::open().await;
    for path in ["/geyser.Geyser/Nonsense", "/somebody.Else/Subscribe", "/"] {
        let nothing = futures::stream::empty();
        let refused = raw::stream(raw::channel(&rig).await, path, None, nothing).await;
        assert_eq!(
            refused.expect_err("a refusal").code(),
            Code::Unimplemented,
            "{path}"
        );
    }
}

#[tokio::test]
async fn health_follows_readiness() {
    const NOT_SERVING: i32 = 2;
    const SERVING: i32 = 1;
    let mut rig = Rig::open().await;
    let mut client = rig.client().await;
    assert_eq!(client.health_check().await.unwrap().status, NOT_SERVING);
    let mut watch = Box::pin(client.health_watch().await.unwrap());
    let mut now = async || {
        let next = futures::StreamExt::next(&mut watch).await;
        next.expect("watching").expect("a status").status
    };
    assert_eq!(now().await, NOT_SERVING);
    rig.door.ready(true);
    assert_eq!(now().await, SERVING);
    rig.door.ready(false);
    assert_eq!(now().await, NOT_SERVING);
    rig.door.ready(true);
    assert_eq!(now().await, SERVING);
    // A drain is not ready, and a watcher does not hold it up for ever.
    rig.drain();
    assert_eq!(now().await, NOT_SERVING);
    let served = tokio::time::timeout(crate::rig::LONG, rig.served).await;
    served
        .expect("the end in time")
        .expect("no panic")
        .expect("no error");
}
