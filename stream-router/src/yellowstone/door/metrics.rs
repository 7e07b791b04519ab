//! What the door counts. Names are promises; labels come from closed sets: methods, codes, reasons, and names of keys
//! from the configuration.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};
use tonic::Code;

#[derive(Debug, Clone)]
pub struct DoorMetrics {
    pub connections: IntGauge,
    pub streams: IntGauge,
    pub frames: IntCounter,
    bytes: IntCounterVec,
    ended: IntCounterVec,
    requests: IntCounterVec,
    pings: IntCounterVec,
    refused: IntCounterVec,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client went away or cancelled.
    ClientGone,
    /// The client asked for something impossible.
    Refused,
    Lagged,
    Stalled,
    SlotUnavailable,
    CursorUnusable,
    Failed,
    Shutdown,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Refused => "refused",
            Self::Lagged => "lagged",
            Self::Stalled => "stalled",
            Self::SlotUnavailable => "slot_unavailable",
            Self::CursorUnusable => "cursor_unusable",
            Self::Failed => "failed",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// More connections than `connections_max`: told so.
    Connections,
    /// So many more that they were closed without a word.
    Flood,
    /// A connection without a call.
    Silent,
    TokenMissing,
    TokenUnknown,
    KeyConnections,
    KeyFilters,
    KeyAccounts,
    /// A `Subscribe` without a message.
    NoRequest,
    Request,
    RequestSize,
    Filters,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Flood => "flood",
            Self::Silent => "silent",
            Self::TokenMissing => "token_missing",
            Self::TokenUnknown => "token_unknown",
            Self::KeyConnections => "key_connections",
            Self::KeyFilters => "key_filters",
            Self::KeyAccounts => "key_accounts",
            Self::NoRequest => "no_request",
            Self::Request => "request",
            Self::RequestSize => "request_size",
            Self::Filters => "filters",
        }
    }
}

/// What the door says of itself to keep a stream alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    Ping,
    Pong,
}

impl DoorMetrics {
    pub fn new(registry: &Registry) -> anyhow::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            connections: IntGauge::new("router_grpc_connections", "Open gRPC connections")?,
            streams: IntGauge::new("router_grpc_streams", "Open Subscribe streams")?,
            frames: IntCounter::new(
                "router_grpc_frames_sent_total",
                "Updates handed to the network",
            )?,
            bytes: counters(
                "router_grpc_bytes_sent_total",
                "Bytes of updates handed to the network, before compression, by key",
                &["key"],
            )?,
            ended: counters(
                "router_grpc_streams_ended_total",
                "Subscribe streams that ended, by reason",
                &["reason"],
            )?,
            requests: counters(
                "router_grpc_requests_total",
                "Calls answered, by method and code",
                &["method", "code"],
            )?,
            pings: counters(
                "router_grpc_pings_total",
                "Pings sent and pongs answered on Subscribe streams",
                &["kind"],
            )?,
            refused: counters(
                "router_grpc_refused_total",
                "Connections, calls and requests turned away, by reason",
                &["reason"],
            )?,
        };
        let all: [Box<dyn Collector>; 8] = [
            Box::new(metrics.connections.clone()),
            Box::new(metrics.streams.clone()),
            Box::new(metrics.frames.clone()),
            Box::new(metrics.bytes.clone()),
            Box::new(metrics.ended.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.pings.clone()),
            Box::new(metrics.refused.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    pub fn ended(&self, why: Ended) {
        self.ended.with_label_values(&[why.as_str()]).inc();
    }

    pub fn refused(&self, why: Refused) {
        self.refused.with_label_values(&[why.as_str()]).inc();
    }

    pub fn heartbeat(&self, kind: Heartbeat) {
        let kind = match kind {
            Heartbeat::Ping => "ping",
            Heartbeat::Pong => "pong",
        };
        self.pings.with_label_values(&[kind]).inc();
    }

    /// `method` is one of the service's.
    pub fn answered(&self, method: &'static str, code: Code) {
        self.requests
            .with_label_values(&[method, code_name(code)])
            .inc();
    }

    /// The counter of one key's bytes.
    pub fn bytes_of(&self, key: &str) -> IntCounter {
        self.bytes.with_label_values(&[key])
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::ResourceExhausted => "resource_exhausted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
        _ => "other",
    }
}
