//! From a call's path to its service, past those who check whether it may be made at all.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
};
use tonic_health::pb::health_server::SERVICE_NAME as HEALTH;

use super::{
    Door,
    glue::geyser_server::{GeyserServer, SERVICE_NAME as GEYSER},
    status,
};
use crate::access::{Peer, TOKEN};

/// One connection's services.
#[derive(Clone)]
pub struct Switch<H> {
    pub door: Door,
    pub geyser: GeyserServer<Door>,
    /// For everybody who may connect: load balancers have no token.
    pub health: H,
}

impl<H> Switch<H> {
    /// Before anything of a request's body is read.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<Destination, Status> {
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.called();
            if !peer.is_admitted() {
                return Err(Status::resource_exhausted(status::TOO_MANY));
            }
        }
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match service {
            Some((HEALTH, _)) => Ok(Destination::Health),
            Some((GEYSER, _)) => {
                let token = request.headers().get(TOKEN);
                let token = token.map(|token| token.as_bytes());
                let key = self.door.0.gate.caller(token).map_err(|refusal| {
                    self.door.0.metrics.refused(refusal.why);
                    status::refused(refusal)
                })?;
                request.extensions_mut().insert(key);
                Ok(Destination::Geyser)
            }
            _ => Err(Status::unimplemented(
                "there is no such service here; there are geyser.Geyser and grpc.health.v1.Health",
            )),
        }
    }
}

/// Where a call goes.
enum Destination {
    Geyser,
    Health,
}

impl<H> Service<http::Request<Body>> for Switch<H>
where
    H: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    H::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    /// Both are always ready: they are generated so.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match self.admit(&mut request) {
            Ok(Destination::Geyser) => self.geyser.call(request),
            Ok(Destination::Health) => Box::pin(self.health.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}
