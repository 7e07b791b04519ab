//! Who may come in, and how much they get.

use std::{io::Write, time::Instant};

use stream_router::yellowstone::{
    config::GrpcConfig,
    engine::{Command, SubscriberView},
    outbox::Pushed,
};
use tonic::{Code, transport::Certificate};
use yellowstone_grpc_client::{ClientTlsConfig, GeyserGrpcClient, GeyserGrpcClientError};

use crate::{
    certificates::{AUTHORITY, CERTIFICATE, KEY},
    rig::{LONG, Rig, accounts, end, frame, slot, slots, token},
};

fn code<T>(result: Result<T, GeyserGrpcClientError>) -> (Code, String) {
    match result.err().expect("a refusal") {
        GeyserGrpcClientError::TonicStatus(status) => (status.code(), status.message().to_owned()),
        other => panic!("instead of a status: {other}"),
    }
}

#[tokio::test]
async fn tokens_open_the_door() {
    let mut rig = Rig::with(|config| {
        config.anonymous.allowed = false;
        config.x_tokens = vec![token("desk", "let me in"), token("other", "sesame")];
    })
    .await;
    for mut client in [rig.client().await, rig.client_with("let me out").await] {
        assert_eq!(code(client.ping(1).await).0, Code::Unauthenticated);
        assert_eq!(code(client.subscribe().await).0, Code::Unauthenticated);
        // Load balancers have no token.
        client.health_check().await.unwrap();
    }
    for reason in ["token_missing", "token_unknown"] {
        assert_eq!(
            rig.metric("router_grpc_refused_total", &[("reason", reason)]),
            2.0
        );
    }
    let mut client = rig.client_with("let me in").await;
    assert_eq!(client.ping(1).await.unwrap().count, 1);
    let mut stream = client.subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    let sent = frame(4, 1_000);
    let bytes = sent.len() as f64 + 5.0;
    assert_eq!(subscriber.outbox.push(sent), Pushed::Queued);
    assert_eq!(slot(&mut stream).await, 4);
    rig.metric_becomes("router_grpc_bytes_sent_total", &[("key", "desk")], bytes)
        .await;
    assert_eq!(
        rig.metric("router_grpc_bytes_sent_total", &[("key", "other")]),
        0.0
    );
}

#[tokio::test]
async fn a_key_has_so_many_streams_filters_and_accounts() {
    let mut rig = Rig::with(|config| {
        let mut desk = token("desk", "let me in");
        desk.connections_max = 2;
        desk.filters_max = 1;
        desk.accounts_max = 10;
        config.x_tokens = vec![desk];
    })
    .await;
    let mut client = rig.client_with("let me in").await;
    let first = client.subscribe_once(slots()).await.unwrap();
    let _second = client.subscribe_once(slots()).await.unwrap();
    let (refused, text) = code(client.subscribe_once(slots()).await);
    assert_eq!(refused, Code::ResourceExhausted);
    assert!(text.contains("desk") && text.contains('2'), "{text}");
    // Others have places of their own, and no such limits.
    let mut anonymous = rig.client().await;
    let _third = anonymous.subscribe_once(accounts(11)).await.unwrap();
    let mut subscribers = Vec::new();
    for _ in 0..3 {
        subscribers.push(rig.connected().await);
    }
    drop(first);
    rig.disconnected().await;
    let mut wide = slots();
    wide.blocks_meta.insert("also".into(), Default::default());
    for (request, text) in [
        (
            accounts(11),
            "the request has 11 accounts; key desk may have 10 on one stream",
        ),
        (
            wide,
            "the request has 2 filters; key desk may have 1 on one stream",
        ),
    ] {
        let mut stream = client.subscribe_once(request).await.unwrap();
        let status = end(&mut stream).await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, text)
        );
        // It was never connected, but it was there.
        rig.disconnected().await;
    }
    let _fourth = client.subscribe_once(accounts(10)).await.unwrap();
    rig.connected().await;
}

#[tokio::test]
async fn a_paced_key_slows_only_itself() {
    const BYTES: usize = 10_000;
    const FRAMES: u64 = 80;
    let mut rig = Rig::with(|config| {
        let mut slow = token("slow", "slow");
        slow.bytes_per_second = 400_000;
        config.x_tokens = vec![slow];
    })
    .await;
    let mut paced = rig
        .client_with("slow")
        .await
        .subscribe_once(slots())
        .await
        .unwrap();
    let paced_outbox = rig.connected().await.outbox;
    let mut free = rig.client().await.subscribe_once(slots()).await.unwrap();
    let free_outbox = rig.connected().await.outbox;
    let begun = Instant::now();
    for n in 0..FRAMES {
        assert_eq!(paced_outbox.push(frame(n, BYTES)), Pushed::Queued);
        assert_eq!(free_outbox.push(frame(n, BYTES)), Pushed::Queued);
    }
    let free_took = async {
        for n in 0..FRAMES {
            assert_eq!(slot(&mut free).await, n);
        }
        begun.elapsed()
    };
    let paced_took = async {
        for n in 0..FRAMES {
            assert_eq!(slot(&mut paced).await, n);
        }
        begun.elapsed()
    };
    let (free_took, paced_took) = tokio::join!(free_took, paced_took);
    // 800 kB at 400 kB/s, of which the first second's worth is free.
    assert!(paced_took.as_millis() >= 900, "{paced_took:?}");
    assert!(free_took < paced_took / 2, "{free_took:?} {paced_took:?}");
}

