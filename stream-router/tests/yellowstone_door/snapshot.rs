//! The state first, asked for as Yellowstone's own client asks for it.

use std::sync::Arc;

use bytes::Bytes;
use event_log::{EventLog, MemoryLog, NewRecord};
use event_schema::{
    AsOf, Blockhash, CanonicalHeader, Kind, Pubkey, Slot,
    account_state::{AS_OF_KEY, key_of},
    proto::{
        Message,
        geyser::{
            CommitmentLevel, SubscribeRequest, SubscribeUpdate, SubscribeUpdateAccount,
            SubscribeUpdateAccountInfo, subscribe_update::UpdateOneof,
        },
    },
};
use futures::SinkExt;
use stream_router::{
    account_state::{AccountsTopicConfig, Snapshots},
    subscription::Level,
    yellowstone::{cursor::Cursor, engine::Start},
};
use tonic::Code;

use crate::rig::{Rig, accounts, end, next};

const SLOT: u64 = 77;

fn record(kind: Kind, key: Bytes, value: Vec<u8>) -> NewRecord {
    let header = CanonicalHeader {
        kind,
        slot: Slot(SLOT),
        blockhash: Blockhash([1; 32]),
        index: 0,
    };
    NewRecord {
        topic: "t.accounts".into(),
        partition: 0,
        key,
        header: Bytes::copy_from_slice(&header.encode()),
        value: value.into(),
    }
}

fn state(pubkey: [u8; 32]) -> NewRecord {
    let account = SubscribeUpdateAccount {
        slot: SLOT,
        is_startup: false,
        account: Some(SubscribeUpdateAccountInfo {
            pubkey: pubkey.to_vec(),
            lamports: 5,
            owner: vec![3; 32],
            data: vec![9; 20],
            ..SubscribeUpdateAccountInfo::default()
        }),
    };
    let update = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Account(account)),
        ..SubscribeUpdate::default()
    };
    let key = key_of(&Pubkey(pubkey), 0);
    record(Kind::Account, key, update.encode_to_vec())
}

/// The key that `accounts` asks for.
fn asked_for(number: u32) -> [u8; 32] {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key
}

async fn offering(rig: &Rig) {
    let log = MemoryLog::new();
    let config = AccountsTopicConfig {
        enabled: true,
        partitions: 1,
        ..AccountsTopicConfig::default()
    };
    let topics = event_schema::Topics::new("t");
    let specs = [config.spec(&topics, 1)];
    log.ensure_topics(&specs).await.expect("a topic");
    let as_of = AsOf {
        slot: SLOT,
        sequence: 4,
        telling: 1_234,
        ..AsOf::default()
    };
    let end = Bytes::copy_from_slice(&AS_OF_KEY);
    let records = vec![
        state(asked_for(0)),
        state([8; 32]),
        state(asked_for(1)),
        record(Kind::Seal, end, as_of.encode_to_vec()),
    ];
    let writer = log.writer().await.expect("a writer");
    writer.append(records).await.expect("appended");
    let snapshots = Snapshots::new(Arc::new(log), topics.accounts, &config);
    rig.door.offer_snapshots(snapshots);
}

fn request(commitment: CommitmentLevel) -> SubscribeRequest {
    SubscribeRequest {
        commitment: Some(commitment as i32),
        ..accounts(5)
    }
}

#[tokio::test]
async fn the_state_comes_first_and_the_stream_goes_on_from_it() {
    let mut rig = Rig::open().await;
    offering(&rig).await;
    rig.tips
        .reached(Level::Confirmed, Slot(SLOT), Blockhash([1; 32]), Some(70));
    let builder = rig.builder().set_x_request_snapshot(true);
    let mut client = builder.connect().await.expect("connection");
    // It sends an empty request first.
    let (mut requests, mut updates) = client.subscribe().await.expect("a stream");
    requests
        .send(request(CommitmentLevel::Confirmed))
        .await
        .expect("sent");
    let subscriber = rig.connected().await;
    let cursor = Cursor::after(Level::Confirmed, 1_234).encode();
    assert_eq!(
        subscriber.start,
        Start::Cursor(Bytes::copy_from_slice(&cursor))
    );
    let mut keys = Vec::new();
    for _ in 0..2 {
        let update = next(&mut updates).await.expect("an update");
        assert_eq!(update.filters, ["many"]);
        let Some(UpdateOneof::Account(account)) = update.update_oneof else {
            panic!("not an account");
        };
        assert!(account.is_startup);
        keys.push(account.account.expect("an account").pubkey);
    }
    keys.sort();
    assert_eq!(keys, [asked_for(0).to_vec(), asked_for(1).to_vec()]);
    // What comes later on this stream is not a snapshot's.
    requests
        .send(request(CommitmentLevel::Confirmed))
        .await
        .expect("sent");
    let replaced = rig.command().await;
    let now = matches!(
        replaced,
        stream_router::yellowstone::engine::Command::Replace {
            start: Start::Now,
            ..
        }
    );
    assert!(now, "{replaced:?}");
}

#[tokio::test]
async fn one_that_resumes_has_its_state() {
    let mut rig = Rig::open().await;
    offering(&rig).await;
    let builder = rig.builder().set_x_request_snapshot(true);
    let mut client = builder.connect().await.expect("connection");
    let request = SubscribeRequest {
        from_slot: Some(70),
        ..request(CommitmentLevel::Confirmed)
    };
    let subscribed = client.subscribe_with_request(Some(request)).await;
    let _stream = subscribed.expect("a stream");
    assert_eq!(rig.connected().await.start, Start::Slot(Slot(70)));
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_with_the_fix() {
    let rig = Rig::open().await;
    let builder = rig.builder().set_x_request_snapshot(true);
    let mut client = builder.connect().await.expect("connection");
    let asked = request(CommitmentLevel::Confirmed);
    let refused = client.subscribe_once(asked).await.err();
    let text = refused.expect("a refusal").to_string();
    assert!(text.contains("accounts_topic.enabled"), "{text}");

    offering(&rig).await;
    let asked = request(CommitmentLevel::Processed);
    let mut updates = client.subscribe_once(asked).await.expect("a stream");
    let status = end(&mut updates).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("commitment confirmed"),
        "{status}"
    );
}
