//! The Yellowstone service's glue, and the versions that it reports. No protoc: the messages come from
//! `yellowstone-grpc-proto`; only the routing is generated, so that `Subscribe` can have a codec of its own.

use std::{env, error::Error, fs, process::Command};

use tonic_build::manual::{Builder, Method, MethodBuilder, Service};

const GEYSER: &str = "event_schema::proto::geyser";
const PROST: &str = "tonic_prost::ProstCodec";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    Builder::new().build_client(false).compile(&[geyser()]);
    versions()
}

fn geyser() -> Service {
    let subscribe = Method::builder()
        .name("subscribe")
        .route_name("Subscribe")
        .input_type("crate::yellowstone::door::codec::Call")
        .output_type("crate::yellowstone::outbox::Frame")
        .codec_path("crate::yellowstone::door::codec::SubscribeCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let deshred = message(
        "subscribe_deshred",
        "SubscribeDeshred",
        "SubscribeDeshredRequest",
        "SubscribeUpdateDeshred",
    );
    let gossip = message(
        "subscribe_gossip",
        "SubscribeGossip",
        "SubscribeGossipRequest",
        "SubscribeUpdateGossip",
    );
    let mut service = Service::builder()
        .name("Geyser")
        .package("geyser")
        .method(subscribe)
        .method(deshred.client_streaming().server_streaming().build())
        .method(gossip.server_streaming().build());
    for (name, route, response) in [
        (
            "subscribe_replay_info",
            "SubscribeReplayInfo",
            "SubscribeReplayInfoResponse",
        ),
        ("ping", "Ping", "PongResponse"),
        (
            "get_latest_blockhash",
            "GetLatestBlockhash",
            "GetLatestBlockhashResponse",
        ),
        (
            "get_block_height",
            "GetBlockHeight",
            "GetBlockHeightResponse",
        ),
        ("get_slot", "GetSlot", "GetSlotResponse"),
        (
            "is_blockhash_valid",
            "IsBlockhashValid",
            "IsBlockhashValidResponse",
        ),
        ("get_version", "GetVersion", "GetVersionResponse"),
    ] {
        let request = format!("{route}Request");
        service = service.method(message(name, route, &request, response).build());
    }
    service.build()
}

/// A method whose messages are the published ones.
fn message(name: &str, route: &str, request: &str, response: &str) -> MethodBuilder {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("{GEYSER}::{request}"))
        .output_type(format!("{GEYSER}::{response}"))
        .codec_path(PROST)
}

/// From the lock file, so that what `GetVersion` says cannot differ from what was built.
fn versions() -> Result<(), Box<dyn Error>> {
    let lock = format!("{}/../Cargo.lock", env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed={lock}");
    let text = fs::read_to_string(&lock)?;
    for (variable, package) in [
        ("YELLOWSTONE_PROTO_VERSION", "yellowstone-grpc-proto"),
        ("SOLANA_VERSION", "agave-geyser-plugin-interface"),
    ] {
        let heading = format!("name = \"{package}\"\nversion = \"");
        let version = text
            .split_once(&heading)
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(version, _)| version)
            .ok_or_else(|| format!("Cargo.lock does not name {package}"))?;
        println!("cargo::rustc-env={variable}={version}");
    }
    let rustc = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    let rustc = String::from_utf8(rustc.stdout)?;
    // "rustc 1.95.0 (…)": only the number.
    let number = rustc.split_whitespace().nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=RUSTC_VERSION_NUMBER={number}");
    // A build knows its commit and time only when told, so that equal sources give equal programs.
    for (variable, told) in [
        ("BUILD_COMMIT", "HELIOGRAPH_COMMIT"),
        ("BUILD_TIME", "SOURCE_DATE_EPOCH"),
    ] {
        println!("cargo::rerun-if-env-changed={told}");
        let value = env::var(told).unwrap_or_else(|_| "unknown".to_owned());
        println!("cargo::rustc-env={variable}={value}");
    }
    Ok(())
}
