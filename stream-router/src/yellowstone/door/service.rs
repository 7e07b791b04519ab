//! The methods of `geyser.Geyser`.

use event_schema::{
    Blockhash,
    proto::geyser::{
        CommitmentLevel, GetBlockHeightRequest, GetBlockHeightResponse, GetLatestBlockhashRequest,
        GetLatestBlockhashResponse, GetSlotRequest, GetSlotResponse, GetVersionRequest,
        GetVersionResponse, IsBlockhashValidRequest, IsBlockhashValidResponse, PingRequest,
        PongResponse, SubscribeDeshredRequest, SubscribeGossipRequest, SubscribeReplayInfoRequest,
        SubscribeReplayInfoResponse, SubscribeUpdateDeshred, SubscribeUpdateGossip,
    },
};
use futures::{StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use super::{Door, codec::Call, glue::geyser_server::Geyser, translate, updates::Updates};
use crate::{
    subscription::Level,
    yellowstone::{outbox::Frame, tips::Tip},
};

/// A stream whose frames are written as another message.
type Translated<T> = stream::Map<Updates, fn(Result<Frame, Status>) -> Result<T, Status>>;

#[tonic::async_trait]
impl Geyser for Door {
    type SubscribeStream = Updates;
    type SubscribeDeshredStream = Translated<SubscribeUpdateDeshred>;
    type SubscribeGossipStream = Translated<SubscribeUpdateGossip>;

    async fn subscribe(
        &self,
        request: Request<Streaming<Call>>,
    ) -> Result<Response<Updates>, Status> {
        let updates = self
            .snapshot(request.metadata())
            .and_then(|snapshot| self.open(request, &self.0.commands, snapshot));
        self.answer("Subscribe", updates)
    }

    async fn subscribe_deshred(
        &self,
        request: Request<Streaming<SubscribeDeshredRequest>>,
    ) -> Result<Response<Self::SubscribeDeshredStream>, Status> {
        let request = request.map(|requests| requests.map(|asked| asked.map(translate::call)));
        let updates = self.open(request, &self.0.beside.deshred, None);
        let updates = updates.map(|updates| updates.map(translate::deshred as fn(_) -> _));
        self.answer("SubscribeDeshred", updates)
    }

    async fn subscribe_gossip(
        &self,
        request: Request<SubscribeGossipRequest>,
    ) -> Result<Response<Self::SubscribeGossipStream>, Status> {
        // There is nothing to ask for but all.
        let request = request.map(|_| stream::iter([Ok(Call::default())]));
        let updates = self.open(request, &self.0.beside.gossip, None);
        let updates = updates.map(|updates| updates.map(translate::gossip as fn(_) -> _));
        self.answer("SubscribeGossip", updates)
    }

    async fn subscribe_replay_info(
        &self,
        _: Request<SubscribeReplayInfoRequest>,
    ) -> Result<Response<SubscribeReplayInfoResponse>, Status> {
        let told = self.0.tips.replay_from().ok_or_else(unknown);
        let response = told.map(|first| SubscribeReplayInfoResponse {
            first_available: first.map(|slot| slot.0),
        });
        self.answer("SubscribeReplayInfo", response)
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        let count = request.into_inner().count;
        self.answer("Ping", Ok(PongResponse { count }))
    }

    async fn get_latest_blockhash(
        &self,
        request: Request<GetLatestBlockhashRequest>,
    ) -> Result<Response<GetLatestBlockhashResponse>, Status> {
        let tip = self.tip(request.into_inner().commitment);
        let response = tip.map(|tip| GetLatestBlockhashResponse {
            slot: tip.slot.0,
            blockhash: tip.blockhash.to_string(),
            last_valid_block_height: tip.last_valid_block_height(),
        });
        self.answer("GetLatestBlockhash", response)
    }

    async fn get_block_height(
        &self,
        request: Request<GetBlockHeightRequest>,
    ) -> Result<Response<GetBlockHeightResponse>, Status> {
        let tip = self.tip(request.into_inner().commitment);
        let response = tip.map(|tip| GetBlockHeightResponse {
            block_height: tip.height,
        });
        self.answer("GetBlockHeight", response)
    }

    async fn get_slot(
        &self,
        request: Request<GetSlotRequest>,
    ) -> Result<Response<GetSlotResponse>, Status> {
        let slot = level(request.into_inner().commitment)
            .and_then(|level| self.0.tips.slot(level).ok_or_else(unknown));
        let response = slot.map(|slot| GetSlotResponse { slot: slot.0 });
        self.answer("GetSlot", response)
    }

    async fn is_blockhash_valid(
        &self,
        request: Request<IsBlockhashValidRequest>,
    ) -> Result<Response<IsBlockhashValidResponse>, Status> {
        let response = self.validity(&request.into_inner());
        self.answer("IsBlockhashValid", response)
    }

    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        let version = self.0.version.clone();
        self.answer("GetVersion", Ok(GetVersionResponse { version }))
    }
}

impl Door {
    fn answer<T>(
        &self,
        method: &'static str,
        response: Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let code = response
            .as_ref()
            .map_or_else(Status::code, |_| tonic::Code::Ok);
        self.0.metrics.answered(method, code);
        response.map(Response::new)
    }

    fn tip(&self, commitment: Option<i32>) -> Result<Tip, Status> {
        self.0.tips.tip(level(commitment)?).ok_or_else(unknown)
    }

    fn validity(
        &self,
        request: &IsBlockhashValidRequest,
    ) -> Result<IsBlockhashValidResponse, Status> {
        let level = level(request.commitment)?;
        let blockhash = blockhash(&request.blockhash)?;
        let known = self.0.tips.is_valid(level, &blockhash);
        let (slot, valid) = known.ok_or_else(unknown)?;
        Ok(IsBlockhashValidResponse {
            slot: slot.0,
            valid,
        })
    }
}

fn blockhash(text: &str) -> Result<Blockhash, Status> {
    let refuse = |problem: &str| {
        let text = format!("`blockhash` {problem}; send a blockhash in base58");
        Status::invalid_argument(text)
    };
    // 32 bytes have at most 44 digits; a status must stay short.
    if text.len() > 44 {
        return Err(refuse("has more than 44 digits"));
    }
    text.parse()
        .map_err(|error| refuse(&format!("{text:?} is none: {error}")))
}

/// Processed unless asked otherwise, as in Yellowstone.
fn level(commitment: Option<i32>) -> Result<Level, Status> {
    let Some(number) = commitment else {
        return Ok(Level::Processed);
    };
    match CommitmentLevel::try_from(number) {
        Ok(CommitmentLevel::Processed) => Ok(Level::Processed),
        Ok(CommitmentLevel::Confirmed) => Ok(Level::Confirmed),
        Ok(CommitmentLevel::Finalized) => Ok(Level::Finalized),
        Err(_) => Err(Status::invalid_argument(format!(
            "`commitment` {number} is none; send 0 (processed), 1 (confirmed) or 2 (finalized)"
        ))),
    }
}

fn unknown() -> Status {
    Status::unavailable("no block is known at this commitment yet; try again in a moment")
}
