//! What the door counts. Names are promises; labels come from closed sets: methods, codes, reasons, and names of keys
//! from the configuration.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};
use tonic::Code;

use crate::access::{Arrivals, Refused};

#[derive(Debug, Clone)]
pub struct DoorMetrics {
    pub arrivals: Arrivals,
    pub streams: IntGauge,
    pub frames: IntCounter,
    ended: IntCounterVec,
    requests: IntCounterVec,
    pings: IntCounterVec,
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
            arrivals: Arrivals::new("grpc", registry)?,
            streams: IntGauge::new("router_grpc_streams", "Open Subscribe streams")?,
            frames: IntCounter::new(
                "router_grpc_frames_sent_total",
                "Updates handed to the network",
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
        };
        let all: [Box<dyn Collector>; 5] = [
            Box::new(metrics.streams.clone()),
            Box::new(metrics.frames.clone()),
            Box::new(metrics.ended.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.pings.clone()),
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
        self.arrivals.refused(why);
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