#[tokio::test]
async fn operators_see_who_is_there() {
    let mut rig = Rig::with(|config| config.x_tokens = vec![token("desk", "let me in")]).await;
    let mut stream = rig
        .client_with("let me in")
        .await
        .subscribe_once(accounts(3))
        .await
        .unwrap();
    let desk = rig.connected().await;
    let _anonymous = rig.client().await.subscribe_once(slots()).await.unwrap();
    let other = rig.connected().await;
    assert_eq!(desk.outbox.push(frame(1, 0)), Pushed::Queued);
    assert_eq!(slot(&mut stream).await, 1);
    rig.metric_becomes("router_grpc_frames_sent_total", &[], 1.0)
        .await;
    let door = rig.door.clone();
    let asked = tokio::spawn(async move { door.who().await });
    let Command::Who(answer) = rig.command().await else {
        panic!("not asked");
    };
    let view = SubscriberView {
        id: desk.id,
        commitment: "processed",
        queued_bytes: 17,
        live: true,
    };
    answer.send(vec![view]).unwrap();
    let visitors = serde_json::to_value(asked.await.unwrap().unwrap()).unwrap();
    assert_eq!(visitors.as_array().unwrap().len(), 2);
    let (first, second) = (&visitors[0], &visitors[1]);
    assert_eq!(
        (&first["key"], &first["filters"], &first["accounts"]),
        (&"desk".into(), &1.into(), &3.into())
    );
    assert_eq!(
        (
            &first["frames_sent"],
            &first["subscription"]["queued_bytes"]
        ),
        (&1.into(), &17.into())
    );
    assert!(first["bytes_sent"].as_u64().unwrap() > 0);
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        (&second["key"], &second["id"]),
        (&"anonymous".into(), &other.id.into())
    );
    assert!(second["subscription"].is_null());
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(text.as_bytes()).expect("write");
    file
}

#[tokio::test]
async fn connections_can_be_tls() {
    let (cert, key) = (file(CERTIFICATE), file(KEY));
    let mut rig = Rig::with(|config| {
        config.tls_cert = Some(cert.path().to_owned());
        config.tls_key = Some(key.path().to_owned());
    })
    .await;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(AUTHORITY))
        .domain_name("localhost");
    let builder = GeyserGrpcClient::build_from_shared(format!("https://{}", rig.address)).unwrap();
    let mut client = builder.tls_config(tls).unwrap().connect().await.unwrap();
    let mut stream = client.subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    assert_eq!(subscriber.outbox.push(frame(6, 0)), Pushed::Queued);
    assert_eq!(slot(&mut stream).await, 6);
    // Those who do not speak it do not come in.
    assert!(match rig.builder().connect().await {
        Err(_) => true,
        Ok(mut client) => client.ping(1).await.is_err(),
    });
}

#[tokio::test]
async fn bad_tls_files_are_named() {
    let (cert, key) = (file(CERTIFICATE), file("not a key"));
    for (cert, key, field) in [
        (cert.path(), key.path(), "grpc.tls_key"),
        (
            cert.path(),
            std::path::Path::new("/nowhere"),
            "grpc.tls_key",
        ),
        (
            std::path::Path::new("/nowhere"),
            key.path(),
            "grpc.tls_cert",
        ),
    ] {
        let change = |config: &mut GrpcConfig| {
            config.tls_cert = Some(cert.to_owned());
            config.tls_key = Some(key.to_owned());
        };
        let rig = Rig::with(change).await;
        let error = rig.served.await.expect("no panic").expect_err("a refusal");
        assert!(error.to_string().contains(field), "{error:#}");
    }
}

/// Before the log is at hand the engine takes nothing; who is connected can be seen all the same.
#[tokio::test]
async fn operators_see_who_is_there_while_the_engine_waits() {
    let mut rig = Rig::open().await;
    let _stream = rig.client().await.subscribe_once(slots()).await.unwrap();
    let subscriber = rig.connected().await;
    let visitors = tokio::time::timeout(LONG, rig.door.who()).await;
    let visitors = visitors.expect("an answer").expect("the engine is there");
    assert_eq!(visitors.len(), 1);
    assert_eq!(visitors[0].id, subscriber.id);
    assert!(visitors[0].subscription.is_none());
}
